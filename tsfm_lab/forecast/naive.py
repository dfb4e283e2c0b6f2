"""Forecasts that repeat the past, with the normal law of their errors; Hyndman & Athanasopoulos 2021, ch. 5.2 and 5.5.

Of every forecast the standard deviation follows from σ, the root mean square of its one-step errors in the history, by
assuming uncorrelated normal ones. A history of one value, or a constant one, has σ = 0.
"""

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from einops import rearrange

from tsfm_lab.data.series import Series
from tsfm_lab.forecast.forecaster import Forecaster
from tsfm_lab.forecast.prediction import Prediction
from tsfm_lab.forecast.windows import Windows


def last_observed(values: np.ndarray) -> np.ndarray:
    """The last value that is not NaN: (... t) -> (...); NaN where there is none."""
    back = (~np.isnan(values[..., ::-1])).argmax(axis=-1)
    return np.take_along_axis(values, values.shape[-1] - 1 - back[..., None], axis=-1)[..., 0]


def seasonal_naive(history: np.ndarray, horizon: int, season: int) -> np.ndarray:
    """ŷ_{T+k} = the last observed value of the same phase: (... t) -> (... h).

    season: steps; 1 repeats the last observed value. A phase without an observed value takes the last observed value of
    all, and so does everything where a history, from its first observed value on, is shorter than a season.
    Raises ValueError for a history without an observed value.
    """
    observed = ~np.isnan(history)
    if not observed.any(axis=-1).all():
        raise ValueError("the history must have an observed value, got none")
    t = history.shape[-1]
    last = last_observed(history)[..., None]
    lead = [(0, 0)] * (history.ndim - 1) + [(-t % season, 0)]
    phases = rearrange(np.pad(history, lead, constant_values=np.nan), "... (n s) -> ... s n", s=season)
    cycle = last_observed(phases)
    short = (t - observed.argmax(axis=-1) < season)[..., None]
    cycle = np.where(short | np.isnan(cycle), last, cycle)
    return cycle[..., np.arange(horizon) % season]


def root_mean_square(errors: np.ndarray) -> np.ndarray:
    """√ mean e² of the errors that are not NaN: (... t) -> (... 1); 0 where there is none."""
    known = ~np.isnan(errors)
    squares = np.square(np.nan_to_num(errors)).sum(axis=-1, keepdims=True)
    return np.sqrt(squares / np.maximum(known.sum(axis=-1, keepdims=True), 1))


class ClassicalForecaster(Forecaster):
    """Base of the forecasters that read each variate of each series by itself and need no training.

    Parameters
    ----------
    prediction_length: h, steps; may be given to `forecast` instead.
    context_length: steps of history that are read.
    season: steps; None: that of the series' frequency (D 7, W 52, h 24, …; 1 of arrays).
    target_dim: variates of an item.
    """

    pretraining = ()

    def __init__(
        self,
        prediction_length: int | None = None,
        context_length: int = 1024,
        season: int | None = None,
        target_dim: int = 1,
    ):
        super().__init__(prediction_length, context_length, target_dim)
        if season is not None and season < 1:
            raise ValueError(f"season must be at least 1 step, got {season}")
        self.season = season

    def predict_series(self, series: Sequence[Series], horizon: int, generator: torch.Generator) -> Prediction:
        """As `Forecaster.predict_series`; refuses a variate without an observed value in what is read of it."""
        for item in series:
            if np.isnan(item.target[:, -self.context_length :]).all(axis=1).any():
                raise ValueError(
                    f"series {item.item_id!r} has no observed value in its last {self.context_length} steps; leave it "
                    "out or give a longer context_length"
                )
        return super().predict_series(series, horizon, generator)

    def predict(self, windows: Windows, horizon: int, generator: torch.Generator) -> Prediction:
        """The law of each season's series; nothing is drawn."""
        b, c = windows.target.shape[:2]
        mean, stdev = np.empty((2, b, c, horizon), dtype=np.float32)
        seasons = np.full(b, self.season or 1) if self.season or windows.season is None else windows.season
        for season in np.unique(seasons):
            items = np.flatnonzero(seasons == season)
            history = windows.target[items].astype(np.float64)
            mean[items], stdev[items] = self.law(history, horizon, int(season))
        return Prediction(mean=mean, stdev=stdev)

    @abstractmethod
    def law(self, history: np.ndarray, horizon: int, season: int) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation after each history, float64, NaN missing: (b c t) -> (b c h) each."""


class SeasonalNaive(ClassicalForecaster):
    """ŷ_{T+k} = y_{T+k−m(j+1)}, j = ⌊(k−1)/m⌋ whole seasons m earlier; σ_k = σ √(j+1)."""

    def law(self, history: np.ndarray, horizon: int, season: int) -> tuple[np.ndarray, np.ndarray]:
        """See `ClassicalForecaster.law`. Where no pair of steps is a season apart, σ is that of steps that are one."""
        apart = history[..., season:] - history[..., :-season]
        no_pair = np.isnan(apart).all(axis=-1, keepdims=True)
        sigma = np.where(no_pair, root_mean_square(np.diff(history)), root_mean_square(apart))
        return seasonal_naive(history, horizon, season), sigma * np.sqrt(1 + np.arange(horizon) // season)


class Naive(SeasonalNaive):
    """ŷ_{T+k} = y_T; σ_k = σ √k."""

    def law(self, history: np.ndarray, horizon: int, season: int) -> tuple[np.ndarray, np.ndarray]:
        """See `ClassicalForecaster.law`."""
        return super().law(history, horizon, 1)


class Drift(ClassicalForecaster):
    """ŷ_{T+k} = y_T + k (y_T − y_1)/(T−1), T observed steps from first to last; σ_k = σ √(k (1 + k/(T−1)))."""

    def law(self, history: np.ndarray, horizon: int, season: int) -> tuple[np.ndarray, np.ndarray]:
        """See `ClassicalForecaster.law`. A history of one value has no drift."""
        observed, k = ~np.isnan(history), np.arange(1, horizon + 1)
        t = history.shape[-1]
        begin, end = observed.argmax(axis=-1), t - 1 - observed[..., ::-1].argmax(axis=-1)
        steps = np.maximum(end - begin, 1)[..., None]
        first, last = last_observed(history[..., ::-1])[..., None], last_observed(history)[..., None]
        slope = (last - first) / steps
        sigma = root_mean_square(np.diff(history) - slope)
        return last + slope * k, sigma * np.sqrt(k * (1 + k / steps))
