"""Metrics of quantile forecasts: label y (... h), quantiles (... q h) at levels (q); `axis` as in `metrics.point`."""

from collections.abc import Sequence

import numpy as np

from tsfm_lab.metrics.aggregate import Axis, mean, ratio, total


def quantile_loss(label: np.ndarray, forecast: np.ndarray, level: float) -> np.ndarray:
    """2 |(y − ŷ)(1[y ≤ ŷ] − level)| at each step: (... h) -> (... h). NaN where the label is."""
    return 2 * np.abs((label - forecast) * ((label <= forecast) - level))


def weighted_quantile_loss(
    label: np.ndarray, quantiles: np.ndarray, levels: Sequence[float], axis: Axis = None
) -> np.ndarray:
    """mean over levels of Σ quantile_loss / Σ |y|: the CRPS of the tables, as a share of the series' size.

    At evenly spaced levels it approximates ∫ quantile_loss dq = CRPS, divided by mean |y|.
    """
    size = total(np.abs(label), label, axis)
    losses = [
        total(quantile_loss(label, forecast, q), label, axis) for q, forecast in _by_level(label, quantiles, levels)
    ]
    return ratio(np.mean(losses, axis=0), size)


def scaled_quantile_loss(
    label: np.ndarray, quantiles: np.ndarray, levels: Sequence[float], scale: np.ndarray, axis: Axis = None
) -> np.ndarray:
    """mean over levels and steps of quantile_loss / scale, with the scale (... 1) of MASE."""
    pairs = _by_level(label, quantiles, levels)
    return np.mean([mean(quantile_loss(label, forecast, q), label, scale, axis) for q, forecast in pairs], axis=0)


def coverage(label: np.ndarray, quantiles: np.ndarray, levels: Sequence[float], axis: Axis = None) -> np.ndarray:
    """Share of labels at or below each quantile, to be compared with its level: (q), or (q, axes that stay)."""
    pairs = _by_level(label, quantiles, levels)
    return np.stack([mean((label <= forecast).astype(float), label, axis=axis) for _, forecast in pairs])


def msis(
    label: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    scale: np.ndarray,
    alpha: float = 0.05,
    axis: Axis = None,
) -> np.ndarray:
    """Mean scaled interval score of the central (1 − alpha) interval [L, U]; Makridakis et al. 2020 (M4).

    mean (U − L + 2/α (L − y) 1[y < L] + 2/α (y − U) 1[y > U]) / scale; lower, upper: (... h), scale: (... 1) of MASE.
    """
    below, above = np.maximum(lower - label, 0), np.maximum(label - upper, 0)
    return mean(upper - lower + 2 / alpha * (below + above), label, scale, axis)


def _by_level(label: np.ndarray, quantiles: np.ndarray, levels: Sequence[float]) -> list[tuple[float, np.ndarray]]:
    """[(level, forecast (... h))]. Raises ValueError where shapes or levels do not fit or a forecast is incomplete."""
    expected = (*label.shape[:-1], len(levels), label.shape[-1])
    if quantiles.shape != expected:
        raise ValueError(
            f"quantiles must have the axes (... q h) = {expected} of label and levels, got {quantiles.shape}"
        )
    if not all(0 < q < 1 for q in levels):
        raise ValueError(f"quantile levels must lie between 0 and 1, got {list(levels)}")
    if np.isnan(quantiles).any(axis=-2)[np.isfinite(label)].any():
        raise ValueError("the quantiles have NaN where the label is known; score complete forecasts only")
    return [(q, quantiles[..., i, :]) for i, q in enumerate(levels)]
