"""Layers of the Timer family: causal attention over patches of one or several variates, post-norm blocks."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

from tsfm_lab.nn.attention import BinaryAttentionBias
from tsfm_lab.nn.kv_cache import KVCache
from tsfm_lab.nn.rotary import RotaryEmbedding, Rotation, apply_rotary

Mask = Tensor | None


def multivariate_mask(num_variates: int, num_tokens: int, device: torch.device | None = None) -> Tensor:
    """ones(C, C) ⊗ causal(N): a token sees every variate up to its own time (Liu et al. 2025, arXiv:2410.04803, Eq. 6).

    `-> (c·n c·n) bool`, variate-major, True where query (row) may attend to key (column).
    """
    causal = torch.ones(num_tokens, num_tokens, dtype=torch.bool, device=device).tril()
    return causal.repeat(num_variates, num_variates)


def covariate_mask(num_variates: int, num_tokens: int, device: torch.device | None = None) -> Tensor:
    """Each variate sees itself causally; the last, which is forecast, also sees all tokens of all others.

    The others are known covariates, future included (arXiv:2410.04803, Sec. 3.2). `-> (c·n c·n) bool`, variate-major.
    """
    causal = torch.ones(num_tokens, num_tokens, dtype=torch.bool, device=device).tril()
    mask = torch.block_diag(*[causal] * num_variates)
    mask[-num_tokens:, :-num_tokens] = True
    return mask


class VariateBias(nn.Module):
    """softmax((Q Kᵀ + u)/√e) V with u = emb[1] within a variate, emb[0] across (arXiv:2410.04803, Eq. 7).

    Holds the bias alone; state dict key `attn_bias.emb.weight: (2 h)`.
    """

    def __init__(self, num_heads: int):
        super().__init__()
        self.attn_bias = BinaryAttentionBias(num_heads)

    def forward(self, num_variates: int, num_tokens: int, mask: Tensor, head_dim: int) -> Tensor:
        """Additive mask u/√e, −∞ where `mask` is False: `mask: (c·n c·n) bool -> (h c·n c·n)`."""
        variate = repeat(torch.arange(num_variates, device=mask.device), "c -> (c n)", n=num_tokens)
        same = (variate[:, None] == variate).long()
        bias = rearrange(self.attn_bias.emb.weight[same], "q k h -> h q k") / sqrt(head_dim)
        return bias.masked_fill(~mask, float("-inf"))


class TimerAttention(nn.Module):
    """Multi-head attention softmax(q kᵀ/√e + mask) v with biased projections and an optional cache.

    inner: a module whose parameters lie under the published name `inner_attention`; None where there are none.

    Raises
    ------
    ValueError: when num_heads does not divide d_model.
    """

    def __init__(self, d_model: int, num_heads: int, dropout: float, inner: nn.Module | None = None):
        super().__init__()
        if d_model % num_heads:
            raise ValueError(f"d_model must be a multiple of n_heads={num_heads}, got {d_model}")
        self.num_heads, self.dropout = num_heads, dropout
        if inner is not None:
            self.inner_attention = inner
        self.query_projection = nn.Linear(d_model, d_model)
        self.key_projection = nn.Linear(d_model, d_model)
        self.value_projection = nn.Linear(d_model, d_model)
        self.out_projection = nn.Linear(d_model, d_model)

    def forward(self, x: Tensor, mask: Mask, rotation: Rotation | None, keep: Callable | None = None) -> Tensor:
        """`x: (b t d) -> (b t d)`.

        mask: (t t) or (b 1 t s) bool, or additive (h t t); None: x is causal (no cache) or sees all (cache).
        keep: (k, v) ↦ (k, v) of all tokens so far: one layer's `KVCache.append`.
        """
        heads = (self.num_heads, -1)
        q = self.query_projection(x).unflatten(-1, heads)
        k = self.key_projection(x).unflatten(-1, heads)
        v = self.value_projection(x).unflatten(-1, heads)
        if rotation is not None:
            q, k = apply_rotary(q, rotation), apply_rotary(k, rotation)
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)  # (b h t e)
        if keep is not None:
            k, v = keep(k, v)
        y = F.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=mask,
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=mask is None and keep is None,
        )
        return self.out_projection(y.transpose(1, 2).flatten(-2))


class TimerLayer(nn.Module):
    """x = norm₁(x + drop(attention(x))); x = norm₂(x + drop(W₂ drop(act(W₁ x)))): the post-norm block of the family.

    The two linear maps are stored as convolutions with kernel 1, `conv1.weight: (ff d 1)`, as published.
    """

    def __init__(self, attention: nn.Module, d_model: int, d_ff: int, dropout: float, activation: Callable):
        super().__init__()
        self.attention = attention
        self.conv1 = nn.Conv1d(d_model, d_ff, kernel_size=1)
        self.conv2 = nn.Conv1d(d_ff, d_model, kernel_size=1)
        self.norm1, self.norm2 = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        self.dropout = nn.Dropout(dropout)
        self.activation = activation

    def forward(self, x: Tensor, mask: Mask, rotation: Rotation | None, keep: Callable | None = None) -> Tensor:
        """`x: (b t d) -> (b t d)`; the other arguments are the attention's."""
        x = self.norm1(x + self.dropout(self.attention(x, mask, rotation, keep)))
        hidden = self.activation(F.linear(x, self.conv1.weight.squeeze(-1), self.conv1.bias))
        y = F.linear(self.dropout(hidden), self.conv2.weight.squeeze(-1), self.conv2.bias)
        return self.norm2(x + self.dropout(y))


class TimerBlocks(nn.Module):
    """A stack of layers and a final LayerNorm, with rotary positions when `rotary` is given.

    num_heads and head_dim shape the caches that `new_cache` makes.
    """

    def __init__(self, layers: list[nn.Module], d_model: int, rotary: RotaryEmbedding | None = None):
        super().__init__()
        self.attn_layers = nn.ModuleList(layers)
        self.norm = nn.LayerNorm(d_model)
        self.rotary = rotary

    def forward(self, x: Tensor, masks: list[Mask] | None = None, cache: KVCache | None = None) -> Tensor:
        """Features of the tokens: `x: (b t d) -> (b t d)`.

        masks: one a layer; None: causal. With a cache, x holds the tokens that follow those in it, and joins them.
        """
        if cache is None:
            rotation = self._rotation(torch.arange(x.shape[1], device=x.device)[None])
            for layer, mask in zip(self.attn_layers, masks or [None] * len(self.attn_layers), strict=True):
                x = layer(x, mask, rotation)
            return self.norm(x)
        q = x.shape[1]
        rotation, mask = self._rotation(cache.positions(q)), cache.mask(q)
        for index, layer in enumerate(self.attn_layers):
            x = layer(x, mask, rotation, lambda k, v, index=index: cache.append(index, k, v))
        cache.advance(q)
        return self.norm(x)

    def _rotation(self, position: Tensor) -> Rotation | None:
        return None if self.rotary is None else self.rotary(position)


def activation_function(name: str) -> Callable[[Tensor], Tensor]:
    """relu or gelu by name. Raises ValueError for another."""
    known = {"relu": F.relu, "gelu": F.gelu}
    if name not in known:
        raise ValueError(f"activation must be one of {sorted(known)}, got {name!r}")
    return known[name]
