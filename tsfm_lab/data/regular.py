"""Stamped rows onto a regular grid: duplicates and gaps are errors, or are mended on request and counted."""

from dataclasses import dataclass, field

import numpy as np

from tsfm_lab.data.frequency import (
    MONTHS_PER_STEP,
    SECONDS,
    infer_frequency,
    parse_frequency,
    split_frequency,
    step_index,
)

DUPLICATES = ("error", "first", "last", "mean")
GAPS = ("error", "nan")
OFF_GRID = ("error", "floor")
MAX_FILL = 100  # missing steps for each present one: beyond that, one wrong stamp would fill the memory


@dataclass(frozen=True)
class Regular:
    """Values on a regular grid: (c t) float64 from `start` on in steps of `freq`.

    mended: what was done to get there, in words, and to how many rows or steps.
    """

    start: np.datetime64
    freq: str
    values: np.ndarray
    mended: dict[str, int] = field(default_factory=dict)


def regularise(
    when: np.ndarray,
    values: np.ndarray,
    *,
    freq: str | None = None,
    duplicates: str = "error",
    gaps: str = "error",
    off_grid: str = "error",
    item: str = "series",
) -> Regular:
    """Put rows with stamps onto the grid of their frequency, in the order of time.

    when: (t) datetime64. values: (t c). freq: None infers it from the stamps.
    duplicates: "first", "last" or "mean" of the rows with the same stamp. gaps: "nan" fills missing steps with NaN.
    off_grid: "floor" moves stamps down to whole steps of `freq`, counted from midnight, and averages those in one step.
    Raises: ValueError, naming the series and the remedy, where there is no row, no stamp, no regular frequency, a stamp
    off the grid, or a duplicate or gap that was not asked to be mended.
    """
    _check_choice("duplicates", duplicates, DUPLICATES)
    _check_choice("gaps", gaps, GAPS)
    _check_choice("off_grid", off_grid, OFF_GRID)
    when, values = _in_order(np.asarray(when, "datetime64[s]"), np.asarray(values, np.float64), item)
    freq, mended = _frequency_of(when, freq, item), {}
    when, values = _without_repeats(when, values, duplicates, item, mended)
    if off_grid == "floor":
        when, values = _floor(when, values, freq, item, mended)
    else:
        _check_on_grid(when, freq, item)
    index = step_index(when, when[0], freq)
    missing = int(index[-1] + 1 - len(index))
    if missing:
        if gaps == "error" or missing > MAX_FILL * len(index):
            remedy = "pass gaps='nan', or resample" if gaps == "error" else "that is too many to fill; mend its stamps"
            after = when[np.flatnonzero(np.diff(index) > 1)[0]]
            raise ValueError(f"series {item!r} has {missing} missing steps of {freq} (first after {after}); {remedy}")
        values = _fill(values, index)
        mended[f"missing steps of {freq} filled with NaN"] = missing
    return Regular(when[0], freq, values.T, mended)


def _in_order(when: np.ndarray, values: np.ndarray, item: str) -> tuple[np.ndarray, np.ndarray]:
    if not len(when):
        raise ValueError(f"series {item!r} has no rows")
    if np.isnat(when).any():
        raise ValueError(f"series {item!r} has {np.isnat(when).sum()} rows without a stamp; drop or date them")
    order = np.argsort(when, kind="stable")
    return when[order], values[order]


def _without_repeats(
    when: np.ndarray, values: np.ndarray, duplicates: str, item: str, mended: dict[str, int]
) -> tuple[np.ndarray, np.ndarray]:
    found, first, counts = np.unique(when, return_index=True, return_counts=True)
    repeats = len(when) - len(found)
    if not repeats:
        return when, values
    if duplicates == "error":
        at = found[counts > 1][0]
        remedy = "pass duplicates='first', 'last' or 'mean'"
        raise ValueError(f"series {item!r} has {repeats} duplicate stamps (first {at}); {remedy}")
    mended[f"duplicate stamps merged ({duplicates})"] = repeats
    return found, _merge(values, first, counts, duplicates)


def _frequency_of(when: np.ndarray, freq: str | None, item: str) -> str:
    if freq is not None:
        return parse_frequency(freq, item)
    found = infer_frequency(when)
    if found is None:
        steps = np.diff(np.unique(when)).astype(np.int64)
        between = f", {steps.min()} to {steps.max()} s apart" if len(steps) else ""
        raise ValueError(
            f"series {item!r}: no regular frequency fits its {len(when)} stamps{between}; pass freq=, or resample it"
        )
    return found


def _check_on_grid(when: np.ndarray, freq: str, item: str) -> None:
    n, unit, _ = split_frequency(freq)
    since = when - when[0]
    if unit in MONTHS_PER_STEP:  # a month holds its stamp, whatever the day, but only one
        off = np.flatnonzero(np.diff(step_index(when, when[0], freq)) == 0) + 1
    elif unit == "B":
        off = np.flatnonzero(~np.is_busday(when.astype("datetime64[D]")) | (since % np.timedelta64(86400, "s") != 0))
    else:
        off = np.flatnonzero(since % np.timedelta64(n * (7 * 86400 if unit == "W" else SECONDS[unit]), "s"))
    if len(off):
        raise ValueError(
            f"series {item!r} has {len(off)} stamps off its grid of {freq} (first {when[off[0]]}, the grid starts at "
            f"{when[0]}); pass the frequency they have, off_grid='floor', or resample"
        )


def _floor(
    when: np.ndarray, values: np.ndarray, freq: str, item: str, mended: dict[str, int]
) -> tuple[np.ndarray, np.ndarray]:
    n, unit, _ = split_frequency(freq)
    if unit in SECONDS:
        floored = when - (when - np.datetime64(0, "s")) % np.timedelta64(n * SECONDS[unit], "s")
        moved = int((floored != when).sum())
        if moved:
            mended[f"stamps moved down to whole steps of {freq}"] = moved
        when = floored
    index = step_index(when, when[0], freq)
    found, first, counts = np.unique(index, return_index=True, return_counts=True)
    if len(found) < len(index):
        mended["further stamps within a step averaged"] = len(index) - len(found)
        when, values = when[first], _merge(values, first, counts, "mean")
    return when, values


def _merge(values: np.ndarray, first: np.ndarray, counts: np.ndarray, duplicates: str) -> np.ndarray:
    if duplicates == "mean":
        seen = ~np.isnan(values)
        total = np.add.reduceat(np.where(seen, values, 0.0), first, axis=0)
        n = np.add.reduceat(seen, first, axis=0, dtype=np.int64)
        return np.where(n > 0, total / np.maximum(n, 1), np.nan)
    return values[first if duplicates == "first" else first + counts - 1]


def _fill(values: np.ndarray, index: np.ndarray) -> np.ndarray:
    filled = np.full((index[-1] + 1, values.shape[1]), np.nan)
    filled[index] = values
    return filled


def _check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
