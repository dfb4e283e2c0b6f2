"""Attention weights of a packed model by layer and head, read off from its own attention."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from einops import rearrange, repeat
from torch import Tensor, nn

from tsfm_lab.data.packing import PackedBatch
from tsfm_lab.nn.attention import GroupedQueryAttention, attend_within_blocks
from tsfm_lab.nn.attention_blocks import AttentionBlocks
from tsfm_lab.nn.rotary import Rotation

AttentionInputs = tuple[Tensor, Rotation, AttentionBlocks]


@torch.no_grad()
def attention_maps(module: nn.Module, batch: PackedBatch) -> dict[int, Tensor]:
    """What each attention layer of a packed model does in its forward pass of `batch`.

    Returns
    -------
    layer → weights (b h q k) over the row's tokens. A token's weights are of sum 1, those of padding are 0. Layers
    without attention (STU) are left out.
    """
    with _attention_inputs(module) as seen:
        module(**batch)
    return {layer: read_weights(attention, *inputs) for layer, (attention, inputs) in sorted(seen.items())}


def read_weights(attention: GroupedQueryAttention, x: Tensor, rotation: Rotation, blocks: AttentionBlocks) -> Tensor:
    """W of attention(x) = W v, by the attention itself: with unit vectors as values, W I = W.

    Masks, variate bias, norms and rotation are so those of the layer, whatever they are.

    `x: (b t d) -> (b h q k)`.
    """
    q, k, v = attention.project(x, rotation)
    _, t, g, e = v.shape
    contrast = None if attention.var_attn_bias is None else attention.var_attn_bias.contrast()
    unit = torch.eye(t, -(-t // e) * e, dtype=v.dtype, device=v.device)  # values are as wide as a head, e
    pieces = [
        attend_within_blocks(q, k, repeat(columns, "t e -> b t g e", b=len(x), g=g), blocks, contrast)
        for columns in unit.split(e, dim=1)
    ]
    return rearrange(torch.cat(pieces, dim=-1)[..., :t], "b q h k -> b h q k")


def weight_by_distance(weights: Tensor, batch: PackedBatch) -> Tensor:
    """Mean weight at each distance |time_id_q − time_id_k|: `(b h q k) -> (h distances)`, in tokens, of sum 1.

    The mean is over all tokens that are no padding. Of `attention_energy`: the energy by distance, see `memory`.
    """
    time, real = batch["time_id"], batch["sample_id"] > 0
    distance = (time[:, :, None] - time[:, None, :]).abs()  # (b q k)
    heads_last = rearrange(weights, "b h q k -> (b q k) h")
    total = heads_last.new_zeros(int(time.max()) + 1, weights.shape[1]).index_add_(0, distance.flatten(), heads_last)
    return total.T / real.sum()


def attention_energy(weights: Tensor) -> Tensor:
    """w²/Σ_k w²: of white values, the share of a token's output variance that each token explains.

    `(b h q k) -> (b h q k)`, of sum 1 over k, so that tokens which see few others weigh no more; 0 for padding.
    """
    squared = weights.square()
    return squared / squared.sum(-1, keepdim=True).clamp_min(torch.finfo(weights.dtype).tiny)


def uniform_attention(weights: Tensor) -> Tensor:
    """The control: the same weight on every token that may be attended to, `(b h q k) -> (b h q k)`."""
    allowed = (weights > 0).to(weights.dtype)
    return allowed / allowed.sum(-1, keepdim=True).clamp_min(1)


@contextmanager
def _attention_inputs(module: nn.Module) -> Iterator[dict[int, tuple[GroupedQueryAttention, AttentionInputs]]]:
    """layer → (attention, what it was called with), of the forward pass within the block."""
    seen: dict[int, tuple[GroupedQueryAttention, AttentionInputs]] = {}

    def watch(layer: int, attention: GroupedQueryAttention):
        return attention.register_forward_pre_hook(lambda _, inputs: seen.update({layer: (attention, inputs[:3])}))

    layers = enumerate(module.encoder.layers)
    hooks = [watch(number, layer.self_attn) for number, layer in layers if hasattr(layer, "self_attn")]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
