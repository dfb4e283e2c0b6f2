"""Linear maps with one weight per patch size: patches to embeddings, embeddings to outputs per position."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def group_by_patch_size(patch_size: Tensor, patch_sizes: Sequence[int]) -> list[Tensor]:
    """Tokens of each patch size: `patch_size: (n) int -> [(n_0), (n_1), …] int64`, indices into n.

    Tokens of a size not in `patch_sizes` (padding has 0) are in no group.
    """
    known = patch_size[:, None] == torch.as_tensor(patch_sizes, device=patch_size.device)
    group = torch.where(known.any(1), known.int().argmax(1), len(patch_sizes))
    counts = torch.bincount(group, minlength=len(patch_sizes) + 1).tolist()
    return list(group.argsort(stable=True).split(counts)[: len(patch_sizes)])


class MultiInSizeLinear(nn.Module):
    """y = W_p x_{:p} + b_p for a token of patch size p; 0 for a token of no known size (Woo et al. 2024, §3.1.1).

    `weight: (s d P), bias: (s d)` for s patch sizes, the largest of which is P; weights past p are kept and unused.
    """

    def __init__(self, patch_sizes: Sequence[int], out_features: int):
        super().__init__()
        self.patch_sizes = tuple(patch_sizes)
        self.weight = nn.Parameter(torch.zeros(len(self.patch_sizes), out_features, max(self.patch_sizes)))
        self.bias = nn.Parameter(torch.zeros(len(self.patch_sizes), out_features))
        with torch.no_grad():
            for p, weight, bias in zip(self.patch_sizes, self.weight, self.bias, strict=True):
                weight[:, :p].uniform_(-1 / sqrt(p), 1 / sqrt(p))
                bias.uniform_(-1 / sqrt(p), 1 / sqrt(p))

    def forward(self, x: Tensor, patch_size: Tensor) -> Tensor:
        """`x: (b t P), patch_size: (b t) int -> (b t d)`."""
        flat, groups = x.flatten(0, 1), group_by_patch_size(patch_size.flatten(), self.patch_sizes)
        outputs = [
            F.linear(flat[tokens, :p], weight[:, :p], bias)
            for p, tokens, weight, bias in zip(
                self.patch_sizes, groups, self.weight.unbind(), self.bias.unbind(), strict=True
            )
        ]
        y = torch.cat(outputs).to(x.dtype)  # under autocast too, so that the residual stream is float32
        y = y.new_zeros(len(flat), y.shape[-1]).index_copy(0, torch.cat(groups), y)
        return y.unflatten(0, x.shape[:2])


class FeatLinear(nn.Module):
    """y = W_p x + b_p for a token of patch size p, from embedding to embedding; 0 for a token of no known size.

    `weight: (s d d), bias: (s d)` for s patch sizes.
    """

    def __init__(self, patch_sizes: Sequence[int], d_model: int):
        super().__init__()
        self.patch_sizes = tuple(patch_sizes)
        bound = 1 / sqrt(d_model)
        shape = (len(self.patch_sizes), d_model)
        self.weight = nn.Parameter(torch.empty(*shape, d_model).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(shape).uniform_(-bound, bound))

    def forward(self, x: Tensor, patch_size: Tensor) -> Tensor:
        """`x: (b t d), patch_size: (b t) int -> (b t d)`."""
        flat, groups = x.flatten(0, 1), group_by_patch_size(patch_size.flatten(), self.patch_sizes)
        parts = zip(groups, self.weight.unbind(), self.bias.unbind(), strict=True)
        y = torch.cat([F.linear(flat[tokens], weight, bias) for tokens, weight, bias in parts]).to(x.dtype)
        return torch.zeros_like(flat).index_copy(0, torch.cat(groups), y).unflatten(0, x.shape[:2])


class MultiOutSizeLinear(nn.Module):
    """One weight per patch size p, whose first dim·p of dim·P rows are live; y = W_p x + b_p is laid out (dim P).

    The published layout: rows are counted through "(dim P)" while dim·p of them are live, so that for dim > 1 and a
    small p only the first of the `dim` outputs depends on x; the others are their bias, which is never masked.

    `weight: (s dim·P d), bias: (s dim·P)`.
    """

    def __init__(self, in_features: int, patch_sizes: Sequence[int], dim: int = 1):
        super().__init__()
        self.patch_sizes, self.dim = tuple(patch_sizes), dim
        rows = dim * max(self.patch_sizes)
        self.weight = nn.Parameter(torch.zeros(len(self.patch_sizes), rows, in_features))
        self.bias = nn.Parameter(torch.zeros(len(self.patch_sizes), rows))
        bound = 1 / sqrt(in_features)
        with torch.no_grad():
            for p, weight, bias in zip(self.patch_sizes, self.weight, self.bias, strict=True):
                weight[: dim * p].uniform_(-bound, bound)
                bias[: dim * p].uniform_(-bound, bound)

    def rows(self, positions: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
        """Weight and bias of each patch size, for the first `positions` of its P positions.

        `positions: (s) ints -> [(dim·n d), (dim·n)] per patch size`, n its number of positions, rows laid out (dim n).
        """
        largest, device = max(self.patch_sizes), self.weight.device
        selected = []
        for p, n, weight, bias in zip(
            self.patch_sizes, positions, self.weight.unbind(), self.bias.unbind(), strict=True
        ):
            row = (torch.arange(self.dim, device=device)[:, None] * largest + torch.arange(n, device=device)).flatten()
            live = (row < self.dim * p)[:, None]
            selected.append((weight.index_select(0, row) * live, bias.index_select(0, row)))
        return selected

    def forward(self, x: Tensor, patch_size: Tensor) -> Tensor:
        """`x: (n d), patch_size: (n) int -> (n dim·P)`; 0 for a token of no known size."""
        groups = group_by_patch_size(patch_size, self.patch_sizes)
        rows = self.rows([max(self.patch_sizes)] * len(self.patch_sizes))
        outputs = torch.cat([F.linear(x[tokens], *row) for tokens, row in zip(groups, rows, strict=True)])
        return outputs.new_zeros(len(x), outputs.shape[-1]).index_copy(0, torch.cat(groups), outputs)
