"""Which forecaster goes with which model."""

from typing import Any

from torch import nn

from tsfm_lab.forecast.forecaster import Forecaster
from tsfm_lab.forecast.moirai import MoiraiForecast
from tsfm_lab.forecast.timer import TimerForecast
from tsfm_lab.models.patch_forecaster import PatchForecaster

FORECASTERS: dict[str, type[Forecaster]] = {"moirai": MoiraiForecast, "moirai_hybrid": MoiraiForecast}


def make_forecaster(module: nn.Module, **options: Any) -> Forecaster:
    """The forecaster of a model: of every one of the Timer family the same, of a packed one by its `model_type`.

    options: of that forecaster's constructor.

    Raises
    ------
    ValueError: a model that none of the forecasters is for.
    """
    if isinstance(module, PatchForecaster):
        return TimerForecast(module, **options)
    model_type = getattr(module, "model_type", None)
    if model_type not in FORECASTERS:
        raise ValueError(
            f"{type(module).__name__} has no forecaster; models with one are of type {', '.join(FORECASTERS)}"
        )
    return FORECASTERS[model_type](module, **options)
