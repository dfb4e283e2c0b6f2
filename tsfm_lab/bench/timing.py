"""Time and memory of calls that compete: in one process, turn by turn, median and spread."""

from __future__ import annotations

import ctypes
import gc
import platform
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch

from tsfm_lab.runs.directory import git_commit, utc_now, versions


@dataclass(frozen=True)
class Timing:
    """Seconds of one call, one per round."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return median(self.seconds)

    def summary(self) -> dict[str, float]:
        """Median and quartiles, in milliseconds."""
        low, middle, high = quantiles(self.seconds, n=4)
        return {"ms": round(1e3 * middle, 3), "low_ms": round(1e3 * low, 3), "high_ms": round(1e3 * high, 3)}

    def relative_to(self, other: Timing) -> float:
        """Median over the rounds of this call's time divided by the other's in the same round.

        What else the machine does slows both calls of a round, so that the ratio moves less than either time.
        """
        return median(a / b for a, b in zip(self.seconds, other.seconds, strict=True))


def time_in_turns(
    calls: Mapping[str, Callable[[], Any]],
    rounds: int = 7,
    warmup: int = 2,
    device: torch.device | str = "cpu",
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Timing]:
    """Time every call once per round, after `warmup` untimed rounds; a GPU is waited for.

    clock: wall-clock seconds; `time.process_time` where one CPU thread does all the work and shares the machine.
    """
    wait = torch.cuda.synchronize if torch.device(device).type == "cuda" else lambda: None
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(warmup + rounds):
        for name, call in calls.items():
            wait()
            start = clock()
            call()
            wait()
            if turn >= warmup:
                seconds[name].append(clock() - start)
    return {name: Timing(tuple(values)) for name, values in seconds.items()}


def peak_memory(call: Callable[[], Any], device: torch.device | str = "cpu") -> float | None:
    """Largest memory in use during `call` above that before it, in MiB.

    On a GPU, of tensors. On a CPU, resident memory of the process (Linux; None elsewhere), after a first call has
    made what stays.
    """
    call()
    gc.collect()
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    if platform.system() != "Linux":
        return None
    ctypes.CDLL(None).malloc_trim(0)  # glibc keeps freed memory, which would hide that it is needed again
    Path("/proc/self/clear_refs").write_text("5")  # the kernel's peak starts anew
    before = _resident_mib("VmRSS")
    call()
    return _resident_mib("VmHWM") - before


def _resident_mib(field: str) -> float:
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{field}:\s+(\d+) kB", status).group(1)) / 1024


def describe_machine(device: torch.device | str = "cpu") -> dict[str, Any]:
    """Device, date, commit, versions and threads: what a stored measurement is worth nothing without."""
    on_gpu = torch.device(device).type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if on_gpu else _cpu_name(),
        "threads": torch.get_num_threads(),
        "date": utc_now(),
        "commit": git_commit(),
        "versions": versions(),
    }


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else None
    return found.group(1).strip() if found else platform.processor() or platform.machine()
