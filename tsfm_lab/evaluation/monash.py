"""The Monash archive: the last horizon of every series is forecast from all that comes before it.

Godahewa et al. 2021, arXiv:2105.06643. MAE, sMAPE and MASE are the mean over the series of each series' own.
"""

from collections.abc import Sequence

from tsfm_lab.data.catalog import load
from tsfm_lab.data.registry import find
from tsfm_lab.evaluation.task import LastWindows, Task, seasons


def monash_tasks(names: Sequence[str], max_series: int | None = None) -> list[Task]:
    """A task for each set at the registry's horizon.

    max_series: the first ones, which is not the published protocol; None: all.
    Raises ValueError for a set without a horizon.
    """
    tasks = []
    for name in names:
        horizons = find(name).horizons
        if not horizons:
            raise ValueError(f"{name} has no horizon in the registry; name a set of a held-out pool")
        tasks.append(Task("monash", name, horizons[0], *seasons(name), open=_opener(name, horizons[0], max_series)))
    return tasks


def _opener(name: str, horizon: int, max_series: int | None):
    return lambda: LastWindows(load(name, repair=True)[:max_series], horizon)
