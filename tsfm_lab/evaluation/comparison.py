"""Comparison of the models of one run: read from the run directories alone, so that it works on any finished run."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from tsfm_lab.runs import atomic_write
from tsfm_lab.runs.directory import global_rank, read_manifest

if TYPE_CHECKING:
    import pandas


def read_metrics(run: Path) -> "pandas.DataFrame":
    """metrics.csv of every child of a run, one below the other, with columns model and seed in front."""
    import pandas as pd

    frames = []
    for child, config in _children(run):
        frame = pd.read_csv(child / "metrics.csv")
        frame.insert(0, "model", config["model"])
        frame.insert(1, "seed", config["seed"])
        frames.append(frame)
    if not frames:
        raise FileNotFoundError(f"{run} has no child with metrics.csv and config.json")
    return pd.concat(frames, ignore_index=True)


def table_of_runs(run: Path, steps_per_epoch: int) -> "pandas.DataFrame":
    """One row a trained model: job id, start, end, status, steps, parameters, speed, time of an epoch.

    steps_per_s: median over the run's steps. epoch_s: seconds that `steps_per_epoch` steps take at that speed.
    """
    import pandas as pd

    rows = []
    for child, config in _children(run):
        metrics = pd.read_csv(child / "metrics.csv")
        attempts = read_manifest(child)["attempts"]
        speed = metrics["steps_per_s"].median()
        rows.append(
            {
                "model": config["model"],
                "seed": config["seed"],
                "parameters": config["parameters"],
                "job_id": attempts[-1]["job_id"],
                "start": attempts[0]["start"],
                "end": attempts[-1]["end"],
                "status": attempts[-1]["status"],
                "attempts": len(attempts),
                "steps": int(metrics["step"].max()),
                "steps_per_s": speed,
                "epoch_s": steps_per_epoch / speed,
            }
        )
    return pd.DataFrame(rows)


def at_equal_steps(metrics: "pandas.DataFrame", columns: list[str], smooth: int = 20) -> "pandas.DataFrame":
    """The last values of each model and seed up to the last step that all have reached.

    columns: of the metrics; loss is the mean of its last `smooth` steps. Returns model, seed, step, time_s and columns.
    """
    last = metrics.groupby(["model", "seed"])["step"].max().min()
    return _last_values(metrics[metrics["step"] <= last], columns, smooth)


def at_equal_time(metrics: "pandas.DataFrame", columns: list[str], smooth: int = 20) -> "pandas.DataFrame":
    """As `at_equal_steps`, up to the training time that all models of a seed have reached."""
    import pandas as pd

    parts = []
    for _, group in metrics.groupby("seed"):
        time_s = group.groupby("model")["time_s"].max().min()
        parts.append(_last_values(group[~(group["time_s"] > time_s)], columns, smooth))
    return pd.concat(parts, ignore_index=True)


def save_table(table: "pandas.DataFrame", path: Path) -> None:
    """Write a table as CSV, whole or not at all; of several ranks only rank 0 does."""
    if global_rank() == 0:
        with atomic_write(path) as file:
            table.to_csv(file, index=False)


def _last_values(metrics: "pandas.DataFrame", columns: list[str], smooth: int) -> "pandas.DataFrame":
    import pandas as pd

    rows = []
    for (model, seed), group in metrics.groupby(["model", "seed"], sort=False):
        values = {"model": model, "seed": seed, "step": group["step"].iloc[-1], "time_s": group["time_s"].iloc[-1]}
        for column in columns:
            known = group[column].dropna()
            values[column] = known.tail(smooth).mean() if column == "loss" else known.iloc[-1]
        rows.append(values)
    return pd.DataFrame(rows)


def _children(run: Path) -> list[tuple[Path, dict]]:
    """Directories of the trained models of a run with their configurations, in the order in which they were started."""
    found = [path.parent for path in Path(run).glob("*/metrics.csv") if (path.parent / "config.json").exists()]
    found.sort(key=lambda path: (read_manifest(path)["attempts"][0]["start"], path.name))
    return [(path, json.loads((path / "config.json").read_text())) for path in found]
