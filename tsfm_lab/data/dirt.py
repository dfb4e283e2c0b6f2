"""What is wrong with a series, said and counted; what is mended, on request and reported."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from tsfm_lab.data.series import Series, SeriesCollection, SeriesList, Subset


@dataclass
class Skips:
    """Counts of series left out, by reason with the first case of each, and of what was mended in the others."""

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)
    mended: dict[str, tuple[int, int, str]] = field(default_factory=dict)

    def add(self, item: str, reason: object) -> None:
        """Count one series. Errors are counted by the words that do not name the series or a number."""
        text = str(reason)
        key = _kind(text.replace(repr(item), "").replace(item, ""))
        self.counts[key] += 1
        self.first.setdefault(key, f"{item}: {text}" if item not in text else text)

    def mend(self, item: str, what: dict[str, int]) -> None:
        """Count what was mended in one series: words and how often."""
        for words, n in what.items():
            times, series, first = self.mended.get(words, (0, 0, item))
            self.mended[words] = (times + n, series + 1, first)

    @property
    def total(self) -> int:
        """Series left out."""
        return self.counts.total()

    def notes(self, n: int) -> list[str]:
        """Lines for a collection's `notes`: skipped of n series, by reason, and what was mended."""
        lines = [f"skipped {self.total} of {n} series"] if self.total else []
        lines += [f"  {count} × {self.first[key]}" for key, count in self.counts.most_common()]
        for words, (times, series, first) in self.mended.items():
            where = first if series == 1 else f"{series} series, first {first}"
            lines.append(f"{times} {words} ({where})")
        return lines


def _kind(text: str) -> str:
    return " ".join(word for word in text.split() if not any(c.isdigit() for c in word))


def find_problems(series: Series, min_length: int = 1) -> list[str]:
    """Why a series cannot be learnt from, in words; [] for a usable one.

    Checks the target (c t) for: fewer than `min_length` steps, no observed value, infinities, one constant value.
    """
    target = series.target
    if target.shape[1] < max(min_length, 1) or not target.size:
        return [f"too short: {target.shape[1]} steps, at least {max(min_length, 1)} are needed"]
    observed = target[~np.isnan(target)]
    if not len(observed):
        return [f"no observed value in {target.shape[1]} steps"]
    problems = []
    infinite = int(np.isinf(observed).sum())
    if infinite:
        problems.append(f"{infinite} infinite values; clean(series, infinite=True) makes them missing")
    if (observed == observed[0]).all():
        problems.append("constant")
    return problems


def screen(collection: SeriesCollection, min_length: int = 1) -> Subset:
    """The usable series of a collection, still lazy; its `notes` count the others by reason.

    Unreadable series (a missing frequency, ragged variates) are counted, not raised. Reads every series once.
    """
    skips, kept = Skips(), []
    for i in range(len(collection)):
        try:
            series = collection[i]
            problems = find_problems(series, min_length)
            item = series.item_id
        except (ValueError, OSError) as error:
            problems, item = [str(error)], f"series {i}"
        if problems:
            skips.add(item, problems[0])
        else:
            kept.append(i)
    subset = collection.select(kept)
    subset.notes = (*collection.notes, *skips.notes(len(collection)))
    return subset


def clean(series: Series, sentinels: Iterable[float] = (), infinite: bool = False) -> tuple[Series, dict[str, int]]:
    """A copy with sentinel values (and infinities) of the target made missing, and how many of each there were."""
    target, counts = series.target.copy(), {}
    for sentinel in sentinels:
        hit = target == np.float32(sentinel)
        counts[f"{sentinel:g}"] = int(hit.sum())
        target[hit] = np.nan
    if infinite:
        hit = np.isinf(target)
        counts["infinite"] = int(hit.sum())
        target[hit] = np.nan
    return replace(series, target=target), {key: n for key, n in counts.items() if n}


def clean_collection(
    collection: SeriesCollection, sentinels: Iterable[float] = (), infinite: bool = False
) -> SeriesList:
    """`clean` for every series, in memory; the result's `notes` count what was made missing."""
    sentinels, skips, cleaned = tuple(sentinels), Skips(), []
    for series in collection:
        series, counts = clean(series, sentinels, infinite)
        skips.mend(series.item_id, {f"values {key} made missing": n for key, n in counts.items()})
        cleaned.append(series)
    notes = [*collection.notes, *skips.notes(len(cleaned))]
    return SeriesList(cleaned, collection.name, collection.pool, notes=notes)
