"""Long-sequence forecasting as TSLib scores it: standardised rows, every window of the test part, MSE and MAE.

Zhou et al. 2021 (arXiv:2012.07436), Wu et al. 2021 (arXiv:2106.13008). Windows begin at every step of the test part and
reach back up to 4096 steps, also into what comes before it. Each column is standardised by the training part, and the
errors, in these units, are averaged over windows, steps and columns. Some published tables leave out the last
incomplete batch of windows; here all count.
"""

from collections.abc import Sequence

import numpy as np

from tsfm_lab.data.catalog import load, load_table
from tsfm_lab.data.registry import find
from tsfm_lab.data.series import Series
from tsfm_lab.data.tslib import DEFAULT_SPLIT, Standardiser, split_borders
from tsfm_lab.evaluation.task import Task, Window, seasons

HISTORY = 4096  # steps that a window reaches back
START = np.datetime64("2000-01-01", "s")  # rows are consecutive steps; their stamps play no part


class LsfWindows(Sequence[Window]):
    """The windows of the test part, in units of the training part's standard deviations.

    rows: (t c) float64. split: rule of `split_borders`. max_windows: as many, evenly spaced from first to last; None:
    all, one at every step.
    Raises ValueError where the test part is shorter than the horizon.
    """

    def __init__(self, rows: np.ndarray, freq: str, split: str, horizon: int, max_windows: int | None = None):
        borders = split_borders(len(rows), split)
        scaler = Standardiser.fit(rows[slice(*borders["train"])])
        self.series = Series("rows", START, freq, scaler.transform(rows).T)
        self.horizon, (begin, end) = horizon, borders["test"]
        count = end - begin - horizon + 1
        if count < 1:
            raise ValueError(f"the test part has {end - begin} rows, a window needs {horizon}; take a shorter horizon")
        positions = np.arange(count)
        if max_windows is not None and max_windows < count:
            positions = np.linspace(0, count - 1, max_windows).round().astype(int)
        self.begins = begin + positions

    def __len__(self) -> int:
        return len(self.begins)

    def __getitem__(self, i: int) -> Window:
        begin = int(self.begins[i])
        label = self.series.target[:, begin : begin + self.horizon]
        return Window(self.series.window(max(begin - HISTORY, 0), begin), label, i)


def lsf_tasks(
    names: Sequence[str], horizons: Sequence[int] | None = None, max_windows: int | None = None
) -> list[Task]:
    """A task for each set and horizon; horizons None: those of the registry.

    max_windows: a subsample, evenly spaced, which is not the published protocol; None: every window.
    """
    tasks = []
    for name in names:
        for horizon in horizons or find(name).horizons:
            tasks.append(Task("lsf", name, horizon, *seasons(name), open=_opener(name, horizon, max_windows)))
    return tasks


def _opener(name: str, horizon: int, max_windows: int | None):
    entry = find(name)
    split = DEFAULT_SPLIT if entry.split in ("none", "last") else entry.split
    return lambda: LsfWindows(_read_rows(name), entry.frequency, split, horizon, max_windows)


def _read_rows(name: str) -> np.ndarray:
    """(t c) of a registered set of one item, as written where it is a table."""
    if find(name).loader == "table":
        return load_table(name).values
    collection = load(name)
    if len(collection) != 1:
        raise ValueError(f"{name} has {len(collection)} series; long-sequence forecasting takes one table of rows")
    return collection[0].target.T.astype(np.float64)
