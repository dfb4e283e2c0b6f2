"""Timer: Timer-XL's ancestor. One variate at a time, positions added to the embedding, plain causal attention."""

from __future__ import annotations

from math import log
from typing import ClassVar

import torch
from torch import Tensor, nn

from tsfm_lab.models.patch_forecaster import CausalForecaster, TokenLaw
from tsfm_lab.nn.kv_cache import KVCache
from tsfm_lab.nn.timer_layers import TimerAttention, TimerBlocks, TimerLayer, activation_function


class SinusoidalPositions(nn.Module):
    """pe[t, 2i] = sin(t·10000^(−2i/d)), pe[t, 2i+1] = cos of it (Vaswani et al. 2017, arXiv:1706.03762, Sec. 3.5).

    The table is a buffer of the state dict, `pe: (1 max_tokens d)`, as published. `(b t) int -> (b t d)`.
    """

    def __init__(self, d_model: int, max_tokens: int = 6500):
        super().__init__()
        frequency = torch.exp(torch.arange(0, d_model, 2).float() * (-log(10_000.0) / d_model))
        angle = torch.arange(max_tokens).float()[:, None] * frequency
        self.register_buffer("pe", torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-2)[None])

    def forward(self, position: Tensor) -> Tensor:
        return self.pe[0, position]


class Timer(CausalForecaster):
    """Next-token forecaster of each variate by itself: patches → causal transformer → the steps after each.

    Liu et al. 2024, "Timer: Generative Pre-trained Transformers Are Large Time Series Models", arXiv:2402.02368; the
    variant and the state-dict names of OpenLTM, i.e. Timer-XL's blocks without variate bias and rotary positions.

    Parameters are TimerXL's. Raises ValueError when n_heads does not divide d_model or a name is unknown.
    """

    model_type: ClassVar[str] = "timer_openltm"

    def __init__(
        self,
        input_token_len: int = 96,
        output_token_len: int = 96,
        d_model: int = 1024,
        n_heads: int = 8,
        d_ff: int = 2048,
        e_layers: int = 8,
        dropout: float = 0.1,
        activation: str = "relu",
        use_norm: bool = True,
    ):
        super().__init__()
        self.input_token_len, self.output_token_len, self.use_norm = input_token_len, output_token_len, use_norm
        self.blocks_shape = (e_layers, n_heads, d_model // n_heads)
        self.embedding = nn.Linear(input_token_len, d_model, bias=False)
        self.position_embedding = SinusoidalPositions(d_model)
        self.dropout = nn.Dropout(dropout)
        act = activation_function(activation)
        attentions = [TimerAttention(d_model, n_heads, dropout) for _ in range(e_layers)]
        layers = [TimerLayer(attention, d_model, d_ff, dropout, act) for attention in attentions]
        self.blocks = TimerBlocks(layers, d_model)
        self.head = nn.Linear(d_model, output_token_len)

    def encode_tokens(self, tokens: Tensor, cache: KVCache | None = None) -> Tensor:
        n = tokens.shape[1]
        position = torch.arange(n, device=tokens.device)[None] if cache is None else cache.positions(n)
        x = self.dropout(self.embedding(tokens) + self.position_embedding(position))
        return self.blocks(x, cache=cache)

    def token_law(self, features: Tensor) -> TokenLaw:
        return TokenLaw(self.head(features), None)
