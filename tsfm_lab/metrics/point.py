"""Metrics of point forecasts ŷ of a label y; definitions as in Hyndman & Athanasopoulos (2021), ch. 5.8.

Everywhere label and forecast are (... h), h steps of horizon, and `axis` names the axes of the label that are reduced
(None: all, one number). Missing labels and zero denominators are left out, see `metrics.aggregate`.
"""

import numpy as np

from tsfm_lab.metrics.aggregate import Axis, mean, ratio, total


def mse(label: np.ndarray, forecast: np.ndarray, axis: Axis = None) -> np.ndarray:
    """mean (y − ŷ)²."""
    return mean(np.square(label - forecast), label, axis=axis)


def mae(label: np.ndarray, forecast: np.ndarray, axis: Axis = None) -> np.ndarray:
    """mean |y − ŷ|."""
    return mean(np.abs(label - forecast), label, axis=axis)


def smape(label: np.ndarray, forecast: np.ndarray, axis: Axis = None) -> np.ndarray:
    """mean 2|y − ŷ| / (|y| + |ŷ|), a number between 0 and 2 (not a percentage); steps with y = ŷ = 0 are left out."""
    return mean(2 * np.abs(label - forecast), label, np.abs(label) + np.abs(forecast), axis=axis)


def mase(label: np.ndarray, forecast: np.ndarray, scale: np.ndarray, axis: Axis = None) -> np.ndarray:
    """mean |y − ŷ| / scale.

    scale: (... 1), the `seasonal_error` of each series' past. Series whose scale is 0 or NaN are left out.
    """
    return mean(np.abs(label - forecast), label, scale, axis=axis)


def nd(label: np.ndarray, forecast: np.ndarray, axis: Axis = None) -> np.ndarray:
    """Normalised deviation, Σ |y − ŷ| / Σ |y|; NaN or infinite where every label is 0."""
    return ratio(total(np.abs(label - forecast), label, axis), total(np.abs(label), label, axis))


def nrmse(label: np.ndarray, forecast: np.ndarray, axis: Axis = None) -> np.ndarray:
    """√ mean (y − ŷ)² / mean |y|; NaN or infinite where every label is 0."""
    return ratio(np.sqrt(mse(label, forecast, axis)), mean(np.abs(label), label, axis=axis))


def seasonal_error(past: np.ndarray, season: int) -> np.ndarray:
    """mean_t |y_t − y_{t−season}| of the past, the scale of MASE and MSIS: (... t) -> (... 1).

    Pairs with a missing value are left out. A past of no more than `season` steps is scaled with season 1; one without
    a usable pair has scale NaN.
    """
    steps = past.shape[-1]
    # differs from gluonts.ev: season = steps leaves no pair there and gives 0
    season = season if season < steps else 1
    change = np.abs(past[..., season:] - past[..., : max(steps - season, 0)])
    return mean(np.nan_to_num(change), change, axis=-1)[..., None]
