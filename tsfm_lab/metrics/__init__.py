"""Forecast metrics on numpy arrays, with GluonTS's treatment of missing values and zero denominators."""

from tsfm_lab.metrics.point import mae, mase, mse, nd, nrmse, seasonal_error, smape
from tsfm_lab.metrics.probabilistic import coverage, msis, quantile_loss, scaled_quantile_loss, weighted_quantile_loss

__all__ = [
    "coverage",
    "mae",
    "mase",
    "mse",
    "msis",
    "nd",
    "nrmse",
    "quantile_loss",
    "scaled_quantile_loss",
    "seasonal_error",
    "smape",
    "weighted_quantile_loss",
]
