"""Forecast the windows of a task and score them; a folder of results that grows task by task and can be resumed."""

import logging
import time
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from tsfm_lab.data.registry import in_domain
from tsfm_lab.data.series import Series
from tsfm_lab.evaluation.results import Results
from tsfm_lab.evaluation.task import Task, Window
from tsfm_lab.forecast import LEVELS, Forecaster, load
from tsfm_lab.forecast.naive import ClassicalForecaster
from tsfm_lab.metrics import error_sums, join_sums, seasonal_error
from tsfm_lab.metrics.sums import Sums

logger = logging.getLogger(__name__)

Model = str | Forecaster | Callable[[Task], Forecaster]
RECENT = 5  # horizons of history that a shift is measured against
BLANK = "a history without an observed value, taken as 0"


@dataclass(frozen=True)
class Evaluation:
    """What a task came to. sums: of `metrics.error_sums`, a row for each window and variate, in the task's order.

    item: (n) number of the series; shift: (n), see `level_shift`. replaced: variates that a simpler forecast stood in
    for, by reason. left_out: windows without a step of history. seconds: of forecasting.
    """

    sums: Sums
    item: np.ndarray
    shift: np.ndarray
    replaced: dict[str, int]
    left_out: int
    seconds: float


def evaluate(
    models: Mapping[str, Model],
    tasks: Sequence[Task],
    folder: Path,
    *,
    run: str = "",
    seed: int = 0,
    batch_size: int | None = None,
    progress: bool = False,
) -> Results:
    """Score every model on every task; what is in the folder already is not done again.

    Parameters
    ----------
    models: by the name that the table gives them: a forecaster, what `load` opens, or a function from the task to one.
    folder: of the results; one file for each model, seed and task, written when the task is done.
    run, seed: for the table; the draws of a forecast follow the seed.
    batch_size: series of one pass; None: as memory allows.

    A task that fails is recorded with its error, logged as a warning, and tried again the next time. A model that was
    pretrained on a task's data is warned of, and its rows say "in domain".
    """
    results = Results(folder)
    pairs = [(name, task) for task in tasks for name in models if not results.has(name, seed, task)]
    warned: set[tuple[str, str]] = set()
    opened: dict[str, Forecaster] = {}
    for name, task in tqdm(pairs, desc="evaluate", unit="task", disable=not progress):
        try:
            if isinstance(models[name], str) and name not in opened:
                opened[name] = load(models[name])
            forecaster = open_model(opened.get(name, models[name]), task)
            mark, seen = domain_of(forecaster, task.data)
            if seen and (name, task.data) not in warned:
                warnings.warn(f"{task.data} is not held out for {name}, which was pretrained on {seen}", stacklevel=2)
                warned.add((name, task.data))
            found = evaluate_task(forecaster, task, seed=seed, batch_size=batch_size)
        except Exception as error:  # whatever one data set does, the others are worth having
            logger.warning("%s on %s: %s: %s", name, task.name, type(error).__name__, error)
            results.add_failure(name, seed, task, error, run=run)
            continue
        results.add(name, seed, task, found, mark=mark, run=run)
    return results


def open_model(model: Forecaster | Callable[[Task], Forecaster], task: Task) -> Forecaster:
    """The forecaster of a task; a classical one takes the task's season unless it has its own."""
    model = copy(model if isinstance(model, Forecaster) else model(task))
    model.replaced = Counter()
    if isinstance(model, ClassicalForecaster) and model.season is None:
        model.season = task.season
    return model


def domain_of(forecaster: Forecaster, data: str) -> tuple[str, str]:
    """ "held out", "in domain" or, where the pretraining is not recorded, "unknown"; and the set that was seen, how."""
    if forecaster.pretraining is None:
        return "unknown", ""
    overlaps = in_domain(data, list(forecaster.pretraining))
    return ("in domain", f"{overlaps[0].pretraining} ({overlaps[0].how})") if overlaps else ("held out", "")


def evaluate_task(forecaster: Forecaster, task: Task, *, seed: int = 0, batch_size: int | None = None) -> Evaluation:
    """Forecast and score every window of a task.

    A forecaster of one variate is given the variates of a window one by one. Raises ValueError where it was built for
    another number of them, or there is no window.
    """
    windows = task.open()
    if not len(windows):
        raise ValueError(f"{task.data} has no series longer than the horizon of {task.horizon} steps")
    variates = windows[0].label.shape[0]
    if forecaster.target_dim not in (1, variates):
        raise ValueError(f"{task.data} has {variates} variates, the forecaster was built for {forecaster.target_dim}")
    size = batch_size or forecaster.batch_size(task.horizon)
    step = max(1, size // variates) if forecaster.target_dim == 1 else size
    generator = torch.Generator().manual_seed(seed)
    parts, items, shifts, blank, seconds = [], [], [], 0, 0.0
    for begin in range(0, len(windows), step):
        batch = [windows[i] for i in range(begin, min(begin + step, len(windows)))]
        histories = [window.history for window in batch]
        if forecaster.target_dim == 1:
            histories = [row for history in histories for row in _rows(history)]
        read = [history.target[:, -forecaster.context_length :] for history in histories]
        empty = [i for i, target in enumerate(read) if np.isnan(target).all(axis=1).any()]
        for i in empty:
            histories[i] = _with_zeros(histories[i], forecaster.context_length)
        blank += len(empty)
        start = time.perf_counter()
        mean, quantiles = forecaster.predict_series(histories, task.horizon, generator).summarise(LEVELS)
        seconds += time.perf_counter() - start
        parts.append(_score(batch, mean, quantiles, task.mase_season))
        items += [window.item for window in batch for _ in range(variates)]
        shifts += [level_shift(window, row) for window in batch for row in range(variates)]
    replaced = {**forecaster.replaced, **({BLANK: blank} if blank else {})}
    left_out = getattr(windows, "left_out", 0)
    return Evaluation(join_sums(parts), np.array(items), np.array(shifts), replaced, left_out, seconds)


def level_shift(window: Window, variate: int) -> float:
    """|mean of the label − mean of the last 5 h steps| in standard deviations of these; NaN where unknown."""
    label = window.label[variate]
    recent = window.history.target[variate, -RECENT * len(label) :]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of means of nothing, which are NaN
        change, spread = abs(np.nanmean(label) - np.nanmean(recent)), np.nanstd(recent)
    if change == 0:
        return 0.0
    return float(change / spread) if spread > 0 else float("inf") if spread == 0 else float("nan")


def _with_zeros(history: Series, length: int) -> Series:
    """The last `length` steps of a history with zeros for the variates that have no value there."""
    history = history.window(max(history.length - length, 0), history.length)
    target = history.target.copy()
    target[np.isnan(target).all(axis=1)] = 0.0
    return replace(history, target=target)


def _rows(history: Series) -> list[Series]:
    """Each variate of a history as a series of its own."""
    if history.num_variates == 1:
        return [history]
    return [replace(history, item_id=f"{history.item_id}[{v}]", target=row) for v, row in enumerate(history.target)]


def _score(batch: Sequence[Window], mean: np.ndarray, quantiles: np.ndarray, mase_season: int) -> Sums:
    """Sums of a batch: mean (b c h) and quantiles (b c q h), or with every variate in a row of its own."""
    label = np.concatenate([window.label for window in batch]).astype(np.float64)
    scale = np.concatenate([seasonal_error(window.history.target.astype(np.float64), mase_season) for window in batch])
    h = label.shape[-1]
    return error_sums(label, mean.reshape(-1, h), quantiles.reshape(-1, len(LEVELS), h), LEVELS, scale)
