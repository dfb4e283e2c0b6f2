"""A TinyTimeMixer-style forecaster: no attention, only small perceptrons over patches and features."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from tsfm_lab.models.patch_forecaster import PatchForecaster, Statistics, TokenLaw


class Perceptron(nn.Module):
    """W₂ drop(gelu(W₁ x)) with a hidden width of twice the input's: `(... f) -> (... f)`."""

    def __init__(self, width: int, dropout: float):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.fc2(self.dropout(F.gelu(self.fc1(x)))))


class Gate(nn.Module):
    """x ⊙ softmax(W x): `(... f) -> (... f)`."""

    def __init__(self, width: int):
        super().__init__()
        self.attn_layer = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.attn_layer(x).softmax(dim=-1)


class Mixer(nn.Module):
    """x + gate(perceptron(norm x)) over one axis of (b n d): the patches n or the features d."""

    def __init__(self, d_model: int, width: int, over_patches: bool, dropout: float):
        super().__init__()
        self.over_patches = over_patches
        self.norm = nn.LayerNorm(d_model)
        self.mlp = Perceptron(width, dropout)
        self.gating_block = Gate(width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        if self.over_patches:
            return x + self.gating_block(self.mlp(y.mT)).mT
        return x + self.gating_block(self.mlp(y))


class MixerLayer(nn.Module):
    """A mixer over patches (where there are several), then one over features: `(b n d) -> (b n d)`."""

    def __init__(self, d_model: int, num_patches: int, dropout: float):
        super().__init__()
        if num_patches > 1:
            self.patch_mixer = Mixer(d_model, num_patches, over_patches=True, dropout=dropout)
        self.feature_mixer = Mixer(d_model, d_model, over_patches=False, dropout=dropout)

    def forward(self, x: Tensor) -> Tensor:
        if hasattr(self, "patch_mixer"):
            x = self.patch_mixer(x)
        return self.feature_mixer(x)


class AdaptivePatches(nn.Module):
    """Mixer layers on f times more patches that are f times narrower: (b n d) -> (b n·f d/f) -> … -> (b n d)."""

    def __init__(self, d_model: int, num_patches: int, factor: int, num_layers: int, dropout: float):
        super().__init__()
        self.factor = factor
        self.mixer_layers = nn.Sequential(
            *(MixerLayer(d_model // factor, num_patches * factor, dropout) for _ in range(num_layers))
        )

    def forward(self, x: Tensor) -> Tensor:
        finer = self.mixer_layers(rearrange(x, "b n (f e) -> b (n f) e", f=self.factor))
        return rearrange(finer, "b (n f) e -> b n (f e)", f=self.factor)


class TinyTimeMixer(PatchForecaster):
    """Forecasts the `output_token_len` steps after a context of fixed length, one variate at a time.

    Ekambaram et al. 2024, "Tiny Time Mixers", arXiv:2401.03955: a backbone with adaptive patching (the finest patches
    first), a narrow decoder, a linear head on all its features. The variant without mixing of variates, in the names
    and shapes of OpenLTM's `ttm`, there `mode common_channel`.

    Parameters
    ----------
    context_length: steps read; a longer context keeps its newest, a shorter one is refused.
    input_token_len: patch size, in steps.
    adaptive_levels: L blocks of the backbone work on 2^(L−1), …, 2, 1 times as many patches; 0: plain layers.
    e_layers, d_model: backbone's layers (a block) and width. decoder_layers, decoder_width: the decoder's.

    Raises
    ------
    ValueError: when the context is not whole patches or d_model cannot be split into the finest patches.
    """

    model_type: ClassVar[str] = "ttm"

    def __init__(
        self,
        context_length: int = 672,
        input_token_len: int = 96,
        output_token_len: int = 96,
        d_model: int = 256,
        e_layers: int = 2,
        adaptive_levels: int = 3,
        decoder_width: int = 64,
        decoder_layers: int = 2,
        dropout: float = 0.1,
        use_norm: bool = True,
    ):
        super().__init__()
        if context_length % input_token_len or context_length < input_token_len:
            raise ValueError(
                f"context_length must be a multiple of input_token_len={input_token_len}, got {context_length}"
            )
        finest = 2 ** max(adaptive_levels - 1, 0)
        if d_model % finest:
            raise ValueError(f"d_model must be a multiple of 2^(adaptive_levels − 1) = {finest}, got {d_model}")
        self.context_length, self.use_norm = context_length, use_norm
        self.input_token_len, self.output_token_len = input_token_len, output_token_len
        num_patches = context_length // input_token_len
        factors = [2**level for level in reversed(range(adaptive_levels))]
        mixers = [AdaptivePatches(d_model, num_patches, factor, e_layers, dropout) for factor in factors]
        mixers = mixers or [MixerLayer(d_model, num_patches, dropout) for _ in range(e_layers)]
        decoder = [MixerLayer(decoder_width, num_patches, dropout) for _ in range(decoder_layers)]
        self.backbone = nn.ModuleDict(
            {
                "patcher": nn.Linear(input_token_len, d_model),
                "encoder": nn.ModuleDict({"mixers": nn.Sequential(*mixers)}),
            }
        )
        self.decoder_adapter = nn.Linear(d_model, decoder_width)
        self.decoder = nn.ModuleDict({"mixers": nn.Sequential(*decoder)})
        self.dropout = nn.Dropout(dropout)
        self.head = nn.ModuleDict({"base_forecast_block": nn.Linear(num_patches * decoder_width, output_token_len)})

    def whole_tokens(self, x: Tensor) -> Tensor:
        """The newest context_length steps: `x: (b t c) -> (b context_length c)`. Raises ValueError for fewer."""
        if x.ndim != 3 or x.shape[1] < self.context_length:
            raise ValueError(
                f"x must be (batch, time ≥ context_length={self.context_length}, variate), got {tuple(x.shape)}"
            )
        return x[:, -self.context_length :]

    def law(self, x: Tensor, statistics: Statistics | None = None) -> TokenLaw:
        """Means of the steps after the context, in the data's units: `x: (b t c) -> (b output_token_len c)`."""
        x = self.whole_tokens(x)
        statistics = statistics or self.statistics(x)
        patches = rearrange(self.normalise(x, statistics), "b (n p) c -> (b c) n p", p=self.input_token_len)
        features = self.backbone["encoder"]["mixers"](self.backbone["patcher"](patches))
        features = self.decoder["mixers"](self.decoder_adapter(features))
        y = self.head["base_forecast_block"](self.dropout(torch.flatten(features, 1)))
        mean = rearrange(y, "(b c) p -> b p c", c=x.shape[2])
        return self.denormalise(TokenLaw(mean, None), statistics)
