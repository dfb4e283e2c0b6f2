"""The model of thuml/timer-base-84m: a Timer with gated feed-forwards and rotary positions on whole heads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tsfm_lab.models.patch_forecaster import CausalForecaster, Statistics, TokenLaw
from tsfm_lab.nn.kv_cache import KVCache

# names in the published config.json → the constructor's
PUBLISHED_NAMES = {
    "input_token_len": "input_token_len",
    "hidden_size": "d_model",
    "intermediate_size": "d_ff",
    "num_hidden_layers": "e_layers",
    "num_attention_heads": "n_heads",
    "rope_theta": "rope_base",
}


def rotate_halves(x: Tensor, angle: Tensor) -> Tensor:
    """Rotate channel i of a head against channel i + e/2: `x: (b t h e), angle: (b t 1 e/2) -> (b t h e)`.

    Every channel turns, in half-split pairs, where Timer-XL turns interleaved pairs of half the channels.
    """
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    x1, x2 = x.chunk(2, dim=-1)
    return torch.cat([x1 * cos - x2 * sin, x2 * cos + x1 * sin], dim=-1)


class RotaryAttention(nn.Module):
    """Causal softmax(q kᵀ/√e) v with rotated queries and keys; biases on q, k, v only."""

    def __init__(self, d_model: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(d_model, d_model) for _ in range(3))
        self.o_proj = nn.Linear(d_model, d_model, bias=False)

    def forward(self, x: Tensor, angle: Tensor, mask: Tensor | None, keep: Callable | None) -> Tensor:
        q, k, v = (proj(x).unflatten(-1, (self.num_heads, -1)) for proj in (self.q_proj, self.k_proj, self.v_proj))
        q, k = rotate_halves(q, angle), rotate_halves(k, angle)
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)  # (b h t e)
        if keep is not None:
            k, v = keep(k, v)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=keep is None)
        return self.o_proj(y.transpose(1, 2).flatten(-2))


class GatedFeedForward(nn.Module):
    """W_down(silu(W_gate x) ⊙ W_up x): `(... d) -> (... d)`."""

    def __init__(self, d_model: int, d_ff: int):
        super().__init__()
        self.gate_proj, self.up_proj = nn.Linear(d_model, d_ff, bias=False), nn.Linear(d_model, d_ff, bias=False)
        self.down_proj = nn.Linear(d_ff, d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class TimerBaseLayer(nn.Module):
    """x = norm₁(x + attention(x)); x = norm₂(x + feed-forward(x))."""

    def __init__(self, d_model: int, num_heads: int, d_ff: int):
        super().__init__()
        self.self_attn = RotaryAttention(d_model, num_heads)
        self.ffn_layer = GatedFeedForward(d_model, d_ff)
        self.norm1, self.norm2 = nn.LayerNorm(d_model), nn.LayerNorm(d_model)

    def forward(self, x: Tensor, angle: Tensor, mask: Tensor | None, keep: Callable | None) -> Tensor:
        x = self.norm1(x + self.self_attn(x, angle, mask, keep))
        return self.norm2(x + self.ffn_layer(x))


class TimerBase(CausalForecaster):
    """Next-token forecaster of each variate by itself, in the names and shapes of thuml/timer-base-84m.

    Liu et al. 2024, arXiv:2402.02368. The defaults are the published sizes, 84,142,080 parameters.

    Parameters
    ----------
    input_token_len, output_token_len: what a token reads and forecasts, in steps.
    use_norm: normalise each window by its mean and *unbiased* standard deviation, as the published forecasts do.

    Raises
    ------
    ValueError: when d_model is not n_heads times an even number.
    """

    model_type: ClassVar[str] = "timer"

    def __init__(
        self,
        input_token_len: int = 96,
        output_token_len: int = 96,
        d_model: int = 1024,
        n_heads: int = 8,
        d_ff: int = 2048,
        e_layers: int = 8,
        rope_base: float = 10_000.0,
        use_norm: bool = True,
    ):
        super().__init__()
        if d_model % n_heads or d_model // n_heads % 2:
            raise ValueError(f"d_model must be n_heads={n_heads} times an even number, got {d_model}")
        self.input_token_len, self.output_token_len, self.use_norm = input_token_len, output_token_len, use_norm
        head_dim = d_model // n_heads
        self.blocks_shape = (e_layers, n_heads, head_dim)
        theta = rope_base ** -(torch.arange(0, head_dim, 2).float() / head_dim)
        self.register_buffer("theta", theta, persistent=False)
        embedding = nn.Linear(input_token_len, d_model, bias=False)
        self.model = nn.ModuleDict(
            {
                "embed_layer": nn.ModuleDict({"emb": embedding}),
                "layers": nn.ModuleList(TimerBaseLayer(d_model, n_heads, d_ff) for _ in range(e_layers)),
                "norm": nn.LayerNorm(d_model),
            }
        )
        self.lm_heads = nn.ModuleList([nn.Linear(d_model, output_token_len, bias=False)])

    def encode_tokens(self, tokens: Tensor, cache: KVCache | None = None) -> Tensor:
        n = tokens.shape[1]
        position = torch.arange(n, device=tokens.device)[None] if cache is None else cache.positions(n)
        angle = position[..., None, None] * self.theta
        mask = None if cache is None else cache.mask(n)
        x = self.model["embed_layer"]["emb"](tokens)
        for index, layer in enumerate(self.model["layers"]):
            keep = None if cache is None else lambda k, v, index=index: cache.append(index, k, v)
            x = layer(x, angle, mask, keep)
        if cache is not None:
            cache.advance(n)
        return self.model["norm"](x)

    def token_law(self, features: Tensor) -> TokenLaw:
        return TokenLaw(self.lm_heads[0](features), None)

    def statistics(self, x: Tensor) -> Statistics:
        """Mean and unbiased standard deviation over time: `x: (b t c) -> (b 1 c)`."""
        if not self.use_norm:
            return super().statistics(x)
        stdev, mean = torch.std_mean(x, dim=1, keepdim=True)
        # differs from the publication, which has no floor and forecasts NaN from a constant window
        return Statistics(mean, stdev.clamp(min=self.epsilon))

    @classmethod
    def read_config(cls, config: dict[str, Any]) -> dict[str, Any]:
        """The published config.json (`model_type` "timer", `hidden_size` …) or one of `save_pretrained`.

        Raises
        ------
        ValueError: for a published configuration with several output lengths, or another activation than silu.
        """
        if "hidden_size" not in config:
            return super().read_config(config)
        lengths, activation = config.get("output_token_lens", [96]), config.get("hidden_act", "silu")
        if len(lengths) != 1 or activation != "silu":
            raise ValueError(
                f"TimerBase has one output length and silu, got output_token_lens {lengths}, hidden_act {activation!r}"
            )
        sizes = {own: config[published] for published, own in PUBLISHED_NAMES.items() if published in config}
        return {**sizes, "output_token_len": lengths[0]}
