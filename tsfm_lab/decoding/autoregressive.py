"""Autoregressive roll-out of a next-token forecaster."""

from __future__ import annotations

import torch
from torch import Tensor

from tsfm_lab.models.patch_forecaster import PatchForecaster


@torch.no_grad()
def slide(model: PatchForecaster, context: Tensor, horizon: int) -> Tensor:
    """Forecast token by token on a context of constant length: append the last forecast, drop as many oldest steps.

    Each step normalises its window anew: OpenLTM's roll-out. `context: (b t c) -> (b horizon c)`, in steps; a horizon
    that is no whole number of tokens is cut.

    Raises
    ------
    ValueError: when horizon is not positive.
    """
    if horizon < 1:
        raise ValueError(f"horizon must be at least 1 step, got {horizon}")
    p = model.output_token_len
    forecast: list[Tensor] = []
    for _ in range(-(-horizon // p)):
        forecast.append(model(context)[:, -p:])
        context = torch.cat([context[:, p:], forecast[-1]], dim=1)
    return torch.cat(forecast, dim=1)[:, :horizon]
