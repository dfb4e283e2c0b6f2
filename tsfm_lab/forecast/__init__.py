"""Forecasting: DataFrames, arrays or GluonTS data sets in, quantiles or samples out."""

from tsfm_lab.forecast.forecaster import ArrayForecast, Forecaster
from tsfm_lab.forecast.kinds import make_forecaster
from tsfm_lab.forecast.moirai import MoiraiForecast
from tsfm_lab.forecast.moirai2 import Moirai2Forecast
from tsfm_lab.forecast.moirai_moe import MoiraiMoEForecast
from tsfm_lab.forecast.naive import Drift, Naive, SeasonalNaive
from tsfm_lab.forecast.opening import load
from tsfm_lab.forecast.prediction import LEVELS, Prediction
from tsfm_lab.forecast.quantile_linear import QuantileLinear
from tsfm_lab.forecast.statistical import ARIMA, ETS, Theta
from tsfm_lab.forecast.timer import TimerForecast

__all__ = [
    "ARIMA",
    "ETS",
    "LEVELS",
    "ArrayForecast",
    "Drift",
    "Forecaster",
    "Moirai2Forecast",
    "MoiraiForecast",
    "MoiraiMoEForecast",
    "Naive",
    "Prediction",
    "QuantileLinear",
    "SeasonalNaive",
    "Theta",
    "TimerForecast",
    "load",
    "make_forecaster",
]
