"""Between a context in the data's units and tokens in the units of its own, frozen, mean and standard deviation."""

from __future__ import annotations

from einops import rearrange
from torch import Tensor

from tsfm_lab.models.patch_forecaster import PatchForecaster, Statistics


def count_tokens(horizon: int, token_len: int) -> int:
    """Tokens of a horizon in steps. Raises ValueError unless it is one token or several whole ones."""
    if horizon < 1 or horizon % token_len:
        raise ValueError(
            f"horizon must be a positive multiple of the token of {token_len} steps, got {horizon}; decode whole "
            "tokens and cut the forecast"
        )
    return horizon // token_len


def freeze(model: PatchForecaster, context: Tensor) -> tuple[Tensor, Statistics]:
    """A context's newest whole tokens in units of its statistics: `context: (b t 1) -> ((b n p), statistics)`.

    Raises
    ------
    ValueError: when a row holds several variates, or the model's tokens read and forecast different lengths.
    """
    p = model.input_token_len
    if model.output_token_len != p:
        raise ValueError(
            f"decoding with a cache needs output_token_len = input_token_len = {p}, got {model.output_token_len}"
        )
    x = model.whole_tokens(context)
    if x.shape[2] != 1:
        raise ValueError(
            f"decoding with a cache takes one variate a row, got {x.shape[2]}: positions of several depend on the "
            "length; rearrange the context, 'b t c -> (b c) t 1'"
        )
    statistics = model.statistics(x)
    return rearrange(model.normalise(x, statistics), "b (n p) 1 -> b n p", p=p), statistics


def thaw(tokens: Tensor, statistics: Statistics) -> Tensor:
    """Tokens in the data's units, one after the other: `tokens: (b n p) -> (b n·p 1)`."""
    return rearrange(tokens, "b n p -> b (n p) 1") * statistics.stdev + statistics.mean
