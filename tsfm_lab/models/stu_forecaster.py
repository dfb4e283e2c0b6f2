"""A draft of spectral layers: it decodes with a state of fixed size, so that a token costs the same at any length."""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from tsfm_lab.models.patch_forecaster import PatchForecaster, Statistics, TokenLaw, merge_tokens
from tsfm_lab.nn.packed_stu import STUCore
from tsfm_lab.spectral.convolution import BankState


class STULayer(nn.Module):
    """x + STU(norm x), then x + W₂ gelu(W₁ norm x): `(b n d) -> (b n d)`. Dropout on both branches."""

    def __init__(self, d_model: int, d_ff: int, max_tokens: int, num_eigh: int, dropout: float):
        super().__init__()
        self.stu = STUCore(d_model, max_tokens, num_eigh, branches="separate")
        self.norm1, self.norm2 = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        self.linear1, self.linear2 = nn.Linear(d_model, d_ff), nn.Linear(d_ff, d_model)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self._mix_channels(x + self.dropout(self.stu(self.norm1(x))))

    def prefill(self, x: Tensor) -> tuple[Tensor, BankState]:
        """`forward` of the first tokens, (b n d), and the state after them; n may be 0."""
        if x.shape[1] == 0:
            return x, self.stu.bank.initial_state(x.shape[0], x.shape[2], x.device)
        y, state = self.stu.prefill(self.norm1(x))
        return self._mix_channels(x + y), state

    def step(self, x: Tensor, state: BankState) -> tuple[Tensor, BankState]:
        """The next token: `x: (b d) -> (b d)`, and the new state."""
        y, state = self.stu.step(self.norm1(x), state)
        return self._mix_channels(x + y), state

    def _mix_channels(self, x: Tensor) -> Tensor:
        return x + self.dropout(self.linear2(F.gelu(self.linear1(self.norm2(x)))))


class STUForecaster(PatchForecaster):
    """Next-token forecaster of each variate by itself: patches → causal spectral layers → the steps after each.

    The layers are spectral transform units (Agarwal et al. 2023, arXiv:2312.06837) with one filter a channel, in the
    place of Timer-XL's attention.

    Parameters
    ----------
    input_token_len, output_token_len: what a token reads and forecasts, in steps.
    max_tokens: lags of the filters: tokens of context and forecast together.
    num_eigh: filters.
    The others are TimerXL's.
    """

    model_type: ClassVar[str] = "stu_forecaster"

    def __init__(
        self,
        input_token_len: int = 96,
        output_token_len: int = 96,
        d_model: int = 64,
        d_ff: int = 128,
        e_layers: int = 2,
        max_tokens: int = 64,
        num_eigh: int = 16,
        dropout: float = 0.1,
        use_norm: bool = True,
    ):
        super().__init__()
        self.input_token_len, self.output_token_len, self.use_norm = input_token_len, output_token_len, use_norm
        self.embedding = nn.Linear(input_token_len, d_model)
        self.layers = nn.ModuleList(STULayer(d_model, d_ff, max_tokens, num_eigh, dropout) for _ in range(e_layers))
        self.norm = nn.LayerNorm(d_model)
        self.head = nn.Linear(d_model, output_token_len)

    def law(self, x: Tensor, statistics: Statistics | None = None) -> TokenLaw:
        """Means after each token, `x: (b t c) -> (b n·output_token_len c)`. Raises ValueError past max_tokens."""
        x = self.whole_tokens(x)
        statistics = statistics or self.statistics(x)
        tokens = rearrange(self.normalise(x, statistics), "b (n p) c -> (b c) n p", p=self.input_token_len)
        features = self.embedding(tokens)
        for layer in self.layers:
            features = layer(features)
        law = merge_tokens(self._read_out(features), "(b c) n p -> b (n p) c", x.shape[2])
        return self.denormalise(law, statistics)

    def prefill(self, tokens: Tensor) -> list[BankState]:
        """Each layer's state after the first normalised tokens, (b n p); n = 0 is the beginning."""
        x, states = self.embedding(tokens), []
        for layer in self.layers:
            x, state = layer.prefill(x)
            states.append(state)
        return states

    def step(self, token: Tensor, states: list[BankState]) -> tuple[TokenLaw, list[BankState]]:
        """The law after one more normalised token, `(b p) -> (b p)`, at a cost that does not depend on the past."""
        x, after = self.embedding(token), []
        for layer, state in zip(self.layers, states, strict=True):
            x, state = layer.step(x, state)
            after.append(state)
        return self._read_out(x), after

    def _read_out(self, features: Tensor) -> TokenLaw:
        return TokenLaw(self.head(self.norm(features)), None)
