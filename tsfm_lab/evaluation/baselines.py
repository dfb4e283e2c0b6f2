"""Forecasts that need no training."""

import numpy as np


def seasonal_naive(history: np.ndarray, horizon: int, season: int) -> np.ndarray:
    """ŷ_{T+k} = the last observed value of the same phase: (t) -> (h).

    season: steps. A phase without an observed value takes the last observed value of all, and so does everything where
    the history is no longer than a season.
    Raises ValueError for a history without an observed value.
    """
    observed = np.flatnonzero(~np.isnan(history))
    if not len(observed):
        raise ValueError("the history must have an observed value, got none")
    t = len(history)
    forecast = np.full(horizon, history[observed[-1]])
    if t <= season:
        return forecast
    for phase in range(min(season, horizon)):
        same = observed[(t + phase - observed) % season == 0]
        if len(same):
            forecast[phase::season] = history[same[-1]]
    return forecast
