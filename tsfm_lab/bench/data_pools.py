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
    entries,
    load,
    write_lotsa,
)
from tsfm_lab.data.synthetic import SyntheticCollection
from tsfm_lab.data.transforms import admissible_patch_sizes

log = logging.getLogger(__name__)
PATCH_SIZES = (8, 16, 32, 64, 128)


@dataclass(frozen=True)
class Pool:
    """A collection in memory, and the same one in the LOTSA layout. stack: most aligned series of a sample."""

    name: str
    memory: SeriesCollection
    folder: Path
    stack: int = 1

    @property
    def arrow(self) -> SeriesCollection:
        return ArrowCollection(self.folder, name=self.name)


def make_pools(folder: Path, size: int = 400) -> list[Pool]:
    """The pools, their arrow folders below `folder`: synthetic, aligned series to stack, a wide table, real series.

    size: synthetic series. The real pool is left out, with a message, where its files cannot be had.
    """
    rng = np.random.default_rng(0)
    aligned = [Series(f"walk-{i}", "2020-01-01", "h", rng.standard_normal(3000).cumsum()) for i in range(2 * size)]
    wide = [Series(f"wide-{i}", "2020-01-01", "h", rng.standard_normal((321, 5000)).cumsum(axis=1)) for i in range(2)]
    collections = {
        "synthetic": SeriesList(SyntheticCollection(size), "synthetic"),
        "aligned": SeriesList(aligned, "aligned"),
        "wide": SeriesList(wide, "wide"),
    }
    try:
        collections["smoke_pretrain"] = _real_series("smoke_pretrain")
    except DownloadError as error:
        log.warning("without the real pool: %s", error)
    made = []
    for name, collection in collections.items():
        write_lotsa(collection, folder / name)
        made.append(Pool(name, collection, folder / name, stack=128 if name == "aligned" else 1))
    return made


def _real_series(pool: str) -> SeriesCollection:
    """The registered sets of a pool, but for the series that are too short for uni2ts, which stops at the first one."""
    names = [entry.name for entry in entries().values() if entry.pool == pool]
    everything = Concatenation([load(name, repair=True, progress=False) for name in names], pool)
    long_enough = [s for s in everything if s.length >= 2 * admissible_patch_sizes(s.freq, PATCH_SIZES)[0]]
    return SeriesList(long_enough, pool)
