"""From the table of results to one line a model: relative scores, ranks, intervals; and tests in pairs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import wilcoxon

if TYPE_CHECKING:
    import pandas

TASK = ["benchmark", "data", "horizon"]


def scores_of(table: "pandas.DataFrame", metric: str, part: str = "all") -> "pandas.DataFrame":
    """One metric, tasks × models, mean over the seeds. part: "all", "shifted" or "steady" windows.

    Raises ValueError for a metric or slice that the table does not have.
    """
    for column, value in (("metric", metric), ("slice", part)):
        if value not in set(table[column]):
            raise ValueError(f"{column} must be one of {sorted(set(table[column]))}, got {value!r}")
    chosen = table[(table["metric"] == metric) & (table["slice"] == part)]
    return chosen.pivot_table("value", TASK, "model", aggfunc="mean", sort=False)


def relative_scores(
    table: "pandas.DataFrame", metric: str, reference: str = "seasonal_naive", part: str = "all"
) -> "pandas.DataFrame":
    """`scores_of` as a share of the reference model's, tasks × models.

    A task is left out where a model has no finite score or the reference's is 0: a ratio needs both.
    Raises ValueError where the table has no such reference, metric or slice.
    """
    scores = scores_of(table, metric, part)
    if reference not in scores:
        raise ValueError(f"reference must be one of the table's models {list(scores)}, got {reference!r}")
    ratios = scores.div(scores[reference], axis=0)
    return ratios[np.isfinite(ratios).all(axis=1)]


def summarise(
    table: "pandas.DataFrame",
    metric: str,
    reference: str = "seasonal_naive",
    *,
    part: str = "all",
    resamples: int = 2000,
    seed: int = 0,
) -> "pandas.DataFrame":
    """A row for each model, best first: relative score, its 95 % interval, mean rank, share of tasks won, tasks.

    The relative score is the geometric mean over the tasks (zero errors count as 1e-5 of the reference's); the interval
    is the percentile bootstrap's over tasks, so it says how far the choice of tasks decides. A task is won by a model
    with a lower score than the reference. Raises ValueError where no task has a finite score of every model.
    """
    import pandas as pd

    ratios = relative_scores(table, metric, reference, part)
    if ratios.empty:
        raise ValueError(f"no task has a finite {metric} of every model; evaluate the missing ones or drop a model")
    logs = np.log(np.maximum(ratios.to_numpy(), 1e-5))
    low, high = np.exp(_bootstrap_means(logs, resamples, seed))
    summary = pd.DataFrame(
        {
            f"relative {metric}": np.exp(logs.mean(axis=0)),
            "low": low,
            "high": high,
            "rank": ratios.rank(axis=1).mean().to_numpy(),
            "won": (ratios < 1).mean().to_numpy(),
            "tasks": len(ratios),
        },
        index=ratios.columns,
    )
    return summary.sort_values(f"relative {metric}")


@dataclass(frozen=True)
class PairedTest:
    """Two models on the same n cases. ratio: geometric mean of a's score over b's, with a 95 % bootstrap interval.

    a_better: share of cases in which a's score is lower. p: two-sided, Wilcoxon's signed-rank test of the log ratios.
    """

    n: int
    ratio: float
    low: float
    high: float
    a_better: float
    p: float


def paired_test(a: Sequence[float], b: Sequence[float], *, resamples: int = 2000, seed: int = 0) -> PairedTest:
    """Is model a better than b? Scores (n) of both on the same tasks, or on the same series of one task.

    Cases where either score is not finite or not positive are left out.
    Raises ValueError where none is left, or the numbers of cases differ.
    """
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if a.shape != b.shape:
        raise ValueError(f"both models must have the same cases, got {a.shape} and {b.shape} scores")
    usable = np.isfinite(a) & np.isfinite(b) & (a > 0) & (b > 0)
    if not usable.any():
        raise ValueError("no case has a positive finite score of both models")
    logs = np.log(a[usable] / b[usable])
    low, high = np.exp(_bootstrap_means(logs[:, None], resamples, seed))[:, 0]
    p = float(wilcoxon(logs).pvalue) if logs.any() else 1.0
    return PairedTest(len(logs), float(np.exp(logs.mean())), float(low), float(high), float((logs < 0).mean()), p)


def _bootstrap_means(values: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Ends of the 95 % percentile interval of the mean over cases: (n m) -> (2 m)."""
    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(values), size=(resamples, len(values)))
    return np.quantile(values[drawn].mean(axis=1), [0.025, 0.975], axis=0)
