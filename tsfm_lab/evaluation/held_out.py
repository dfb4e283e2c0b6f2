"""Held-out windows of real series, and the score of a model on them relative to the seasonal naive forecast."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.stats import gmean
from torch import nn

from tsfm_lab.data.catalog import load
from tsfm_lab.data.registry import find
from tsfm_lab.data.series import SeriesCollection
from tsfm_lab.forecast import LEVELS, ArrayForecast, make_forecaster
from tsfm_lab.forecast.naive import seasonal_naive
from tsfm_lab.metrics import mase, seasonal_error, weighted_quantile_loss

METRICS = ("mase", "wql")

Forecast = Callable[[list[np.ndarray], int], ArrayForecast]


@dataclass(frozen=True)
class HeldOutSet:
    """The last windows of the series of one set, variate by variate.

    histories: s arrays (t) float32, all that comes before a window. labels: (s h). season, mase_season: steps, of the
    seasonal naive forecast and of the MASE scale.
    """

    name: str
    histories: list[np.ndarray] = field(repr=False)
    labels: np.ndarray = field(repr=False)
    season: int
    mase_season: int

    @property
    def horizon(self) -> int:
        return self.labels.shape[1]

    def score(self, forecast: Forecast) -> dict[str, float]:
        """MASE of the median and weighted quantile loss over nine levels (the CRPS of the tables), over all windows."""
        quantiles = forecast(self.histories, self.horizon).quantiles
        scale = np.stack([seasonal_error(history, self.mase_season) for history in self.histories])
        return {
            "mase": float(mase(self.labels, quantiles[:, LEVELS.index(0.5)], scale)),
            "wql": float(weighted_quantile_loss(self.labels, quantiles, LEVELS)),
        }

    def naive_score(self) -> dict[str, float]:
        """Scores of the seasonal naive forecast; its quantiles are all its point forecast."""
        return self.score(self.naive)

    def naive(self, histories: list[np.ndarray], horizon: int) -> ArrayForecast:
        """The seasonal naive forecast of each history."""
        point = np.stack([seasonal_naive(history, horizon, self.season) for history in histories])
        return ArrayForecast(point, np.repeat(point[:, None], len(LEVELS), axis=1), LEVELS)


def open_held_out(name: str, *, num_series: int, num_windows: int, horizon: int | None = None) -> HeldOutSet:
    """The last `num_windows` windows, side by side, of up to `num_series` series of a registered set.

    horizon: steps; None: the first that the registry names. Series are taken evenly from the set, variates are series
    of their own, and windows with less history than two horizons or without an observed label are left out.
    Raises ValueError where the set has no horizon or no such window.
    """
    entry = find(name)
    if horizon is None and not entry.horizons:
        raise ValueError(f"{name} has no horizon in the registry; name a set of a held-out pool")
    collection, h = load(name, repair=True), horizon or entry.horizons[0]
    histories, labels = [], []
    for row in _rows(collection, num_series):
        for window in range(num_windows, 0, -1):
            begin = len(row) - window * h
            label = row[max(begin, 0) : begin + h]
            if begin >= 2 * h and not np.isnan(label).all() and not np.isnan(row[:begin]).all():
                histories.append(row[:begin])
                labels.append(label)
    if not labels:
        raise ValueError(f"no series of {name} is long enough for a window of {h} steps after {2 * h} of history")
    return HeldOutSet(name, histories, np.stack(labels), entry.season_length, entry.mase_season)


def _rows(collection: SeriesCollection, num_series: int) -> list[np.ndarray]:
    """(t) arrays of up to `num_series` variates, evenly from the collection."""
    some = np.unique(np.linspace(0, len(collection) - 1, min(num_series, len(collection))).astype(int))
    rows = [row for i in some for row in collection[int(i)].target]
    return [rows[i] for i in np.unique(np.linspace(0, len(rows) - 1, min(num_series, len(rows))).astype(int))]


class HeldOutScore:
    """Scores of a MOIRAI-like module on held-out sets, as validation during training.

    Called with a module: MASE and WQL as a share of the seasonal naive forecast's, geometric mean over the sets; below
    1 is better than naive.

    sets: from `open_held_out`. context_length: steps; num_samples: drawn for each forecast; batch_size: windows.
    """

    names = METRICS

    def __init__(
        self, sets: Sequence[HeldOutSet], *, context_length: int, num_samples: int = 100, batch_size: int = 64
    ):
        self.sets, self.context_length = list(sets), context_length
        self.num_samples, self.batch_size = num_samples, batch_size
        self.naive = {held_out.name: held_out.naive_score() for held_out in self.sets}

    def __call__(self, module: nn.Module) -> dict[str, float]:
        scores = self.by_set(module)
        return {
            metric: float(gmean([score[metric] / self.naive[name][metric] for name, score in scores.items()]))
            for metric in METRICS
        }

    def by_set(self, module: nn.Module) -> dict[str, dict[str, float]]:
        """MASE and WQL on each set, absolute."""
        return {held_out.name: held_out.score(self.forecaster(module)) for held_out in self.sets}

    def forecaster(self, module: nn.Module) -> Forecast:
        """The module as a forecast of arrays."""
        model = make_forecaster(module, context_length=self.context_length, num_samples=self.num_samples)
        return lambda histories, horizon: model.forecast(histories, horizon, batch_size=self.batch_size)
