"""Errors of rolled forecasts on the standardised windows of the long-horizon benchmark."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import Dataset

from tsfm_lab.decoding.autoregressive import slide
from tsfm_lab.models.patch_forecaster import PatchForecaster
from tsfm_lab.training.timer_data import some_windows

RollOut = Callable[[PatchForecaster, Tensor, int], Tensor]


@dataclass(frozen=True)
class ForecastErrors:
    """Errors in standardised units, over all windows, steps and variates. horizon: steps. windows: how many."""

    horizon: int
    windows: int
    mse: float
    mae: float


def forecast_errors(
    model: PatchForecaster,
    windows: Dataset,
    *,
    roll_out: RollOut = slide,
    batch_size: int = 64,
    max_windows: int | None = None,
) -> ForecastErrors:
    """MSE and MAE of rolled forecasts over windows (x, y), y the steps after x: its length is the horizon.

    windows: `make_windows(…, part, output_token_len=horizon, autoregressive=False)`. With covariates only the last
    variate counts. max_windows: as many, evenly spaced; None: all, as published figures need.
    roll_out: (model, context (b t c), horizon) -> (b horizon c).
    """
    device = next(model.parameters()).device
    variates = slice(-1, None) if getattr(model, "covariate", False) else slice(None)
    squared = absolute = count = number = 0.0
    for x, y in some_windows(windows, max_windows, batch_size):
        error = (roll_out(model, x.to(device), y.shape[1]).cpu() - y)[..., variates].to(torch.float64)
        squared, absolute = squared + error.square().sum().item(), absolute + error.abs().sum().item()
        count, number = count + error.numel(), number + len(x)
    return ForecastErrors(y.shape[1], int(number), squared / count, absolute / count)
