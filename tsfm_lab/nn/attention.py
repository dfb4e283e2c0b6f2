"""Attention over a packed batch, evaluated sample by sample."""

from __future__ import annotations

from collections.abc import Callable
from math import prod, sqrt

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

from tsfm_lab.nn.attention_blocks import AttentionBlocks, BlockBucket
from tsfm_lab.nn.norm import RMSNorm
from tsfm_lab.nn.rotary import Rotation, apply_rotary


class BinaryAttentionBias(nn.Module):
    """Bias u_h[same variate] added to head h's logits (Woo et al. 2024, arXiv:2402.02592, Eq. 2).

    `emb.weight: (2 h)`; row 0: other variate, row 1: same variate.
    """

    def __init__(self, num_heads: int):
        super().__init__()
        self.emb = nn.Embedding(2, num_heads)

    def contrast(self) -> Tensor:
        """(h): same minus other. What both rows share cancels in the softmax."""
        other, same = self.emb.weight.unbind(0)
        return same - other


class GroupedQueryAttention(nn.Module):
    """softmax(q kᵀ/√e + bias) v within each sample, with normalised, rotated queries and keys.

    Ainslie et al. 2023, arXiv:2305.13245: `num_groups` key/value heads, each shared by num_heads/num_groups query
    heads; num_groups = num_heads (the default, and all published checkpoints) is plain multi-head attention.

    Parameters
    ----------
    norm: makes the norm of queries and keys, over the head dimension, before the rotation.
    variate_bias: e.g. `BinaryAttentionBias(num_heads)`; None: variates are not told apart.
    dropout_p: probability with which attention weights are dropped in training.

    Raises
    ------
    ValueError: when num_heads does not divide d_model or num_groups does not divide num_heads.
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        num_groups: int | None = None,
        norm: Callable[[int], nn.Module] = RMSNorm,
        variate_bias: BinaryAttentionBias | None = None,
        dropout_p: float = 0.0,
    ):
        super().__init__()
        num_groups = num_groups or num_heads
        if d_model % num_heads:
            raise ValueError(f"d_model must be a multiple of num_heads={num_heads}, got {d_model}")
        if num_heads % num_groups:
            raise ValueError(f"num_heads must be a multiple of num_groups={num_groups}, got {num_heads}")
        self.num_heads, self.num_groups, self.head_dim = num_heads, num_groups, d_model // num_heads
        self.dropout_p = dropout_p
        self.q_proj = nn.Linear(d_model, d_model, bias=False)
        self.k_proj = nn.Linear(d_model, num_groups * self.head_dim, bias=False)
        self.v_proj = nn.Linear(d_model, num_groups * self.head_dim, bias=False)
        self.q_norm, self.k_norm = norm(self.head_dim), norm(self.head_dim)
        self.var_attn_bias = variate_bias
        self.out_proj = nn.Linear(d_model, d_model, bias=False)

    def project(self, x: Tensor, rotation: Rotation) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of each token: `x: (b t d) -> (b t h e), (b t g e), (b t g e)`."""
        split_heads = "b t (h e) -> b t h e"
        q = self.q_norm(rearrange(self.q_proj(x), split_heads, e=self.head_dim))
        k = self.k_norm(rearrange(self.k_proj(x), split_heads, e=self.head_dim))
        v = rearrange(self.v_proj(x), split_heads, e=self.head_dim)
        return apply_rotary(q, rotation), apply_rotary(k, rotation), v

    def forward(self, x: Tensor, rotation: Rotation, blocks: AttentionBlocks, tokens: Tensor | None = None) -> Tensor:
        """`x: (b t d) -> (b t d)`; padding gets 0. With `tokens: (n) int64`, indices into (b t), only those: (n d)."""
        q, k, v = self.project(x, rotation)
        contrast = None if self.var_attn_bias is None else self.var_attn_bias.contrast()
        mixed = attend_within_blocks(q, k, v, blocks, contrast, self.dropout_p if self.training else 0.0)
        mixed = rearrange(mixed, "b t h e -> b t (h e)")
        return self.out_proj(mixed if tokens is None else mixed.flatten(0, 1).index_select(0, tokens))


@torch.compiler.disable  # the blocks' shapes change with every batch; what surrounds them compiles once
def attend_within_blocks(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    blocks: AttentionBlocks,
    contrast: Tensor | None = None,
    dropout_p: float = 0.0,
) -> Tensor:
    """softmax(q kᵀ/√e + contrast_h [same variate]) v over the tokens of each sample.

    `q: (b t h e), k, v: (b t g e), contrast: (h) or None -> (b t h e)`; 0 for padding.

    Raises
    ------
    ValueError: when the plan was made for a batch of another shape.
    """
    if q.shape[:2] != blocks.shape:
        raise ValueError(f"blocks were planned for a batch of {blocks.shape}, got q of {tuple(q.shape[:2])}")
    if not blocks.buckets:
        return torch.zeros_like(q)
    if blocks.in_place:
        heads_first = (rearrange(x, "b t h e -> b h t e") for x in (q, k, v))
        mixed = _attend(*heads_first, blocks.buckets[0], contrast, dropout_p)
        return _touch(rearrange(mixed, "b h t e -> b t h e"), contrast, blocks)
    sizes = [prod(bucket.shape) for bucket in blocks.buckets]
    into_blocks = (blocks.gather, blocks.empty, blocks.inverse, blocks.padding)
    q, k, v = (Regroup.apply(x.flatten(0, 1), *into_blocks).split(sizes) for x in (q, k, v))
    outputs = [
        _attend(*(rearrange(x, "(n l) h e -> n h l e", l=bucket.shape[1]) for x in qkv), bucket, contrast, dropout_p)
        for *qkv, bucket in zip(q, k, v, blocks.buckets, strict=True)
    ]
    outputs[0] = _touch(outputs[0], contrast, blocks)
    mixed = torch.cat([rearrange(x, "n h l e -> (n l) h e") for x in outputs])
    mixed = Regroup.apply(mixed, blocks.inverse, blocks.padding, blocks.gather, blocks.empty)
    return mixed.unflatten(0, blocks.shape)


def _touch(mixed: Tensor, contrast: Tensor | None, blocks: AttentionBlocks) -> Tensor:
    """`mixed`, through which a bias that no block has used gets a gradient of exactly 0 instead of none.

    DDP waits for every parameter, and AdamW skips those without.
    """
    unused = contrast is not None and all(bucket.codes is None and bucket.same is None for bucket in blocks.buckets)
    return mixed + 0.0 * contrast.sum() if unused and contrast.requires_grad else mixed


class Regroup(torch.autograd.Function):
    """y = x[gather] along the first axis, 0 in `holes`; its adjoint is the same with (inverse, inverse_holes).

    Both directions are gathers, where indexing's own backward would scatter-add. `x: (m ...) -> y: (n ...)`,
    gather: (n), holes: places in y; inverse: (m), inverse_holes: places in x that y does not read.
    """

    @staticmethod
    def forward(ctx, x: Tensor, gather: Tensor, holes: Tensor, inverse: Tensor, inverse_holes: Tensor) -> Tensor:
        ctx.save_for_backward(inverse, inverse_holes, gather, holes)
        return x.index_select(0, gather).index_fill_(0, holes, 0.0)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        return Regroup.apply(grad, *ctx.saved_tensors), None, None, None, None


def _attend(q: Tensor, k: Tensor, v: Tensor, bucket: BlockBucket, contrast: Tensor | None, dropout_p: float) -> Tensor:
    """One bucket: `q: (n h l e), k, v: (n g l e) -> (n h l e)`."""
    e, scale, mask = q.shape[-1], 1 / sqrt(q.shape[-1]), bucket.mask
    if k.shape[1] != q.shape[1]:
        k, v = (repeat(x, "n g l e -> n (g r) l e", r=q.shape[1] // k.shape[1]) for x in (k, v))
    if contrast is not None and bucket.codes is not None:
        # one-hot codes c make q·k + (contrast/scale) c·c', the bias before scaling; v is widened to the same size
        # because the fused kernels want one head dimension
        codes = bucket.codes.to(q.dtype).expand(-1, q.shape[1], -1, -1)
        q = torch.cat([q, codes * (contrast / scale).to(q.dtype)[:, None, None]], dim=-1)
        k = torch.cat([k, codes], dim=-1)
        v = F.pad(v, (0, codes.shape[-1]))
    elif contrast is not None and bucket.same is not None:
        bias = contrast.to(q.dtype)[:, None, None] * bucket.same
        mask = bias if mask is None else bias.masked_fill(~mask, -torch.inf)
    out = F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, dropout_p=dropout_p, is_causal=bucket.causal, scale=scale
    )
    return out[..., :e]
