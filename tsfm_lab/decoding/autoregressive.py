"""Autoregressive roll-outs of a next-token forecaster: sliding, growing, and with a cache."""

from __future__ import annotations

import torch
from torch import Tensor

from tsfm_lab.decoding.context import count_tokens, freeze, thaw
from tsfm_lab.models.patch_forecaster import CausalForecaster, PatchForecaster


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


@torch.no_grad()
def grow(model: PatchForecaster, context: Tensor, horizon: int, *, frozen: bool = False) -> Tensor:
    """Forecast token by token on a context that grows by each forecast: `context: (b t c) -> (b horizon c)`.

    frozen: keep the context's mean and standard deviation; else each step takes those of all it reads.

    Raises
    ------
    ValueError: when horizon is no positive multiple of the token.
    """
    p = model.output_token_len
    statistics = model.statistics(model.whole_tokens(context)) if frozen else None
    start = context.shape[1]
    for _ in range(count_tokens(horizon, p)):
        context = torch.cat([context, model(context, statistics)[:, -p:]], dim=1)
    return context[:, start:]


@torch.no_grad()
def roll_out(model: CausalForecaster, context: Tensor, horizon: int) -> Tensor:
    """`grow` with frozen statistics, each token read once: keys and values are kept. `(b t 1) -> (b horizon 1)`.

    Raises
    ------
    ValueError: when horizon is no positive multiple of the token, or `freeze` refuses the context.
    """
    steps = count_tokens(horizon, model.output_token_len)
    new, statistics = freeze(model, context)
    cache = model.new_cache(len(new), new.shape[1] + steps - 1)
    forecast: list[Tensor] = []
    for _ in range(steps):
        new = model.token_law(model.encode_tokens(new, cache)[:, -1:]).mean
        forecast.append(new)
    return thaw(torch.cat(forecast, dim=1), statistics)
