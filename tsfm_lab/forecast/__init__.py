"""Forecasting: DataFrames, arrays or GluonTS data sets in, quantiles or samples out."""

from tsfm_lab.forecast.forecaster import ArrayForecast, Forecaster
from tsfm_lab.forecast.kinds import make_forecaster
from tsfm_lab.forecast.moirai import MoiraiForecast
from tsfm_lab.forecast.prediction import Prediction

__all__ = ["ArrayForecast", "Forecaster", "MoiraiForecast", "Prediction", "make_forecaster"]
