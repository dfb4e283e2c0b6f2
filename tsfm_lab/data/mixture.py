"""Which series comes next: weighted mixtures of collections, drawn uniformly or by length, alone or stacked."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil

import numpy as np

from tsfm_lab.data.series import Series, SeriesCollection
from tsfm_lab.data.transforms import Sample, UnusableSeries, as_sample

SAMPLING = ("proportional", "uniform")
# what files and pyarrow raise over one bad series; anything else, a lack of memory above all, ends the run
READ_ERRORS = (OSError, ValueError, TypeError, LookupError, NotImplementedError)


@dataclass(frozen=True)
class Source:
    """One collection within a mixture.

    weight: the source counts as ceil(len(collection)·weight) series.
    sampling: "proportional": a series is drawn in proportion to its steps; "uniform": each alike.
    stack: up to so many of the collection's aligned series become the variates of one sample; 1 = none are stacked.
        Their number is 1 + BetaBinomial(min(len(collection), stack) − 1, stack_alpha, stack_beta).
    """

    collection: SeriesCollection
    weight: float = 1.0
    sampling: str = "proportional"
    stack: int = 1
    stack_alpha: float = 2.0
    stack_beta: float = 5.0

    def __post_init__(self):
        name = self.collection.name
        if not len(self.collection):
            raise ValueError(f"collection {name!r} has no series; leave it out of the mixture")
        if not self.weight > 0:
            raise ValueError(f"weight of {name!r} must be positive, got {self.weight}; leave the source out instead")
        if self.sampling not in SAMPLING:
            raise ValueError(f"sampling of {name!r} must be one of {', '.join(SAMPLING)}, got {self.sampling!r}")
        if self.stack < 1:
            raise ValueError(f"stack of {name!r} must be at least 1 series, got {self.stack}")
        if self.stack > 1 and len(set(self.collection.lengths.tolist())) > 1:
            shortest, longest = self.collection.lengths.min(), self.collection.lengths.max()
            raise ValueError(
                f"the series of {name!r} must be aligned to be stacked, but have {shortest} to {longest} steps; "
                "use stack=1, or align them first"
            )

    @property
    def size(self) -> int:
        """Series that the source counts as."""
        return ceil(len(self.collection) * self.weight)

    @cached_property
    def _steps_before(self) -> np.ndarray:
        return np.cumsum(self.collection.lengths)

    def draw(self, rng: np.random.Generator) -> Sample:
        """A sample with the fields of `as_sample`. Raises: UnusableSeries."""
        first = self._draw_index(rng)
        if self.stack == 1:
            return as_sample(self._read(first))
        most = min(len(self.collection), self.stack)
        number = 1 + rng.binomial(most - 1, rng.beta(self.stack_alpha, self.stack_beta))
        others = rng.choice(len(self.collection) - 1, number - 1, replace=False)
        return _stack([self._read(i) for i in (first, *(others + (others >= first)))])

    def _draw_index(self, rng: np.random.Generator) -> int:
        if self.sampling == "uniform":
            return int(rng.integers(len(self.collection)))
        steps = self._steps_before[-1]
        if not steps:
            raise UnusableSeries("empty", "no series of the collection has a step")
        return int(np.searchsorted(self._steps_before, rng.integers(steps), side="right"))

    def _read(self, i: int) -> Series:
        try:
            return self.collection.read(int(i))
        except READ_ERRORS as error:
            raise UnusableSeries(f"unreadable ({type(error).__name__})", f"series {i}: {error}") from error


def _stack(series: list[Series]) -> Sample:
    """The variates of aligned series as those of one sample."""
    first = series[0]
    for name in ("start", "freq", "length"):
        values = [getattr(s, name) for s in series]
        if values.count(values[0]) < len(values):
            other = next(s for s, value in zip(series, values, strict=True) if value != values[0])
            raise UnusableSeries(
                "not aligned",
                f"{other.item_id!r} ({other.start}, {other.freq}, {other.length} steps) cannot be stacked on "
                f"{first.item_id!r} ({first.start}, {first.freq}, {first.length} steps)",
            )
    sample = {**as_sample(first), "target": [row for s in series for row in s.target]}
    past = [row for s in series if s.past_feat_dynamic_real is not None for row in s.past_feat_dynamic_real]
    return {**sample, "past_feat_dynamic_real": past} if past else sample


class Mixture:
    """Several sources, each drawn in proportion to its size.

    differs from uni2ts: series are drawn with replacement, and a weight below 1 thins a collection evenly, instead of
    showing its first series only.
    """

    def __init__(self, sources: Sequence[Source | SeriesCollection]):
        if not sources:
            raise ValueError("a mixture must have at least one source, got none")
        self.sources = [s if isinstance(s, Source) else Source(s) for s in sources]
        self._size_before = np.cumsum([source.size for source in self.sources])

    def __len__(self) -> int:
        """Series of all sources together, by weight."""
        return int(self._size_before[-1])

    def draw(self, rng: np.random.Generator) -> Source:
        """The source that the next sample comes from."""
        return self.sources[int(np.searchsorted(self._size_before, rng.integers(len(self)), side="right"))]
