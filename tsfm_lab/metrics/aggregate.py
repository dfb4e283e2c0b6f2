"""Means and ratios that leave out what cannot be scored.

A value is left out where the label is NaN or infinite, or where a pointwise denominator is 0. Where nothing is left,
the metric is NaN. These are the rules of `gluonts.ev`, which GIFT-Eval and the Monash tables use.
"""

import numpy as np

Axis = int | tuple[int, ...] | None


def mean(values: np.ndarray, label: np.ndarray, denominator: np.ndarray | float = 1.0, axis: Axis = None) -> np.ndarray:
    """mean(values / denominator) over `axis`, where label is finite and denominator is not 0.

    values, label: (... h). denominator: broadcasts to them; NaN where it is unknown, which leaves the value out too.
    Raises ValueError for a NaN among the values where the label is finite: a forecast must be complete.
    """
    label, denominator = np.broadcast_arrays(label, denominator)
    usable = np.isfinite(label)
    if np.isnan(values[usable]).any():
        raise ValueError("the forecast has NaN where the label is known; score complete forecasts only")
    usable = usable & (denominator != 0) & ~np.isnan(denominator)
    scaled = np.divide(values, denominator, out=np.zeros(label.shape), where=usable)
    return ratio(scaled.sum(axis=axis), usable.sum(axis=axis))


def total(values: np.ndarray, label: np.ndarray, axis: Axis = None) -> np.ndarray:
    """Σ values over `axis`, where label is finite. values, label: (... h)."""
    return np.where(np.isfinite(label), values, 0.0).sum(axis=axis)


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """numerator / denominator; NaN for 0/0, infinite for x/0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.true_divide(numerator, denominator)
