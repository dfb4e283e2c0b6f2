"""Series that go together by date: other editions of the same numbers, and calendar means of unequal length.

Both series are brought to one calendar step (means by month, quarter or year); their changes over one season are
compared where both are there. Daily sunspot numbers and another edition's yearly ones are found so.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tsfm_lab.data.frequency import split_frequency, stamps
from tsfm_lab.data.series import Series

ORDER = ("s", "min", "h", "D", "B", "W", "M", "Q", "Y")
STEPS = {"M": 12, "Q": 4, "Y": 1}  # calendar steps that are compared, and their season
CORRELATION = 0.98
COMMON = 32  # steps that both must have


def find_followers(
    pretraining: Sequence[Series], heldout: Sequence[Series]
) -> Iterator[tuple[tuple[int, int], tuple[int, int], int]]:
    """Pairs whose seasonal changes correlate by at least 0.98 over at least 32 common steps.

    Yields (index, variate) of the pretraining and of the held-out series, and the common steps. One of the two has the
    step as its own, the other has it or a finer one.
    """
    for step, season in STEPS.items():
        rows_p, rows_h = _at_step(pretraining, step, season), _at_step(heldout, step, season)
        if not rows_p or not rows_h:
            continue
        origin = min(row.begin for row in (*rows_p, *rows_h))
        end = max(row.begin + len(row.values) for row in (*rows_p, *rows_h))
        common, correlation = _correlate(_changes(rows_p, season, origin, end), _changes(rows_h, season, origin, end))
        native_p, native_h = (np.array([row.native for row in rows]) for rows in (rows_p, rows_h))
        hit = (common >= COMMON) & (correlation >= CORRELATION) & (native_p[:, None] | native_h[None, :])
        for p, h in np.argwhere(hit):
            yield rows_p[p].owner, rows_h[h].owner, int(common[p, h])


@dataclass(frozen=True)
class Row:
    """One variate at a calendar step. owner: (index, variate). begin: steps since 1970. native: the step is its own."""

    owner: tuple[int, int]
    begin: int
    values: np.ndarray
    native: bool


def _at_step(collection: Sequence[Series], step: str, season: int) -> list[Row]:
    """The series that have the step or a finer one and enough changes over a season, as means of complete steps."""
    rows = []
    for i, series in enumerate(collection):
        n, unit, _ = split_frequency(series.freq)
        if ORDER.index(unit) > ORDER.index(step) or (unit == step and n > 1):
            continue
        months = stamps(series.start, series.freq, series.length).astype("datetime64[M]").astype(np.int64)
        at = months // (12 // STEPS[step])
        if not len(at) or at[-1] - at[0] < COMMON:
            continue
        for v, row in enumerate(series.target):
            means = _mean_by(at - at[0], row)
            if np.isfinite(means[season:] - means[:-season]).sum() >= COMMON:
                rows.append(Row((i, v), int(at[0]), means, unit == step))
    return rows


def _changes(rows: list[Row], season: int, origin: int, end: int) -> np.ndarray:
    table = np.full((len(rows), end - origin), np.nan)
    for line, row in zip(table, rows, strict=True):
        begin = row.begin - origin + season
        change = row.values[season:] - row.values[:-season]
        line[begin : begin + len(change)] = change
    return table


def _mean_by(at: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Mean of the values at each step, NaN where one is missing: at (t), row (t) -> (steps)."""
    row = row.astype(np.float64)
    seen = np.isfinite(row)
    n = np.bincount(at[seen], minlength=at[-1] + 1)
    total = np.bincount(at[seen], row[seen], minlength=at[-1] + 1)
    full = np.bincount(at, minlength=at[-1] + 1)
    whole = (n == full) & (n > 0)
    return np.where(whole, total / np.maximum(n, 1), np.nan)


def _correlate(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Common steps and correlation of all pairs of rows of a (m t) and b (n t), NaN missing: two (m n)."""
    a, b = _standardise(a), _standardise(b)
    m, k = np.isfinite(a).astype(float), np.isfinite(b).astype(float)
    a, b = np.nan_to_num(a), np.nan_to_num(b)
    n = m @ k.T
    safe = np.maximum(n, 1)
    mean_a, mean_b = a @ k.T / safe, m @ b.T / safe
    cov = a @ b.T / safe - mean_a * mean_b
    var = (a**2 @ k.T / safe - mean_a**2) * (m @ (b**2).T / safe - mean_b**2)
    return n, cov / np.sqrt(np.maximum(var, 1e-12))


def _standardise(rows: np.ndarray) -> np.ndarray:
    scale = np.nanstd(rows, axis=1, keepdims=True)
    return (rows - np.nanmean(rows, axis=1, keepdims=True)) / np.where(scale > 0, scale, 1.0)
