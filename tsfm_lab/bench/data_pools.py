"""The series that data loading is measured on: one pool for each kind of pretraining data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tsfm_lab.data import (
    ArrowCollection,
    Concatenation,
    Series,
    SeriesCollection,
    SeriesList,
    load_pool,
    write_lotsa,
)
from tsfm_lab.data.mixture import Source
from tsfm_lab.data.synthetic import SyntheticCollection
from tsfm_lab.data.transforms import admissible_patch_sizes

PATCH_SIZES = (8, 16, 32, 64, 128)


@dataclass(frozen=True)
class Part:
    """A collection in memory, and the same one in the LOTSA layout. stack: most aligned series of a sample."""

    memory: SeriesCollection
    folder: Path
    stack: int = 1

    def source(self, storage: str) -> Source:
        """The part as a mixture has it. storage: "memory" or "arrow"."""
        return Source(self.memory if storage == "memory" else ArrowCollection(self.folder), stack=self.stack)


@dataclass(frozen=True)
class Pool:
    """What batches are made of."""

    name: str
    parts: tuple[Part, ...]


def make_pool(name: str, folder: Path) -> Pool:
    """The pool of one of KINDS, or "all" of them together; arrow folders are made below `folder`.

    Raises: DownloadError where the files of the real series cannot be had.
    """
    kinds = KINDS if name == "all" else {name: KINDS[name]}
    parts = []
    for kind, (make, stack) in kinds.items():
        collection = make()
        parts.append(Part(collection, write_lotsa(collection, folder / name / kind), stack))
    return Pool(name, tuple(parts))


def _synthetic() -> SeriesCollection:
    return SeriesList(SyntheticCollection(400), "synthetic")


def _aligned() -> SeriesCollection:
    """Aligned univariate series, to be stacked."""
    walks = np.random.default_rng(0).standard_normal((800, 3000)).cumsum(axis=1)
    return SeriesList([Series(f"walk-{i}", "2020-01-01", "h", walk) for i, walk in enumerate(walks)], "aligned")


def _wide() -> SeriesCollection:
    """Tables of as many columns as the electricity set has."""
    walks = np.random.default_rng(1).standard_normal((8, 321, 3000)).cumsum(axis=2)
    return SeriesList([Series(f"wide-{i}", "2020-01-01", "h", walk) for i, walk in enumerate(walks)], "wide")


def _real() -> SeriesCollection:
    """The registered pretraining series, but for those too short for uni2ts, which stops at the first such one."""
    everything = Concatenation(load_pool("smoke_pretrain", progress=False), "smoke_pretrain")
    long_enough = [s for s in everything if s.length >= 2 * admissible_patch_sizes(s.freq, PATCH_SIZES)[0]]
    return SeriesList(long_enough, "smoke_pretrain")


# kind -> what makes its series, and how many of them at most are stacked to one sample
KINDS: dict[str, tuple[Callable[[], SeriesCollection], int]] = {
    "synthetic": (_synthetic, 1),
    "aligned": (_aligned, 128),
    "wide": (_wide, 1),
    "smoke_pretrain": (_real, 1),
}
