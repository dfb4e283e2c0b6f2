"""Transformer encoder over packed batches: norm, attention, norm, feed-forward, six to twenty-four times."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import Tensor, nn

from tsfm_lab.nn.attention import BinaryAttentionBias, GroupedQueryAttention
from tsfm_lab.nn.attention_blocks import AttentionBlocks
from tsfm_lab.nn.ffn import GatedLinearUnit
from tsfm_lab.nn.norm import RMSNorm
from tsfm_lab.nn.packing import SegmentPlan
from tsfm_lab.nn.rotary import RotaryEmbedding, Rotation


@dataclass(frozen=True)
class PackedContext:
    """What a layer knows of a packed batch beside the activations; made once per batch, shared by all layers."""

    rotation: Rotation  # of the tokens' time_id
    blocks: AttentionBlocks  # which tokens attend to each other
    segments: SegmentPlan | None = None  # which tokens are one series, for layers that convolve


class TransformerEncoderLayer(nn.Module):
    """x ← x + attention(norm1(x)); x ← x + ffn(norm2(x)). With pre_norm=False: x ← norm(x + ·) instead.

    Xiong et al. 2020, arXiv:2002.04745 (pre-norm); Vaswani et al. 2017, arXiv:1706.03762 (post-norm).
    """

    def __init__(
        self,
        self_attn: nn.Module,
        ffn: nn.Module,
        norm1: nn.Module,
        norm2: nn.Module,
        pre_norm: bool = True,
        dropout_p: float = 0.0,
    ):
        super().__init__()
        self.self_attn, self.ffn, self.norm1, self.norm2 = self_attn, ffn, norm1, norm2
        self.pre_norm = pre_norm
        self.dropout = nn.Dropout(dropout_p)

    def forward(self, x: Tensor, context: PackedContext, tokens: Tensor | None = None) -> Tensor:
        """`x: (b t d) -> (b t d)`; with `tokens: (n) int64`, indices into (b t), only those tokens' outputs: (n d)."""
        y = self.norm1(x) if self.pre_norm else x
        y = self.dropout(self.self_attn(y, context.rotation, context.blocks, tokens))
        x = y + (x if tokens is None else x.flatten(0, 1).index_select(0, tokens))
        if self.pre_norm:
            return x + self.ffn(self.norm2(x))
        x = self.norm1(x)
        return self.norm2(x + self.ffn(x))


class PackedEncoder(nn.Module):
    """Any stack of layers called as `layer(x, context, tokens)`, and a norm behind the last one."""

    def __init__(self, layers: Iterable[nn.Module], norm: nn.Module, rotary: RotaryEmbedding):
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.norm = norm
        self.rotary = rotary

    def forward(
        self,
        x: Tensor,
        time_id: Tensor,
        blocks: AttentionBlocks,
        segments: SegmentPlan | None = None,
        tokens: Tensor | None = None,
    ) -> Tensor:
        """Encode a packed batch.

        Parameters
        ----------
        x: (b t d); time_id: (b t) int, in tokens.
        blocks: from `plan_blocks`; segments: from `plan_segments`, for layers that convolve.
        tokens: (n) int64, indices into (b t) of the tokens whose encoding is wanted: the last layer computes no others.

        Returns
        -------
        (b t d), or (n d) for n wanted tokens.
        """
        context = PackedContext(self.rotary(time_id), blocks, segments)
        *inner, last = self.layers
        for layer in inner:
            x = layer(x, context)
        return self.norm(last(x, context, tokens))


class TransformerEncoder(PackedEncoder):
    """The encoder of MOIRAI (Woo et al. 2024, arXiv:2402.02592): attention layers with QK-norm, RoPE, variate bias.

    Parameters
    ----------
    num_heads: default d_model / 64; num_groups: key/value heads, default num_heads.
    pre_norm: False puts the norms behind the residual sums.
    make_ffn: makes one layer's feed-forward from d_model; default `GatedLinearUnit`.
    """

    def __init__(
        self,
        d_model: int,
        num_layers: int,
        num_heads: int | None = None,
        num_groups: int | None = None,
        pre_norm: bool = True,
        attn_dropout_p: float = 0.0,
        dropout_p: float = 0.0,
        make_ffn: Callable[[int], nn.Module] | None = None,
    ):
        num_heads = num_heads or max(1, d_model // 64)
        layers = [
            attention_layer(d_model, num_heads, num_groups, pre_norm, attn_dropout_p, dropout_p, make_ffn)
            for _ in range(num_layers)
        ]
        super().__init__(layers, RMSNorm(d_model), RotaryEmbedding(d_model // num_heads))


def attention_layer(
    d_model: int,
    num_heads: int,
    num_groups: int | None = None,
    pre_norm: bool = True,
    attn_dropout_p: float = 0.0,
    dropout_p: float = 0.0,
    make_ffn: Callable[[int], nn.Module] | None = None,
) -> TransformerEncoderLayer:
    """One MOIRAI encoder layer; parameters as in `TransformerEncoder`."""
    bias = BinaryAttentionBias(num_heads)
    return TransformerEncoderLayer(
        GroupedQueryAttention(d_model, num_heads, num_groups, RMSNorm, bias, attn_dropout_p),
        make_ffn(d_model) if make_ffn else GatedLinearUnit(d_model, dropout_p=dropout_p),
        RMSNorm(d_model),
        RMSNorm(d_model),
        pre_norm,
        dropout_p,
    )
