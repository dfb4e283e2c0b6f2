"""Rotary position embedding of queries and keys on part of the head dimension."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Rotation(NamedTuple):
    """cos and sin of every token's angles, one pair of head channels each: (b t 1 r/2)."""

    cos: Tensor
    sin: Tensor


class RotaryEmbedding(nn.Module):
    """Angles t·θ_i, θ_i = base^(−2i/r), by which the first r = fraction·head_dim channels of a head are rotated.

    Su et al. 2021, arXiv:2104.09864, Eq. 15; rotated are the **interleaved** pairs (2i, 2i+1), as MOIRAI and Timer-XL
    do. The angles are computed from the ids themselves, so that there is no longest position.

    `position: (b t) int, in tokens -> Rotation of (b t 1 r/2)`.

    Raises
    ------
    ValueError: when fraction·head_dim is no positive even number.
    """

    def __init__(self, head_dim: int, fraction: float = 0.5, base: float = 10_000.0):
        super().__init__()
        rotated = int(head_dim * fraction)
        if rotated < 2 or rotated % 2:
            raise ValueError(f"fraction · head_dim must be even and ≥ 2, got {fraction} · {head_dim} = {rotated}")
        exponent = torch.arange(0, rotated, 2, dtype=torch.float) / rotated
        self.register_buffer("theta", 1.0 / base**exponent, persistent=False)

    def forward(self, position: Tensor) -> Rotation:
        angle = position[..., None, None] * self.theta
        return Rotation(angle.cos(), angle.sin())


def apply_rotary(x: Tensor, rotation: Rotation) -> Tensor:
    """Rotate the leading channel pairs of each head: (x₁ + i x₂) ↦ (x₁ + i x₂)·(cos + i sin).

    `x: (b t h e) -> (b t h e)`; channels past the rotation's r are passed through. Computed in float32 at least, the
    dtype of x is kept.
    """
    cos, sin = rotation
    r = 2 * cos.shape[-1]
    rotated, passed = x.split([r, x.shape[-1] - r], dim=-1)
    pairs = rotated.to(torch.promote_types(x.dtype, cos.dtype)).unflatten(-1, (-1, 2))
    if torch.compiler.is_compiling():  # the compiler fuses real arithmetic and has none for complex numbers
        x1, x2 = pairs.unbind(-1)
        turned = torch.stack([x1 * cos - x2 * sin, x2 * cos + x1 * sin], dim=-1)
    else:
        turned = torch.view_as_real(torch.view_as_complex(pairs) * torch.complex(cos, sin))
    return torch.cat([turned.flatten(-2).to(x.dtype), passed], dim=-1)
