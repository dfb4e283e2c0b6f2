"""Stamped rows onto a regular grid: duplicates and gaps are errors, or are mended on request and counted."""

from dataclasses import dataclass

import numpy as np

from tsfm_lab.data.frequency import (
    MONTHS_PER_STEP,
    infer_frequency,
    parse_frequency,
    split_frequency,
    stamps,
    step_index,
)

DUPLICATES = ("error", "first", "last", "mean")
GAPS = ("error", "nan")
MAX_FILL = 100  # missing steps for each present one: beyond that, one wrong stamp would fill the memory


@dataclass(frozen=True)
class Regular:
    """Values on a regular grid: (c t) float64 from `start` on in steps of `freq`, and what was mended on the way."""

    start: np.datetime64
    freq: str
    values: np.ndarray
    notes: tuple[str, ...] = ()


def regularise(
    when: np.ndarray,
    values: np.ndarray,
    *,
    freq: str | None = None,
    duplicates: str = "error",
    gaps: str = "error",
    item: str = "series",
) -> Regular:
    """Put rows with stamps onto the grid of their frequency, in the order of time.

    when: (t) datetime64. values: (t c). freq: None infers it from the stamps.
    duplicates: "first", "last" or "mean" of the rows that share a step. gaps: "nan" fills missing steps with NaN.
    Raises: ValueError, naming the series and the remedy, where there is no row, no stamp, no regular frequency, a stamp
    off the grid, or a duplicate or gap that was not asked to be mended.
    """
    _check_choice("duplicates", duplicates, DUPLICATES)
    _check_choice("gaps", gaps, GAPS)
    when = np.asarray(when, "datetime64[s]")
    if not len(when):
        raise ValueError(f"series {item!r} has no rows")
    if np.isnat(when).any():
        raise ValueError(f"series {item!r} has {np.isnat(when).sum()} rows without a stamp; drop or date them")
    order = np.argsort(when, kind="stable")
    when, values = when[order], np.asarray(values, np.float64)[order]
    freq = _frequency_of(when, freq, item)
    index = step_index(when, when[0], freq)
    _check_on_grid(when, index, freq, item)
    found, first, counts = np.unique(index, return_index=True, return_counts=True)
    notes, repeats, missing = [], len(index) - len(found), int(found[-1] + 1 - len(found))
    if repeats:
        if duplicates == "error":
            remedy = "pass duplicates='first', 'last' or 'mean'"
            at = when[first[counts > 1][0]]
            raise ValueError(f"series {item!r} has {repeats} duplicate stamps (first {at}); {remedy}")
        values = _merge(values, first, counts, duplicates)
        notes.append(f"{item}: {repeats} duplicate stamps merged ({duplicates})")
    if missing:
        if gaps == "error" or missing > MAX_FILL * len(found):
            remedy = "pass gaps='nan', or resample" if gaps == "error" else "that is too many to fill; mend its stamps"
            after = when[first[np.flatnonzero(np.diff(found) > 1)[0]]]
            raise ValueError(f"series {item!r} has {missing} missing steps of {freq} (first after {after}); {remedy}")
        values = _fill(values, found)
        notes.append(f"{item}: {missing} missing steps of {freq} filled with NaN")
    return Regular(when[0], freq, values.T, tuple(notes))


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


def _check_on_grid(when: np.ndarray, index: np.ndarray, freq: str, item: str) -> None:
    if split_frequency(freq)[1] in MONTHS_PER_STEP:
        return  # a month holds its stamp, whatever the day
    off = np.flatnonzero(stamps(when[0], freq, int(index[-1]) + 1)[index] != when)
    if len(off):
        raise ValueError(
            f"series {item!r} has {len(off)} stamps off its grid of {freq} (first {when[off[0]]}, the grid starts at "
            f"{when[0]}); pass the frequency they have, or resample"
        )


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
