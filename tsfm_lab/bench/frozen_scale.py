"""`python -m tsfm_lab.bench frozen_scale`: what a frozen scale costs in accuracy, on held-out real data.

Trains a small decoder (or opens the one trained before), forecasts the last windows of held-out sets exactly and with
the context's scale frozen, and compares the scores. Data sets that are no built-in ones need TSFM_DATA_MIRROR.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from tsfm_lab import paths
from tsfm_lab.bench.tables import format_rows
from tsfm_lab.bench.timing import describe_machine
from tsfm_lab.evaluation import HeldOutSet, open_held_out
from tsfm_lab.forecast import make_forecaster
from tsfm_lab.forecast.forecaster import LEVELS
from tsfm_lab.runs import open_run
from tsfm_lab.runs.files import read_json, write_json
from tsfm_lab.training import make_mixture, train
from tsfm_lab.training.presets.pretrain_stu import PRETRAIN_STU

HORIZONS = (96, 192, 336, 720)  # steps; a pass of MOIRAI-2 foresees 64
CONFIG = replace(
    PRETRAIN_STU["smoke"],
    data=("synthetic", "smoke_pretrain"),
    synthetic_series=400,
    synthetic_length=1024,
    d_model=128,
    num_layers=4,
    patch_sizes=(16,),
    max_seq_len=128,
    max_steps=600,
    seeds=(0, 1, 2),
    device="cpu",
)
CONTEXT = 512  # steps


def train_model(spec: str, steps: int, seed: int) -> nn.Module:
    """A model of the experiment trained for some minutes on synthetic and real series, none of them held out."""
    config = replace(CONFIG, models=(spec,), max_steps=steps, held_out=("ETTh1", "weather"))
    run = open_run("frozen_scale", config)
    return train(spec, config, run, make_mixture(config), seed=seed).module.eval()


def compare_scales(module: nn.Module, held_out: HeldOutSet) -> dict[str, Any]:
    """WQL and MASE of both forecasts of a set, and their distance as a share of the exact forecast's 80 % interval."""
    quantiles = {}
    row: dict[str, Any] = {"set": held_out.name, "horizon": held_out.horizon, "windows": len(held_out.labels)}
    for scale in ("exact", "frozen"):
        forecaster = make_forecaster(module, context_length=CONTEXT, scale=scale)

        def forecast(histories: list[np.ndarray], horizon: int, scale=scale, forecaster=forecaster) -> Any:
            found = forecaster.forecast(histories, horizon, LEVELS, batch_size=8)
            quantiles[scale] = found.quantiles
            return found

        row |= {f"{name} {scale}": round(value, 4) for name, value in held_out.score(forecast).items()}
    row["wql naive"] = round(held_out.naive_score()["wql"], 4)
    width = quantiles["exact"][:, -1] - quantiles["exact"][:, 0]
    distance = np.abs(quantiles["frozen"] - quantiles["exact"]).mean(1)
    row["distance/interval"] = round(float(distance.mean() / width.mean()), 4)
    return row | {
        f"{name} frozen/exact": round(row[f"{name} frozen"] / row[f"{name} exact"], 4) for name in ("wql", "mase")
    }


def main(arguments: list[str] | None = None) -> int:
    """Train, score, print, write JSON."""
    parser = argparse.ArgumentParser(prog="python -m tsfm_lab.bench frozen_scale", description=__doc__)
    parser.add_argument("models", nargs="*", default=["moirai2", "moirai2_hybrid"], help="as in notebook 04's MODELS")
    parser.add_argument("--steps", type=int, default=CONFIG.max_steps, help="of training")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=CONFIG.seeds, help="of weights and batches; others' rows stay"
    )
    parser.add_argument("--sets", nargs="+", default=["ETTh1", "weather"], help="held-out sets of the registry")
    parser.add_argument("--series", type=int, default=7, help="of each set")
    parser.add_argument("--windows", type=int, default=4, help="last windows of each series")
    parser.add_argument("--output", type=Path, default=paths.RUNS / "results" / "frozen_scale_cpu.json")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    sets = [
        open_held_out(name, num_series=options.series, num_windows=options.windows, horizon=horizon)
        for name in options.sets
        for horizon in HORIZONS
    ]
    results = read_json(options.output)
    for spec in options.models:
        rows = [row for row in results.get(spec, {}).get("rows", []) if row["seed"] not in options.seeds]
        for seed in options.seeds:
            module = train_model(spec, options.steps, seed)
            rows += [{"seed": seed, **compare_scales(module, held_out)} for held_out in sets]
        results[spec] = {**describe_machine(), "steps": options.steps, "context": CONTEXT, "rows": rows}
        write_json(options.output, results)
        print(f"\n{spec}\n{format_rows(rows)}")
    return 0
