"""`python -m tsfm_lab.bench ministu`: MiniSTU's backends, against each other and against a published mini_stu.

The peer is measured in the same process, turn by turn, where `--peer DIR` names its checkout. Everything in float32, 24
filters, gradients of weights and input.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tsfm_lab import paths
from tsfm_lab.bench.ministu_filters import measure_filters
from tsfm_lab.bench.ministu_layer import measure_decoding, measure_layer, measure_memory
from tsfm_lab.bench.tables import Rows, format_rows
from tsfm_lab.bench.timing import describe_machine
from tsfm_lab.runs.files import read_json, write_json

# (length, channels, batch) → how many times faster than the peer's spectral backend on a CPU, where that is promised
SIZES = {
    (128, 64, 8): None,
    (512, 64, 8): 25,
    (1024, 64, 8): 25,
    (4096, 64, 2): 12,
    (512, 384, 4): 8,
    (1024, 384, 2): 8,
    (4096, 384, 1): 8,
}
LDS_BAR = 5  # how many times faster than the peer's lds backend, at every size
MEMORY_BAR = 0.25  # of the peer's spectral backend
FILTER_BARS = {"seconds": 3.0, "peak_mib": 1024, "error": 1e-8}


def run_layer(peer: Path | None, device: torch.device, rounds: int) -> Rows:
    """Forward and backward of one layer; a/b: how many times faster a is than b."""
    rows = []
    for size in SIZES:
        rows.append(measure_layer(*size, peer, device, rounds))
        print(format_rows(rows[-1:]), file=sys.stderr, flush=True)  # the whole takes minutes
    return rows


def run_memory(peer: Path | None, device: torch.device, rounds: int) -> Rows:
    """Peak memory of that pass, MiB; a/b: a's share of b's."""
    return [measure_memory(4096, 64, 2, peer, device)]


def run_decoding(peer: Path | None, device: torch.device, rounds: int) -> Rows:
    """One token: by a step of the state, and by running the sequence again."""
    return [measure_decoding(length, device, rounds) for length in (512, 1024, 4096, 8192)]


def run_filters(peer: Path | None, device: torch.device, rounds: int) -> Rows:
    """The spectral filters, computed afresh."""
    return [measure_filters(length, rounds) for length in (512, 2048, 8192)]


ITEMS: dict[str, Callable[[Path | None, torch.device, int], Rows]] = {
    "layer": run_layer,
    "memory": run_memory,
    "decoding": run_decoding,
    "filters": run_filters,
}


def check_bars(item: str, rows: Rows) -> list[dict[str, Any]]:
    """What was to be reached, beside what was."""
    bars: list[tuple[str, float, str, float]] = []
    for row in rows:
        if item == "layer" and "auto/peer_lds" in row:
            size = (row["length"], row["channels"], row["batch"])
            if SIZES[size] is not None:
                bars.append((f"auto/peer_spectral at {size}", row["auto/peer_spectral"], ">=", SIZES[size]))
            bars.append((f"auto/peer_lds at {size}", row["auto/peer_lds"], ">=", LDS_BAR))
        elif item == "memory" and "auto/peer_spectral" in row:
            bars.append(("auto/peer_spectral", row["auto/peer_spectral"], "<=", MEMORY_BAR))
        elif item == "filters":
            bars += [(f"{name} at {row['length']}", row[name], "<=", bar) for name, bar in FILTER_BARS.items()]
    return [
        {"of": of, "found": found, "bar": f"{sign} {bar}", "holds": found >= bar if sign == ">=" else found <= bar}
        for of, found, sign, bar in bars
        if found is not None
    ]


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, write JSON; 1 when a bar is missed on a CPU."""
    parser = argparse.ArgumentParser(prog="python -m tsfm_lab.bench ministu", description=__doc__)
    parser.add_argument("items", nargs="*", metavar="ITEM", help=f"what to measure: {', '.join(ITEMS)}; default all")
    parser.add_argument("--peer", type=Path, metavar="DIR", help="checkout of a published mini_stu")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads; default torch's own")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds")
    parser.add_argument("--output", type=Path, help="JSON file; default runs/results/ministu_<device>.json")
    options = parser.parse_args(arguments)
    if unknown := set(options.items) - set(ITEMS):
        parser.error(f"unknown item {', '.join(sorted(unknown))}; known: {', '.join(ITEMS)}")

    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    output = options.output or paths.RUNS / "results" / f"ministu_{device.type}.json"
    results, missed = read_json(output), False
    for item in options.items or ITEMS:
        rows = ITEMS[item](options.peer, device, options.rounds)
        bars = check_bars(item, rows)
        results[item] = {**describe_machine(device), "dtype": "float32", "rows": rows, "bars": bars}
        write_json(output, results)
        print(f"\n{item}: {ITEMS[item].__doc__}\n{format_rows(rows)}", flush=True)
        for bar in bars:
            print(f"  {bar['of']}: {bar['found']} {bar['bar']}: {'holds' if bar['holds'] else 'MISSED'}")
        missed |= device.type == "cpu" and not all(bar["holds"] for bar in bars)
    return int(missed)
