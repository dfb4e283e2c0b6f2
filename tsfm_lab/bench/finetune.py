"""`python -m tsfm_lab.bench finetune`: does fine-tuning help a small pretrained model on real sets? Before and after.

For each set, way of training and seed the same windows are forecast before and after; rows have WQL and MASE as shares
of the seasonal naive forecast's, and how often the result became worse on validation or test, so that saving it is
refused. The sets need TSFM_DATA_MIRROR.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tsfm_lab import paths
from tsfm_lab.bench.tables import Rows, format_rows
from tsfm_lab.bench.timing import describe_machine
from tsfm_lab.data.catalog import load as load_data
from tsfm_lab.data.registry import find
from tsfm_lab.evaluation import FineTuned, finetune
from tsfm_lab.evaluation.evaluate import evaluate_task
from tsfm_lab.evaluation.task import LastWindows, Task, seasons
from tsfm_lab.forecast import SeasonalNaive, load
from tsfm_lab.metrics import metrics_of
from tsfm_lab.runs.files import read_json, write_json
from tsfm_lab.training.adaptors import MODES

SETS = ("ETTh1", "monash_us_births", "national_illness")
PARTS, METRICS = ("validation", "test"), ("wql", "mase")


def naive_scores(name: str, horizon: int, windows: int) -> dict[str, float]:
    """WQL and MASE of the seasonal naive forecast on the test windows."""
    task = Task(
        "finetune", name, horizon, *seasons(name), lambda: LastWindows(load_data(name, repair=True), horizon, windows)
    )
    found = metrics_of(evaluate_task(SeasonalNaive(season=task.season), task).sums)
    return {metric: float(found[metric]) for metric in METRICS}


def tune(name: str, mode: str, seed: int, options: argparse.Namespace) -> FineTuned:
    """One set, one way, one seed."""
    sizes = {"context_length": options.context, "num_samples": options.samples}
    windows = {"val_windows": options.windows, "test_windows": options.windows}
    steps = {"max_steps": options.steps, "val_every": max(options.steps // 15, 1), "batch_size": options.batch_size}
    base, horizon = load(options.model, device="cpu", **sizes), find(name).horizons[0]
    return finetune(base, name, horizon, mode=mode, seed=seed, lr=options.lr, device="cpu", **windows, **steps)


def summarise(name: str, mode: str, found: list[FineTuned], naive: dict[str, float]) -> dict[str, Any]:
    """A row: shares of seasonal naive's on the test windows, mean and standard deviation over the seeds."""
    row: dict[str, Any] = {"set": name, "mode": mode}
    for metric in METRICS:
        scores = np.array([one.scores.loc[("test", metric), ["before", "after"]] for one in found]) / naive[metric]
        row[f"{metric} before"] = round(float(scores[:, 0].mean()), 3)
        row[f"{metric} after"] = round(float(scores[:, 1].mean()), 3)
        row[f"{metric} after sd"] = round(float(scores[:, 1].std()), 3)
    changes = [[one.scores.loc[(part, "wql"), "change"] for one in found] for part in PARTS]
    row |= {f"{part} wql change": round(float(np.mean(change)), 3) for part, change in zip(PARTS, changes, strict=True)}
    return row | {"refused": sum(bool(one.worse()) for one in found), "lr": [one.lr for one in found]}


def compare(options: argparse.Namespace) -> Rows:
    """All sets and ways."""
    rows = []
    for name in options.sets:
        naive = naive_scores(name, find(name).horizons[0], options.windows)
        for mode in MODES:
            rows.append(summarise(name, mode, [tune(name, mode, seed, options) for seed in options.seeds], naive))
            print(rows[-1], flush=True)
    return rows


def main(arguments: list[str] | None = None) -> int:
    """Fine-tune, score, print, write JSON."""
    parser = argparse.ArgumentParser(prog="python -m tsfm_lab.bench finetune", description=__doc__)
    parser.add_argument("sets", nargs="*", default=list(SETS), help=f"of the registry; default {' '.join(SETS)}")
    parser.add_argument("--model", default="moirai-tiny", help="that tsfm_lab.load opens")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--lr", type=float, nargs="+", default=[3e-4], help="several: searched on validation")
    parser.add_argument("--steps", type=int, default=150, help="of the optimiser, at most")
    parser.add_argument("--batch-size", type=int, default=8, help="rows of packed windows")
    parser.add_argument("--context", type=int, default=256, help="steps of history")
    parser.add_argument("--windows", type=int, default=4, help="of validation and of test, each series")
    parser.add_argument("--samples", type=int, default=50, help="draws of a forecast")
    parser.add_argument("--output", type=Path, default=paths.RUNS / "results" / "finetune_cpu.json")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows = compare(options)
    how = {name: value for name, value in vars(options).items() if name not in ("output", "sets", "model")}
    results = read_json(options.output)
    results[Path(options.model).name] = {**describe_machine(), **how, "rows": rows}
    write_json(options.output, results)
    print(format_rows(rows))
    return 0
