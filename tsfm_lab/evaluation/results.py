"""A folder of results, one file for each model, seed and task, and the tidy table that they make."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tsfm_lab.evaluation.task import Task
from tsfm_lab.metrics import counts_of, metrics_of
from tsfm_lab.metrics.sums import Sums
from tsfm_lab.runs import atomic_write, write_json
from tsfm_lab.runs.files import read_json

if TYPE_CHECKING:
    import pandas

    from tsfm_lab.evaluation.evaluate import Evaluation

SHIFT = 1.0  # standard deviations by which the level of a "shifted" window has moved
COLUMNS = ("run", "model", "benchmark", "data", "horizon", "seed", "domain", "slice", "windows", "metric", "value")


class Results:
    """What has been scored so far, in `folder`/<benchmark>/<model>-s<seed>/<task>.json and .npz.

    The .npz holds the sums of every window, for slices and for tests of one model against another.
    """

    def __init__(self, folder: Path):
        self.folder = Path(folder)

    def has(self, model: str, seed: int, task: Task) -> bool:
        """Whether this is done: a failure is not."""
        return read_json(self._path(model, seed, task)).get("status") == "finished"

    def add(self, model: str, seed: int, task: Task, found: "Evaluation", *, mark: str, run: str = "") -> None:
        """Store what a task came to; the .json, written last, says that it is complete."""
        path = self._path(model, seed, task)
        with atomic_write(path.with_suffix(".npz"), "wb") as file:
            np.savez_compressed(file, item=found.item, shift=found.shift, **found.sums)
        record = {
            **self._identity(model, seed, task, run),
            "status": "finished",
            "domain": mark,
            "counts": {**counts_of(found.sums), "left_out": found.left_out},
            "replaced": found.replaced,
            "seconds": round(found.seconds, 3),
            "slices": slices(found.sums, found.shift, by_series=task.benchmark == "monash"),
        }
        write_json(path, record)

    def add_failure(self, model: str, seed: int, task: Task, error: Exception, run: str = "") -> None:
        """Store that a task failed, and why."""
        text = f"{type(error).__name__}: {error}"
        write_json(
            self._path(model, seed, task),
            {**self._identity(model, seed, task, run), "status": "failed", "error": text},
        )

    def records(self) -> list[dict[str, Any]]:
        """All records, finished and failed."""
        return [json.loads(path.read_text()) for path in sorted(self.folder.glob("*/*/*.json"))]

    def table(self) -> "pandas.DataFrame":
        """The tidy table: run, model, benchmark, data, horizon, seed, domain, slice, windows, metric, value.

        domain: "held out", "in domain" or "unknown". slice: "all", or "shifted" and "steady" by whether the level of a
        window has moved by more than a standard deviation, see `level_shift`.
        """
        import pandas as pd

        rows = [
            [*(record[key] for key in COLUMNS[:7]), name, values["windows"], metric, values[metric]]
            for record in self.records()
            if record["status"] == "finished"
            for name, values in record["slices"].items()
            for metric in values
            if metric != "windows"
        ]
        return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"value": float})

    def counts(self) -> "pandas.DataFrame":
        """What was scored, left out and replaced, a row for each model, seed and task; the error of a failed one."""
        import pandas as pd

        rows = []
        for record in self.records():
            row = {key: record[key] for key in ("model", "benchmark", "data", "horizon", "seed", "status")}
            replaced = sum(record.get("replaced", {}).values())
            row |= {**record.get("counts", {}), "replaced": replaced, "seconds": record.get("seconds")}
            rows.append(row | {"error": record.get("error", "")})
        return pd.DataFrame(rows)

    def windows(self, model: str, seed: int, task: Task) -> tuple[Sums, np.ndarray, np.ndarray]:
        """Sums of every window of a finished task, with item (n) and shift (n)."""
        with np.load(self._path(model, seed, task).with_suffix(".npz")) as stored:
            arrays = dict(stored)
        return arrays, arrays.pop("item"), arrays.pop("shift")

    def _path(self, model: str, seed: int, task: Task) -> Path:
        return self.folder / task.benchmark / f"{model.replace('/', '_')}-s{seed}" / f"{task.name}.json"

    def _identity(self, model: str, seed: int, task: Task, run: str) -> dict[str, Any]:
        return {
            "run": run,
            "model": model,
            "benchmark": task.benchmark,
            "data": task.data,
            "horizon": task.horizon,
            "seed": seed,
        }


def slices(sums: Sums, shift: np.ndarray, *, by_series: bool) -> dict[str, dict[str, float]]:
    """Metrics over all windows, over those whose level has shifted and over the steady ones, where there are any.

    by_series: the errors are the mean over the windows of each one's own; else over all values alike.
    """
    parts = {"all": np.ones(len(shift), dtype=bool), "shifted": shift > SHIFT, "steady": shift <= SHIFT}
    return {name: _metrics(sums, rows, by_series) for name, rows in parts.items() if rows.any()}


def _metrics(sums: Sums, rows: np.ndarray, by_series: bool) -> dict[str, float]:
    chosen = {name: values[rows] for name, values in sums.items()}
    metrics = metrics_of(chosen)
    if by_series:
        single = metrics_of(chosen, by_window=True)
        own = {name: single[name][~np.isnan(single[name])] for name in ("mae", "smape", "mase")}
        metrics |= {name: values.mean() if len(values) else np.nan for name, values in own.items()}
    return {"windows": int(rows.sum()), **{name: float(value) for name, value in metrics.items()}}
