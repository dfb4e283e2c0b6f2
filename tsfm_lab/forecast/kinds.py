"""Which forecaster goes with which model."""

from inspect import signature
from typing import Any

from torch import nn

from tsfm_lab.forecast.forecaster import Forecaster
from tsfm_lab.forecast.moirai import MoiraiForecast
from tsfm_lab.forecast.moirai2 import Moirai2Forecast
from tsfm_lab.forecast.moirai_moe import MoiraiMoEForecast
from tsfm_lab.forecast.timer import TimerForecast
from tsfm_lab.models.patch_forecaster import PatchForecaster

FORECASTERS: dict[str, type[Forecaster]] = {
    "moirai": MoiraiForecast,
    "moirai_hybrid": MoiraiForecast,
    "moirai_moe": MoiraiMoEForecast,
    "moirai_moe_hybrid": MoiraiMoEForecast,
    "moirai2": Moirai2Forecast,
    "moirai2_hybrid": Moirai2Forecast,
}


def make_forecaster(module: nn.Module, *, num_samples: int | None = None, **options: Any) -> Forecaster:
    """The forecaster of a model: of every one of the Timer family the same, of a packed one by its `model_type`.

    num_samples: draws of a forecaster that draws; one that does not takes none.
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
    forecaster = FORECASTERS[model_type]
    if num_samples is not None and "num_samples" in signature(forecaster).parameters:
        options["num_samples"] = num_samples
    return forecaster(module, **options)
