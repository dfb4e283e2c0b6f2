"""The series that data loading is measured on: one pool for each kind of pretraining data."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tsfm_lab.data import (
    ArrowCollection,
    Concatenation,
    DownloadError,
    Series,
    SeriesCollection,
    SeriesList,
    load_pool,
    write_lotsa,
)
from tsfm_lab.data.mixture import Source
from tsfm_lab.data.synthetic import SyntheticCollection
from tsfm_lab.data.transforms import admissible_patch_sizes

log = logging.getLogger(__name__)
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


def make_pools(folder: Path, size: int = 400) -> list[Pool]:
    """Synthetic series, aligned series to stack, wide tables and real series, each alone and all together.

    size: synthetic series. The real pool is left out, with a message, where its files cannot be had. Arrow folders are
    made below `folder`.
    """
    rng = np.random.default_rng(0)
    aligned = [Series(f"walk-{i}", "2020-01-01", "h", rng.standard_normal(3000).cumsum()) for i in range(2 * size)]
    wide = [Series(f"wide-{i}", "2020-01-01", "h", rng.standard_normal((321, 5000)).cumsum(axis=1)) for i in range(40)]
    collections = {
        "synthetic": SeriesList(SyntheticCollection(size), "synthetic"),
        "aligned": SeriesList(aligned, "aligned"),
        "wide": SeriesList(wide, "wide"),
    }
    try:
        collections["smoke_pretrain"] = _real_series("smoke_pretrain")
    except DownloadError as error:
        log.warning("without the real pool: %s", error)
    parts = {}
    for name, collection in collections.items():
        write_lotsa(collection, folder / name)
        parts[name] = Part(collection, folder / name, stack=128 if name == "aligned" else 1)
    return [*(Pool(name, (part,)) for name, part in parts.items()), Pool("all", tuple(parts.values()))]


def _real_series(pool: str) -> SeriesCollection:
    """The registered sets of a pool, but for the series that are too short for uni2ts, which stops at the first one."""
    everything = Concatenation(load_pool(pool, progress=False), pool)
    long_enough = [s for s in everything if s.length >= 2 * admissible_patch_sizes(s.freq, PATCH_SIZES)[0]]
    return SeriesList(long_enough, pool)
