"""What every forecaster of patches shares: whole tokens, instance normalisation, a Gaussian law, published weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import NamedTuple, Self

import torch
from einops import rearrange
from torch import Tensor, nn

from tsfm_lab.models.checkpoint import CheckpointMixin, load_strictly, open_pth
from tsfm_lab.nn.kv_cache import KVCache


class Statistics(NamedTuple):
    """A window's mean and standard deviation, (b 1 c) each, in the data's units."""

    mean: Tensor
    stdev: Tensor


class TokenLaw(NamedTuple):
    """A Gaussian, independent over steps: its mean and log-variance, of one shape; logvar None is a point forecast."""

    mean: Tensor
    logvar: Tensor | None


class PatchForecaster(nn.Module, CheckpointMixin, ABC):
    """Base of the Timer family: reads whole tokens of `input_token_len` steps, forecasts `output_token_len` steps.

    A subclass sets `input_token_len`, `output_token_len` and `use_norm`, and computes `law`.
    """

    input_token_len: int
    output_token_len: int
    use_norm: bool
    epsilon = 1e-5  # added to a window's variance

    @abstractmethod
    def law(self, x: Tensor, statistics: Statistics | None = None) -> TokenLaw:
        """The law of the steps after each token, as `forward`, with its log-variance, in the data's units."""

    def forward(self, x: Tensor, statistics: Statistics | None = None) -> Tensor:
        """Forecast means after every token: `x: (b t c) -> (b n·output_token_len c)`, n = t // input_token_len tokens.

        The last output_token_len rows are the forecast proper; the others are what training compares. A ragged x keeps
        its newest n·input_token_len steps. NaN goes through.
        statistics: freeze the normalisation at these; None: those of x.

        Raises
        ------
        ValueError: when x is not (b t c) or is shorter than a token.
        """
        return self.law(x, statistics).mean

    def whole_tokens(self, x: Tensor) -> Tensor:
        """The newest whole tokens of a window: `x: (b t c) -> (b n·P c)`. Raises ValueError when there is none."""
        if x.ndim != 3:
            raise ValueError(f"x must be (batch time variate), got shape {tuple(x.shape)}")
        n = x.shape[1] // self.input_token_len
        if n == 0:
            raise ValueError(f"x must hold at least one token of {self.input_token_len} steps, got {x.shape[1]} steps")
        # differs from OpenLTM, which keeps the oldest steps and so forecasts across a gap
        return x[:, x.shape[1] - n * self.input_token_len :]

    def statistics(self, x: Tensor) -> Statistics:
        """Mean and √(biased variance + ε) over time, `x: (b t c) -> (b 1 c)`; 0 and 1 in a model without `use_norm`."""
        if not self.use_norm:
            zero = x.new_zeros(x.shape[0], 1, x.shape[2])
            return Statistics(zero, zero + 1)
        variance, mean = torch.var_mean(x, dim=1, correction=0, keepdim=True)
        return Statistics(mean, (variance + self.epsilon).sqrt())

    def normalise(self, x: Tensor, statistics: Statistics) -> Tensor:
        """(x − mean)/stdev: `x: (b t c) -> (b t c)`."""
        return (x - statistics.mean) / statistics.stdev

    def denormalise(self, law: TokenLaw, statistics: Statistics) -> TokenLaw:
        """A law (b t c) in normalised units in the data's: m·stdev + mean, and logvar + 2 ln stdev."""
        mean = law.mean * statistics.stdev + statistics.mean
        return TokenLaw(mean, None if law.logvar is None else law.logvar + 2 * statistics.stdev.log())

    @classmethod
    def from_pth(cls, path: str | Path, **sizes: object) -> Self:
        """Load an OpenLTM `checkpoint.pth`, opened as tensors alone, into a model of these sizes, in evaluation mode.

        The file does not say its sizes: `sizes` are the constructor's arguments. Raises ValueError for others.
        """
        model = cls(**sizes)
        load_strictly(model, open_pth(path), source=str(path))
        return model.eval()


class CausalForecaster(PatchForecaster):
    """Base of the causal transformers: features of tokens, a law from each, and a cache of one variate's tokens.

    A subclass sets `blocks_shape` and computes `encode_tokens` and `token_law`.
    """

    blocks_shape: tuple[int, int, int]  # layers, heads, head dimension

    @abstractmethod
    def encode_tokens(self, tokens: Tensor, cache: KVCache | None = None) -> Tensor:
        """Features of one variate's normalised tokens, which follow those in the cache and join it.

        `tokens: (b n input_token_len) -> (b n d)`.
        """

    @abstractmethod
    def token_law(self, features: Tensor) -> TokenLaw:
        """The law of the steps after each token, in normalised units: `features: (b n d) -> (b n output_token_len)`."""

    def forward_cached(self, tokens: Tensor, cache: KVCache) -> TokenLaw:
        """`token_law` of new tokens of one variate: `tokens: (b n input_token_len) -> (b n output_token_len)`.

        Equal to an uncached pass over all tokens so far with the same, frozen, statistics. Several variates share no
        cache: in Timer-XL a token's position depends on how many tokens every variate has.
        """
        return self.token_law(self.encode_tokens(tokens, cache))

    def new_cache(self, batch_size: int, capacity: int) -> KVCache:
        """An empty cache for `capacity` tokens of one variate in each of `batch_size` rows."""
        weight = next(self.parameters())
        layers, heads, head_dim = self.blocks_shape
        return KVCache(layers, batch_size, heads, capacity, head_dim, device=weight.device, dtype=weight.dtype)

    def law(self, x: Tensor, statistics: Statistics | None = None) -> TokenLaw:
        """The law of the steps after each token of each variate by itself: `x: (b t c) -> (b n·output_token_len c)`."""
        x = self.whole_tokens(x)
        statistics = statistics or self.statistics(x)
        tokens = rearrange(self.normalise(x, statistics), "b (n p) c -> (b c) n p", p=self.input_token_len)
        law = self.token_law(self.encode_tokens(tokens))
        return self.denormalise(merge_tokens(law, "(b c) n p -> b (n p) c", x.shape[2]), statistics)


def merge_tokens(law: TokenLaw, pattern: str, num_variates: int) -> TokenLaw:
    """Rearrange a law's mean and, where there is one, its log-variance, by an einops pattern that has an axis c."""
    mean, logvar = (None if z is None else rearrange(z, pattern, c=num_variates) for z in law)
    return TokenLaw(mean, logvar)


def check_pair(draft: PatchForecaster, target: PatchForecaster) -> None:
    """Raise ValueError where a draft cannot stand in for a target: other token lengths or another normalisation."""
    for name in ("output_token_len", "input_token_len", "use_norm"):
        ours, theirs = getattr(draft, name), getattr(target, name)
        if ours != theirs:
            raise ValueError(f"draft and target must have the same {name}, got {ours} and {theirs}")
