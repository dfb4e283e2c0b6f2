"""One in-memory form of a time series, and lazy collections of them."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from tsfm_lab.data.frequency import mase_season, parse_frequency, season_length, stamps, stamps_at


@dataclass(frozen=True, eq=False)
class Series:
    """One item: c aligned variates on one regular grid of stamps.

    target: (c t) float32, always two axes (a (t) array becomes (1 t)); NaN is a missing value.
    past_feat_dynamic_real: (p t) covariates known up to the end of the target, or None.
    feat_dynamic_real: (k t+h) covariates known h >= 0 steps beyond it, or None.
    start: stamp of the first step, datetime64[s], no time zone. freq: canonical, see `parse_frequency`.
    Arrays may be read-only views of a memory-mapped file: copy before writing.
    Raises: ValueError where shapes, values or frequency are unusable, naming the item.
    """

    item_id: str
    start: np.datetime64
    freq: str
    target: np.ndarray = field(repr=False)
    past_feat_dynamic_real: np.ndarray | None = field(default=None, repr=False)
    feat_dynamic_real: np.ndarray | None = field(default=None, repr=False)

    def __post_init__(self):
        write = object.__setattr__
        write(self, "item_id", str(self.item_id))
        write(self, "freq", parse_frequency(self.freq, self.item_id))
        write(self, "start", _as_stamp(self.start, self.item_id))
        write(self, "target", self._as_rows("target", self.target))
        t = self.length
        if self.past_feat_dynamic_real is not None:
            rows = self._as_rows("past_feat_dynamic_real", self.past_feat_dynamic_real)
            if rows.shape[1] != t:
                raise ValueError(
                    f"series {self.item_id!r}: past_feat_dynamic_real must have the target's {t} steps, "
                    f"got {rows.shape[1]}; covariates that reach further are feat_dynamic_real"
                )
            write(self, "past_feat_dynamic_real", rows)
        if self.feat_dynamic_real is not None:
            rows = self._as_rows("feat_dynamic_real", self.feat_dynamic_real)
            if rows.shape[1] < t:
                raise ValueError(
                    f"series {self.item_id!r}: feat_dynamic_real must reach at least the target's {t} steps, "
                    f"got {rows.shape[1]}"
                )
            write(self, "feat_dynamic_real", rows)

    def _as_rows(self, name: str, values) -> np.ndarray:
        try:
            rows = np.asarray(values, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise ValueError(f"series {self.item_id!r}: {name} must be numbers, got {error}") from None
        rows = rows[None] if rows.ndim == 1 else rows
        if rows.ndim != 2:
            raise ValueError(f"series {self.item_id!r}: {name} must have axes (t) or (c t), got shape {rows.shape}")
        return rows

    @property
    def num_variates(self) -> int:
        """c, the variates of the target."""
        return self.target.shape[0]

    @property
    def length(self) -> int:
        """t, the steps of the target."""
        return self.target.shape[1]

    @property
    def season_length(self) -> int:
        """Season of the seasonal-naive forecast by frequency, in steps (D 7, W 52)."""
        return season_length(self.freq)

    @property
    def mase_season(self) -> int:
        """Season of the MASE denominator by frequency, in steps (D 1, W 1)."""
        return mase_season(self.freq)

    def stamps(self, horizon: int = 0) -> np.ndarray:
        """Stamps of the target and of `horizon` steps beyond it: (t+horizon) datetime64[s]."""
        return stamps(self.start, self.freq, self.length + horizon)

    def window(self, begin: int, end: int, horizon: int = 0) -> "Series":
        """Steps begin … end-1 as a series of its own (a view); known covariates reach `horizon` steps further."""
        begin, end, _ = slice(begin, end).indices(self.length)
        past, known = self.past_feat_dynamic_real, self.feat_dynamic_real
        return replace(
            self,
            start=stamps_at(self.start, self.freq, [begin])[0],
            target=self.target[:, begin:end],
            past_feat_dynamic_real=None if past is None else past[:, begin:end],
            feat_dynamic_real=None if known is None else known[:, begin : end + horizon],
        )


def variate_name(series: Series, variate: int) -> str:
    """The name of one variate: the item's where it has no other, else item[variate]."""
    return series.item_id if series.num_variates == 1 else f"{series.item_id}[{variate}]"


def _as_stamp(start, item_id: str) -> np.datetime64:
    zone = getattr(start, "tzinfo", None)
    if zone is not None:
        raise ValueError(
            f"series {item_id!r} starts at {start} in the time zone {zone}; "
            "convert to one zone without an offset first: tz_convert('UTC').tz_localize(None)"
        )
    try:
        stamp = np.datetime64(start, "s")
    except (TypeError, ValueError) as error:
        raise ValueError(f"series {item_id!r} has the unreadable start {start!r}: {error}") from None
    if np.isnat(stamp):
        raise ValueError(f"series {item_id!r} has no start; pass a date such as '2020-01-01'")
    return stamp


class SeriesCollection(Sequence[Series]):
    """A named, lazy sequence of series; reading item i touches item i only.

    name: of the data set. pool: what the series may be used for, e.g. "smoke_pretrain", "heldout_lsf", "user".
    notes: known dirt, what was mended and what was left out on loading, one line each.
    Subclasses give `__len__`, `read` and, where it is cheaper than reading, `lengths` and `num_variates`; those over
    files pickle without their values, so that loader workers open the files themselves.
    """

    name: str
    pool: str
    notes: tuple[str, ...] = ()

    @abstractmethod
    def read(self, i: int) -> Series:
        """Series i, 0 <= i < len(self)."""

    def __getitem__(self, i):
        if isinstance(i, slice):
            return Subset(self, np.arange(len(self))[i])
        n = len(self)
        if not -n <= i < n:
            raise IndexError(f"series {i} of {self.name!r}, which has {n}")
        return self.read(int(i) % n)

    def __iter__(self) -> Iterator[Series]:
        return (self.read(i) for i in range(len(self)))

    @cached_property
    def lengths(self) -> np.ndarray:
        """Steps of each series: (n) int64."""
        return np.array([series.length for series in self], dtype=np.int64)

    @cached_property
    def num_variates(self) -> np.ndarray:
        """Target variates of each series: (n) int64."""
        return np.array([series.num_variates for series in self], dtype=np.int64)

    def select(self, indices: Sequence[int]) -> "Subset":
        """The series at `indices`, still lazy."""
        return Subset(self, np.asarray(indices, dtype=np.int64))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {len(self)} series, pool {self.pool!r})"


class SeriesList(SeriesCollection):
    """A collection of series that are in memory already."""

    def __init__(self, series: Iterable[Series], name: str = "series", pool: str = "user", notes: Iterable[str] = ()):
        self.items, self.name, self.pool, self.notes = tuple(series), name, pool, tuple(notes)

    def __len__(self) -> int:
        return len(self.items)

    def read(self, i: int) -> Series:
        return self.items[i]


class Subset(SeriesCollection):
    """Some series of a collection, by index: (n) int64."""

    def __init__(self, source: SeriesCollection, indices: np.ndarray):
        self.source, self.indices = source, indices
        self.name, self.pool, self.notes = source.name, source.pool, source.notes

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, i: int) -> Series:
        return self.source[int(self.indices[i])]

    @cached_property
    def lengths(self) -> np.ndarray:
        return self.source.lengths[self.indices]

    @cached_property
    def num_variates(self) -> np.ndarray:
        return self.source.num_variates[self.indices]


class Concatenation(SeriesCollection):
    """Several collections one after the other."""

    def __init__(self, sources: Sequence[SeriesCollection], name: str, pool: str | None = None):
        if not sources:
            raise ValueError(f"collection {name!r} needs at least one source, got none")
        pools = sorted({source.pool for source in sources})
        self.sources, self.name, self.pool = tuple(sources), name, pool or "+".join(pools)
        self.notes = tuple(note for source in sources for note in source.notes)
        self._ends = np.cumsum([len(source) for source in sources])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def read(self, i: int) -> Series:
        k = int(np.searchsorted(self._ends, i, side="right"))
        return self.sources[k][i - (int(self._ends[k - 1]) if k else 0)]

    @cached_property
    def lengths(self) -> np.ndarray:
        return np.concatenate([source.lengths for source in self.sources])

    @cached_property
    def num_variates(self) -> np.ndarray:
        return np.concatenate([source.num_variates for source in self.sources])
