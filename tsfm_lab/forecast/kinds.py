"""Which forecaster goes with which model."""

from typing import Any

from torch import nn

from tsfm_lab.forecast.forecaster import Forecaster
from tsfm_lab.forecast.moirai import MoiraiForecast

FORECASTERS: dict[str, type[Forecaster]] = {"moirai": MoiraiForecast, "moirai_hybrid": MoiraiForecast}


def make_forecaster(module: nn.Module, **options: Any) -> Forecaster:
    """The forecaster of a packed model by its `model_type`; options of that forecaster's constructor.

    Raises
    ------
    ValueError: a model that none of the forecasters is for.
    """
    model_type = getattr(module, "model_type", None)
    if model_type not in FORECASTERS:
        raise ValueError(
            f"{type(module).__name__} has no forecaster; models with one are of type {', '.join(FORECASTERS)}"
        )
    return FORECASTERS[model_type](module, **options)
