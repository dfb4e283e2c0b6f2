"""One line of a benchmark: a data set, a horizon, and the windows whose last steps are forecast."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from tsfm_lab.data.registry import UNKNOWN, find
from tsfm_lab.data.series import Series, SeriesCollection


class Window(NamedTuple):
    """What comes before, and the h steps to be forecast, label: (c h), NaN missing. item: the series' number."""

    history: Series
    label: np.ndarray
    item: int


@dataclass(frozen=True)
class Task:
    """What is forecast and how it is scored.

    benchmark: "lsf", "monash" or "gift_eval". data: a name of the registry. horizon: steps.
    season, mase_season: steps, of the seasonal naive forecast and of MASE's scale.
    open: reads the data and gives the windows, lazily where they are many.
    """

    benchmark: str
    data: str
    horizon: int
    season: int
    mase_season: int
    open: Callable[[], Sequence[Window]] = field(repr=False)

    @property
    def name(self) -> str:
        """ "<data>-<horizon>", unique within a benchmark, fit for a file."""
        return f"{self.data.replace('/', '_')}-{self.horizon}"


class LastWindows(Sequence[Window]):
    """The last `count` windows of each series, side by side, oldest first; series that are too short are left out.

    A window needs a step of history. left_out: how many windows there were not.
    """

    def __init__(self, collection: SeriesCollection, horizon: int, count: int = 1):
        self.collection, self.horizon = collection, horizon
        lengths = collection.lengths
        ends = [(i, lengths[i] - horizon * k) for i in range(len(collection)) for k in reversed(range(count))]
        self.ends = [(i, int(end)) for i, end in ends if end > horizon]
        self.left_out = len(ends) - len(self.ends)

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, i: int) -> Window:
        item, end = self.ends[i]
        series = self.collection[item]
        return Window(series.window(0, end - self.horizon), series.target[:, end - self.horizon : end], item)


def seasons(name: str) -> tuple[int, int]:
    """Season of the seasonal naive forecast and of MASE of a registered set, in steps.

    Raises ValueError for a set whose frequency is only known from its rows.
    """
    entry = find(name)
    if entry.season_length is None or entry.frequency == UNKNOWN:
        raise ValueError(f"{name} has no frequency in the registry; give it one there to evaluate on it")
    return entry.season_length, entry.mase_season
