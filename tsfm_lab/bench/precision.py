"""On what device, in what precision, eager or compiled a measurement runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Setting:
    """One column of a benchmark: device, precision ("fp32", "tf32", "bf16" by autocast), eager or compiled."""

    device: torch.device
    precision: str = "fp32"
    compiled: bool = False

    @contextmanager
    def active(self) -> Iterator[None]:
        """Float32 matrix products at full precision, or on TF32 units, within the block."""
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("high" if self.precision == "tf32" else "highest")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)

    def autocast(self) -> AbstractContextManager:
        """Autocast to bfloat16 for "bf16"; otherwise without effect."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    @property
    def clock(self) -> Callable[[], float]:
        """Wall clock; on one CPU thread the process's own time, which other work on the machine does not change."""
        alone = self.device.type == "cpu" and torch.get_num_threads() == 1
        return time.process_time if alone else time.perf_counter

    def describe(self) -> dict[str, Any]:
        return {
            "precision": self.precision,
            "mode": "compiled" if self.compiled else "eager",
            "clock": "cpu" if self.clock is time.process_time else "wall",
        }


def settings_of(device: torch.device) -> list[Setting]:
    """fp32 eager on a CPU; on a GPU fp32, TF32 and bf16, eager and compiled."""
    if device.type != "cuda":
        return [Setting(device)]
    return [Setting(device, name, compiled) for compiled in (False, True) for name in ("fp32", "tf32", "bf16")]
