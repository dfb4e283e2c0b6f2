"""`python -m tsfm_lab.bench moirai`: the MOIRAI family and its STU hybrids, against each other and against uni2ts.

uni2ts is measured where it can be imported, in the same process: in an environment of its own, install this package's
dependencies and `pip install --no-deps uni2ts==2.0.0`, and run the command there with PYTHONPATH at the checkout.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tsfm_lab import paths
from tsfm_lab.bench.moirai2 import measure_moirai2
from tsfm_lab.bench.moirai_forecast import measure_forecast
from tsfm_lab.bench.moirai_mixing import measure_mixing
from tsfm_lab.bench.moirai_moe import measure_experts, measure_moe_forecast
from tsfm_lab.bench.moirai_step import count_all, make_modules, measure_memory, measure_steps
from tsfm_lab.bench.precision import Setting, settings_of
from tsfm_lab.bench.tables import Rows, format_rows
from tsfm_lab.bench.timing import describe_machine
from tsfm_lab.runs.files import read_json, write_json

SEGMENTS = (17, 39, 321)  # in 8 rows of 512 tokens: long series, a mix, short ones

# item → ratio → what it must not exceed, on a CPU in float32
BARS = {
    "step": {"baseline/uni2ts": 0.65, "hybrid/baseline": 0.90, "hybrid/uni2ts": 0.58},
    "forecast": {"baseline/uni2ts, fixed": 1 / 10, "baseline/uni2ts, auto": 1 / 12},
    "mixing": {"stu/attention_dense": 0.45, "stu/attention_blocks": 0.65},
    "moe": {"exact/uni2ts": 1 / 1.5, "frozen/uni2ts": 1 / 20},
    "moirai2": {"exact/uni2ts": 1 / 1.25, "frozen/uni2ts": 1 / 4},
}


def run_steps(settings: list[Setting], rounds: int) -> Rows:
    """A training step at 384/6/6, 8 × 512 tokens; long, mixed and short series."""
    modules = make_modules(settings[0].device)
    cases = [(17, (1,)), (39, (1, 2, 4)), (321, (1,))]
    return [measure_steps(modules, *case, setting, rounds) for setting in settings for case in cases]


def run_memory(settings: list[Setting], rounds: int) -> Rows:
    """Parameters of the models, and the peak memory of that step."""
    modules = make_modules(settings[0].device)
    rows = [measure_memory(modules, 39, setting) for setting in settings if not setting.compiled]
    return [{"measure": "parameters", **count_all(modules)}, *rows]


def run_mixing(settings: list[Setting], rounds: int) -> Rows:
    """One layer's mixing along time, forward and backward."""
    return [measure_mixing(n, setting, 3 * rounds) for setting in settings for n in SEGMENTS]


def run_forecasts(settings: list[Setting], rounds: int) -> Rows:
    """Forecasts of 16 series by small models: context 1000, horizon 96, 100 samples."""
    eager = [setting for setting in settings if not setting.compiled]
    return [measure_forecast(size, setting, rounds) for setting in eager for size in (32, 64, "auto")]


def run_moirai2(settings: list[Setting], rounds: int) -> Rows:
    """Forecasts of a small MOIRAI-2 and its hybrid: context 1000; exact, and behind a frozen scale."""
    eager = [setting for setting in settings if not setting.compiled]
    return [measure_moirai2(*case, setting, rounds) for setting in eager for case in ((1, 192), (8, 192), (8, 64))]


def run_moe(settings: list[Setting], rounds: int) -> Rows:
    """Forecasts of a small MOIRAI-MoE and its hybrid: 100 samples, horizon 96; exact, and behind a frozen scale."""
    eager = [setting for setting in settings if not setting.compiled]
    return [measure_moe_forecast(1, setting, rounds) for setting in eager]


def run_experts(settings: list[Setting], rounds: int) -> Rows:
    """32 experts, two a token, against a dense layer of equal active operations."""
    eager = [setting for setting in settings if not setting.compiled]
    return [measure_experts(tokens, setting, 3 * rounds) for setting in eager for tokens in (69, 2208, 8832)]


ITEMS: dict[str, Callable[[list[Setting], int], Rows]] = {
    "step": run_steps,
    "mixing": run_mixing,
    "forecast": run_forecasts,
    "memory": run_memory,
    "moe": run_moe,
    "experts": run_experts,
    "moirai2": run_moirai2,
}


def check_bars(item: str, rows: Rows) -> list[dict[str, Any]]:
    """Each bar of an item beside its worst value over the rows that it applies to (float32, eager)."""
    plain = [row for row in rows if (row.get("precision"), row.get("mode")) == ("fp32", "eager")]
    found = [
        (ratio, bar, max(row[ratio] for row in plain if ratio in row))
        for ratio, bar in BARS.get(item, {}).items()
        if any(ratio in row for row in plain)
    ]
    return [{"ratio": ratio, "worst": worst, "bar": bar, "holds": worst <= bar} for ratio, bar, worst in found]


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, write JSON; 1 when a bar is missed on a CPU."""
    parser = argparse.ArgumentParser(prog="python -m tsfm_lab.bench moirai", description=__doc__)
    parser.add_argument("items", nargs="*", metavar="ITEM", help=f"what to measure: {', '.join(ITEMS)}; default all")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument(
        "--rounds", type=int, default=3, help="timed rounds of each step; mixing takes three times as many"
    )
    parser.add_argument("--output", type=Path, help="JSON file; default runs/results/moirai_<device>.json")
    options = parser.parse_args(arguments)
    if unknown := set(options.items) - set(ITEMS):
        parser.error(f"unknown item {', '.join(sorted(unknown))}; known: {', '.join(ITEMS)}")

    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    output = options.output or paths.RUNS / "results" / f"moirai_{device.type}.json"
    results, missed = read_json(output), False
    for item in options.items or ITEMS:
        rows = ITEMS[item](settings_of(device), options.rounds)
        bars = check_bars(item, rows)
        results[item] = {**describe_machine(device), "rows": rows, "bars": bars}
        write_json(output, results)
        print(f"\n{item}: {ITEMS[item].__doc__}\n{format_rows(rows)}")
        for bar in bars:
            print(f"  {bar['ratio']} {bar['worst']} ≤ {bar['bar']}: {'holds' if bar['holds'] else 'MISSED'}")
        missed |= device.type == "cpu" and not all(bar["holds"] for bar in bars)
    return int(missed)
