"""Mixing along time in one encoder layer, x + mix(norm(x)): STU against attention on the same packed rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from tsfm_lab.bench.flash_fft import has_flash_fft, make_flash_mixer
from tsfm_lab.bench.packed_rows import make_packed_batch
from tsfm_lab.bench.precision import Setting
from tsfm_lab.bench.stu_loop import mix_by_source_loop
from tsfm_lab.bench.timing import time_in_turns
from tsfm_lab.nn.attention import GroupedQueryAttention
from tsfm_lab.nn.attention_blocks import plan_blocks
from tsfm_lab.nn.encoder import PackedContext, attention_layer
from tsfm_lab.nn.packing import plan_segments
from tsfm_lab.nn.rotary import RotaryEmbedding, Rotation
from tsfm_lab.nn.stu_encoder import HybridTransformerSTUEncoder

D_MODEL, NUM_HEADS = 384, 6


def measure_mixing(num_segments: int, setting: Setting, rounds: int) -> dict[str, Any]:
    """Forward and backward of each way to mix 8 × 512 tokens; and of whole layers, with their feed-forward."""
    mixers, layers, x = _make_competitors(num_segments, setting)
    if setting.compiled:
        mixers = {name: torch.compile(mix) for name, mix in mixers.items() if name != "source_loop"}
        layers = {name: torch.compile(layer) for name, layer in layers.items()}
    calls = {name: _make_call(mix, x, setting) for name, mix in mixers.items()}
    whole = {name: _make_call(layer, x, setting) for name, layer in layers.items()}
    warmup = 3 if setting.compiled else 1
    with setting.active():
        times = time_in_turns(calls, rounds, warmup, setting.device, setting.clock)
        layer_times = time_in_turns(whole, rounds, warmup, setting.device, setting.clock)
    row = {"segments": num_segments, **setting.describe()}
    row |= {name: timing.summary() for name, timing in times.items()}
    row |= {f"{name}_layer": timing.summary() for name, timing in layer_times.items()}
    row |= {
        f"{name}/{other}": round(times[name].relative_to(times[other]), 3)
        for name in times
        for other in ("attention_dense", "attention_blocks")
        if not name.startswith("attention")
    }
    row["stu_layer/attention_layer"] = round(layer_times["stu"].relative_to(layer_times["attention_blocks"]), 3)
    return row


def _make_competitors(
    num_segments: int, setting: Setting
) -> tuple[dict[str, Callable[[Tensor], Tensor]], dict[str, Callable[[Tensor], Tensor]], Tensor]:
    """Mixers and layers by name, all (b t d) -> (b t d) with their plans made, and an input."""
    torch.manual_seed(0)
    device, coarse = setting.device, setting.device.type == "cuda"
    batch = make_packed_batch(num_segments)
    sample_id, variate_id, time_id = (batch[name].to(device) for name in ("sample_id", "variate_id", "time_id"))
    segments = plan_segments(sample_id, variate_id, coarse=coarse)
    blocks = plan_blocks(sample_id, variate_id, coarse=coarse)
    rotation = RotaryEmbedding(D_MODEL // NUM_HEADS).to(device)(time_id)
    mask = _dense_mask(sample_id)

    def make_stu_layer(**options: Any) -> nn.Module:
        return HybridTransformerSTUEncoder(D_MODEL, 1, "stu", **options).layers[0].to(device)

    stu = make_stu_layer()
    both_sides = make_stu_layer(branches="separate", causal=False)
    attention = attention_layer(D_MODEL, NUM_HEADS).to(device)
    mixers = {
        "stu": lambda x: x + stu.stu(stu.norm1(x), segments),
        "stu_two_sided": lambda x: x + both_sides.stu(both_sides.norm1(x), segments),
        "source_loop": lambda x: x + mix_by_source_loop(stu.stu, stu.norm1(x), sample_id),
        "attention_blocks": lambda x: x + attention.self_attn(attention.norm1(x), rotation, blocks),
        "attention_dense": lambda x: x + attend_densely(attention.self_attn, attention.norm1(x), rotation, mask),
    }
    if device.type == "cuda" and has_flash_fft():
        convolve = make_flash_mixer(stu.stu, segments)
        mixers["stu_flash_fft"] = lambda x: x + convolve(stu.norm1(x))
    context = PackedContext(rotation, blocks, segments)
    layers = {"stu": lambda x: stu(x, context), "attention_blocks": lambda x: attention(x, context)}
    return mixers, layers, torch.randn(*sample_id.shape, D_MODEL, device=device, requires_grad=True)


def attend_densely(attention: GroupedQueryAttention, x: Tensor, rotation: Rotation, mask: Tensor) -> Tensor:
    """The attention block as usually written, every pair of tokens of a row: `x: (b t d), mask: (b 1 t t) float`."""
    q, k, v = (rearrange(part, "b t h e -> b h t e") for part in attention.project(x, rotation))
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask.to(q.dtype))
    return attention.out_proj(rearrange(mixed, "b h t e -> b t (h e)"))


def _dense_mask(sample_id: Tensor) -> Tensor:
    """(b t) -> (b 1 t t): 0 within a sample, −∞ elsewhere."""
    same = sample_id[:, None, :, None] == sample_id[:, None, None, :]
    return torch.zeros(same.shape, device=sample_id.device).masked_fill(~same, -torch.inf)


def _make_call(mix: Callable[[Tensor], Tensor], x: Tensor, setting: Setting) -> Callable[[], None]:
    weight = torch.ones_like(x)

    def call() -> None:
        with setting.autocast():
            y = mix(x)
        x.grad = None
        y.backward(weight.to(y.dtype))

    return call
