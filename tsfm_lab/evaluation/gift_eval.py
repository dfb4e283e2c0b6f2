"""GIFT-Eval: up to twenty windows side by side at the end of every series; MASE and CRPS relative to seasonal naive.

Aksu et al. 2024, arXiv:2410.10393: 97 configurations of 55 sets, at a short horizon and, for some, at ten and fifteen
times that. A tenth of the shortest series decides how many windows there are; M4 has one. Values are pooled over
windows and series. The season of the benchmark's seasonal naive forecast is that of MASE (none for days and weeks).
"""

from collections.abc import Callable, Sequence
from math import ceil

from tsfm_lab.data.catalog import load
from tsfm_lab.data.registry import find, gift_eval_configurations
from tsfm_lab.data.series import SeriesCollection
from tsfm_lab.evaluation.task import LastWindows, Task, seasons

TEST_SHARE, MAX_WINDOWS = 0.1, 20


def num_windows(shortest: int, horizon: int, m4: bool = False) -> int:
    """min(20, max(1, ⌈.1 · shortest / horizon⌉)), 1 for M4; shortest: steps of the shortest series."""
    return 1 if m4 else min(MAX_WINDOWS, max(1, ceil(TEST_SHARE * shortest / horizon)))


def gift_eval_tasks(names: Sequence[str] | None = None) -> list[Task]:
    """A task for each configuration, "gift_eval/<set>[/<frequency>]/<term>"; None: all 97.

    Another registered set is taken the same way, at its registry's horizon.
    """
    tasks = []
    for name in gift_eval_configurations() if names is None else names:
        entry = find(name)
        if not entry.horizons:
            raise ValueError(f"{name} has no horizon in the registry; name a configuration of GIFT-Eval")
        season = seasons(name)[1]
        horizon = entry.horizons[0]
        tasks.append(Task("gift_eval", name, horizon, season, season, open=_opener(name, horizon)))
    return tasks


def rolling_windows(collection: SeriesCollection, horizon: int, name: str = "") -> LastWindows:
    """The benchmark's windows of a collection; name: of the set, for M4's rule."""
    m4 = "m4" in name.rpartition("gift_eval/")[2]
    return LastWindows(collection, horizon, num_windows(int(collection.lengths.min()), horizon, m4))


def _opener(name: str, horizon: int) -> Callable[[], LastWindows]:
    return lambda: rolling_windows(load(_set_of(name)), horizon, name)


def _set_of(name: str) -> str:
    """The set of a configuration: its name without the term."""
    return name.rpartition("/")[0] if name in gift_eval_configurations() else name
