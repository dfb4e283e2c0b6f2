"""A draft that is its target's first layers, with a final norm and a head of its own."""

from __future__ import annotations

from torch import nn

from tsfm_lab.models.timer_xl import TimerXL


def early_exit(target: TimerXL, e_layers: int) -> TimerXL:
    """A Timer-XL of the target's embedding and first `e_layers` layers, which it shares, and a new norm and head.

    Only norm and head are trained; they start as the target's. A law of the target is not taken over.

    Raises
    ------
    ValueError: when the target has not more than e_layers layers, or e_layers is not positive.
    """
    depth = target.blocks_shape[0]
    if not 0 < e_layers < depth:
        raise ValueError(f"e_layers must be from 1 to {depth - 1}, below the target's {depth}, got {e_layers}")
    draft = TimerXL(**{**target.config, "e_layers": e_layers, "sigma": None})
    draft.blocks.norm.load_state_dict(target.blocks.norm.state_dict())
    draft.head.load_state_dict(target.head.state_dict())
    draft.embedding = target.embedding
    draft.blocks.attn_layers = nn.ModuleList(target.blocks.attn_layers[:e_layers])
    for shared in (draft.embedding, draft.blocks.attn_layers):
        shared.requires_grad_(False)
    return draft
