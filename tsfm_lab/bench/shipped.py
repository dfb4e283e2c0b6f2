"""`python -m tsfm_lab.bench shipped RUN …`: judge the small checkpoints that ship with the package, and ship them.

RUN are run directories of notebook 04 by `runs/params/04_pretrain_stu.shipped.lab.yaml`. The item `scores` forecasts
held-out real series with every model of every seed, with its twin before training, and with seasonal naive: co2 and
nile, and with TSFM_DATA_MIRROR its held-out Monash sets (MASE) and long-sequence sets (mean absolute error of
standardised values at the first horizon, 96 steps; national_illness 24). The item `ship` stores the weights of
the first seed as bfloat16.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tsfm_lab import paths
from tsfm_lab.bench.forecast import is_at_hand
from tsfm_lab.bench.tables import Rows, format_rows
from tsfm_lab.bench.timing import describe_machine
from tsfm_lab.data.registry import entries
from tsfm_lab.evaluation import Task, evaluate, lsf_tasks, monash_tasks, scores_of
from tsfm_lab.forecast import Forecaster, load, make_forecaster
from tsfm_lab.forecast.opening import PRETRAINING_RECORD, SHIPPED, pretraining_of
from tsfm_lab.models import load_model
from tsfm_lab.models.moirai_hybrid import count_parameters
from tsfm_lab.runs.directory import read_manifest
from tsfm_lab.runs.files import read_json, write_json
from tsfm_lab.training import make_pretraining
from tsfm_lab.training.presets.pretrain_stu import PRETRAIN_STU

NAMES = {
    "moirai": "moirai-tiny",
    "moirai_hybrid": "moirai-hybrid-tiny",
    "moirai_moe": "moirai-moe-tiny",
    "moirai2": "moirai2-tiny",
}
BUILT_IN = ("co2", "nile")
POOLS = ("heldout_monash", "heldout_lsf")
CONTEXT = 512  # steps
NUM_SAMPLES = 300  # of a model that draws, so that its median is not much of a draw itself
OF_EXPERTS = {"scale": "frozen", "num_samples": 100}  # which draw patch after patch: a frozen scale is 20 × as fast
METRIC = {"monash": "mase", "lsf": "mae"}


@dataclass(frozen=True)
class Trained:
    """One model of one seed within a run: its directory and what that records."""

    folder: Path
    config: dict[str, Any]

    @property
    def name(self) -> str:
        """What it ships as."""
        return NAMES[json.loads((self.folder / "model" / "config.json").read_text())["model_type"]]

    @property
    def seed(self) -> int:
        return self.config["seed"]

    def options(self) -> dict[str, Any]:
        """Of the forecaster."""
        special = OF_EXPERTS if self.name == "moirai-moe-tiny" else {}
        return {"context_length": CONTEXT, "num_samples": NUM_SAMPLES, **special}

    def open(self) -> Forecaster:
        """The trained model."""
        return load(self.folder, device="cpu", **self.options())

    def untrained(self) -> Forecaster:
        """The same model before its first step."""
        fields = {
            name: value for name, value in self.config.items() if name in PRETRAIN_STU["smoke"].__dataclass_fields__
        }
        fields = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
        module = make_pretraining(self.config["model"], replace(PRETRAIN_STU["smoke"], **fields), seed=self.seed).module
        forecaster = make_forecaster(module, **self.options())
        forecaster.pretraining = pretraining_of(str(self.folder / "model"))
        return forecaster


def find_trained(runs: list[Path]) -> list[Trained]:
    """The finished models of the runs. Raises ValueError where a directory has none."""
    found = []
    for run in runs:
        children = sorted(path.parent.parent for path in run.glob("*-s[0-9]*/model/model.safetensors"))
        if not children:
            raise ValueError(
                f"{run} holds no trained model; make it with `python -m tsfm_lab.runs launch 04_pretrain_stu "
                "runs/params/04_pretrain_stu.shipped.lab.yaml --local`"
            )
        found += [Trained(child, read_json(child / "config.json")) for child in children]
    twice = [key for key, count in Counter((one.name, one.seed) for one in found).items() if count > 1]
    if twice:
        raise ValueError(f"{twice} are in more than one of the runs {[str(run) for run in runs]}; name each run once")
    return found


def held_out_tasks(series: int, windows: int) -> list[Task]:
    """The tasks whose data are at hand. series: the first ones of a Monash set; windows: of a long-sequence set."""
    pools = {pool: [entry for entry in entries().values() if entry.pool == pool] for pool in POOLS}
    tasks = monash_tasks([*BUILT_IN, *(entry.name for entry in pools["heldout_monash"])], series)
    for entry in pools["heldout_lsf"]:
        tasks += lsf_tasks([entry.name], entry.horizons[:1], windows)
    return [task for task in tasks if is_at_hand(task)]


def judge(trained: list[Trained], options: argparse.Namespace) -> Rows:
    """A row a task: seasonal naive, and each model, its mean and spread over the seeds, and untrained."""
    tasks = held_out_tasks(options.series, options.windows)
    naive = _scores({"seasonal_naive": load("seasonal_naive")}, tasks, options.folder, 0)["seasonal_naive"]
    found: dict[tuple[str, str], list[Mapping[str, float]]] = {}
    for one in trained:
        models = {one.name: one.open(), f"{one.name} untrained": one.untrained()}
        for name, scores in _scores(models, tasks, options.folder, one.seed).items():
            found.setdefault((one.name, name), []).append(scores)
    rows = []
    for task in tasks:
        row: dict[str, Any] = {"set": task.data, "metric": METRIC[task.benchmark], "seasonal_naive": naive[task.data]}
        for (_, name), seeds in found.items():
            values = [scores[task.data] for scores in seeds]
            row[name] = float(np.mean(values))
            if not name.endswith("untrained"):
                row[f"{name} sd"] = float(np.std(values))
        rows.append({key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()})
    return rows


def _scores(
    models: Mapping[str, Forecaster], tasks: list[Task], folder: Path, seed: int
) -> dict[str, dict[str, float]]:
    """Score of each model on each set; what `folder` holds of this seed already is not done again."""
    results = evaluate(models, tasks, folder, seed=seed)
    counts = results.counts()
    failed = counts[counts["model"].isin(models) & (counts["seed"] == seed) & (counts["status"] != "finished")]
    if len(failed):
        what = failed[["model", "data", "error"]].to_string(index=False)
        raise RuntimeError(f"not every task could be scored, and a mean over the others would mislead:\n{what}")
    table = results.table()
    table = table[(table["seed"] == seed) & table["model"].isin(models)]
    scores: dict[str, dict[str, float]] = {name: {} for name in models}
    for benchmark, metric in METRIC.items():
        part = table[table["benchmark"] == benchmark]
        if len(part):
            for (_, data, _), row in scores_of(part, metric).iterrows():
                for name in models:
                    scores[name][data] = float(row[name])
    return scores


def summarise(rows: Rows) -> Rows:
    """A row a model: sets on which its mean over the seeds is better, geometric mean of the ratio to seasonal naive."""
    out = []
    for name in (key for key in rows[0] if f"{key} untrained" in rows[0]):
        ratio = np.array([row[name] / row["seasonal_naive"] for row in rows])
        untrained = np.array([row[name] / row[f"{name} untrained"] for row in rows])
        row: dict[str, Any] = {"model": name, "sets": len(rows), "better than seasonal naive": int((ratio < 1).sum())}
        row |= {"better than untrained": int((untrained < 1).sum())}
        out.append(row | {"/ seasonal naive": round(float(np.exp(np.log(ratio).mean())), 3)})
    return out


def ship(trained: list[Trained], target: Path) -> Rows:
    """Store the first seed of each model as bfloat16 in `target`/<name>, with what it was trained on and when."""
    rows = []
    first: dict[str, Trained] = {}
    for one in sorted(trained, key=lambda one: one.seed):
        first.setdefault(one.name, one)
    for name, one in first.items():
        module = load_model(one.folder / "model").to(torch.bfloat16)
        module.save_pretrained(target / name)
        attempt = read_manifest(one.folder)["attempts"][-1]
        record = {**one.config, **{key: attempt[key] for key in ("end", "device", "commit", "versions")}}
        write_json(target / name / PRETRAINING_RECORD, record)
        (target / name / "README.md").write_text(_card(name, record, count_parameters(module)))
        size = (target / name / "model.safetensors").stat().st_size / 1e6
        rows.append({"name": name, "seed": one.seed, "parameters": count_parameters(module), "MB": round(size, 2)})
    return rows


def _card(name: str, record: dict[str, Any], parameters: int) -> str:
    """The model card."""
    return f"""---
license: apache-2.0
---
# {name}

{parameters:,} parameters, bfloat16; `tsfm_lab.load("{name}")` opens it. Pretrained by notebook 04,
`runs/params/04_pretrain_stu.shipped.lab.yaml`: {record["max_steps"]:,} steps of {record["batch_rows"]} rows of
{record["max_seq_len"]} tokens, seed {record["seed"]}, on {", ".join(record["data"])}.
It shows how such a model works, offline; it is no foundation model. How it forecasts held-out real series stands in
the README of the project and in `runs/results/shipped_cpu.json`.
"""


def _judge_and_count(trained: list[Trained], options: argparse.Namespace) -> Iterator[tuple[str, Rows]]:
    rows = judge(trained, options)
    yield "scores", rows
    yield "summary", summarise(rows)


ITEMS: dict[str, Callable[[list[Trained], argparse.Namespace], Iterator[tuple[str, Rows]]]] = {
    "scores": _judge_and_count,
    "ship": lambda trained, options: iter([("shipped", ship(trained, options.target))]),
}


def main(arguments: list[str] | None = None) -> int:
    """Judge, ship, print, write JSON."""
    parser = argparse.ArgumentParser(prog="python -m tsfm_lab.bench shipped", description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="run directories with the trained models")
    parser.add_argument("--items", nargs="+", choices=list(ITEMS), default=list(ITEMS))
    parser.add_argument("--series", type=int, default=100, help="of each Monash set, the first ones")
    parser.add_argument("--windows", type=int, default=20, help="of each long-sequence set, evenly spaced")
    parser.add_argument("--folder", type=Path, help="of the scores of every window; default: in the first run")
    parser.add_argument("--target", type=Path, default=SHIPPED, help="where shipped checkpoints lie")
    parser.add_argument("--output", type=Path, default=paths.RUNS / "results" / "shipped_cpu.json")
    options = parser.parse_args(arguments)
    options.folder = options.folder or options.runs[0] / f"held_out-{options.series}-{options.windows}"
    torch.set_num_threads(1)
    trained = find_trained(options.runs)
    results = read_json(options.output)
    how = {
        "seeds": sorted({one.seed for one in trained}),
        "series": options.series,
        "windows": options.windows,
        "forecasters": {one.name: one.options() for one in trained},
    }
    for item in options.items:
        for name, rows in ITEMS[item](trained, options):
            results[name] = {**describe_machine(), **how, "rows": rows}
            write_json(options.output, results)
            print(f"\n{name}\n{format_rows(rows)}")
    return 0
