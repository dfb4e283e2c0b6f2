"""Forecast metrics on numpy arrays, with GluonTS's treatment of missing values and zero denominators."""

from tsfm_lab.metrics.point import mae, mase, mse, nd, nrmse, seasonal_error, smape
from tsfm_lab.metrics.probabilistic import coverage, msis, quantile_loss, scaled_quantile_loss, weighted_quantile_loss
from tsfm_lab.metrics.sums import NAMES, counts_of, error_sums, join_sums, metrics_of

__all__ = [
    "NAMES",
    "counts_of",
    "coverage",
    "error_sums",
    "join_sums",
    "mae",
    "mase",
    "metrics_of",
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
