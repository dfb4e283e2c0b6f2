"""From token encodings to a law's unbounded parameters, per patch size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from tsfm_lab.distributions.outputs import Tree
from tsfm_lab.nn.embed import MultiOutSizeLinear, group_by_patch_size


class ParamProjection(nn.Module):
    """One `MultiOutSizeLinear` for each parameter of a law, in a module tree `proj` shaped like `args_dim`.

    All parameters of one patch size come from one matrix product, over the tokens of that size.

    Parameters
    ----------
    in_features: d, width of the encodings.
    patch_sizes: admissible patch sizes; P is the largest.
    args_dim: a distribution output's `args_dim`.
    """

    def __init__(self, in_features: int, patch_sizes: Sequence[int], args_dim: Tree):
        super().__init__()
        self.patch_sizes, self.args_dim = tuple(patch_sizes), args_dim
        self.proj = _as_module(args_dim, lambda dim: MultiOutSizeLinear(in_features, patch_sizes, dim))

    def forward(self, x: Tensor, patch_size: Tensor) -> Tree:
        """Parameters of all P positions of every token: `x: (n d), patch_size: (n) -> tree of (n P dim)`.

        A token of no known patch size gets 0.
        """
        tokens, by_size = self._project(x, patch_size, [max(self.patch_sizes)] * len(self.patch_sizes))
        values = (torch.cat(parts) for parts in zip(*by_size, strict=True))
        order = torch.cat(tokens)
        return self._as_tree(v.new_zeros(len(x), *v.shape[1:]).index_copy(0, order, v) for v in values)

    def within_patches(self, x: Tensor, patch_size: Tensor) -> tuple[Tree, Tensor]:
        """Parameters of the positions inside each token's patch only, the m = Σ patch_size of them in one row.

        `x: (n d), patch_size: (n) -> tree of (m dim), index: (m) int64 into (n P)`; grouped by patch size, within
        a size by token, within a token by position.
        """
        tokens, by_size = self._project(x, patch_size, self.patch_sizes)
        values = (torch.cat([part.flatten(0, 1) for part in parts]) for parts in zip(*by_size, strict=True))
        index = [
            (group[:, None] * max(self.patch_sizes) + torch.arange(p, device=x.device)).flatten()
            for p, group in zip(self.patch_sizes, tokens, strict=True)
        ]
        return self._as_tree(values), torch.cat(index)

    def _project(
        self, x: Tensor, patch_size: Tensor, positions: Sequence[int]
    ) -> tuple[list[Tensor], list[list[Tensor]]]:
        """For each patch size: its tokens (n_s), and each parameter's values (n_s positions dim) for them."""
        groups = group_by_patch_size(patch_size, self.patch_sizes)
        leaves = [leaf for leaf in self.modules() if isinstance(leaf, MultiOutSizeLinear)]
        rows = zip(*(leaf.rows(positions) for leaf in leaves), strict=True)
        by_size = []
        for group, n, weights_and_biases in zip(groups, positions, rows, strict=True):
            weight, bias = (torch.cat(tensors) for tensors in zip(*weights_and_biases, strict=True))
            values = F.linear(x.index_select(0, group), weight, bias)
            values = values.to(torch.promote_types(values.dtype, torch.float32))  # densities need it, autocast or not
            parts = values.split([leaf.dim * n for leaf in leaves], dim=-1)
            by_size.append([rearrange(part, "m (k n) -> m n k", n=n) for part in parts])
        return groups, by_size

    def _as_tree(self, values: Iterator[Tensor]) -> Tree:
        return _rebuild(self.args_dim, iter(values))


def _as_module(tree: Tree, make: Callable[[int], nn.Module]) -> nn.Module:
    if isinstance(tree, dict):
        return nn.ModuleDict({name: _as_module(child, make) for name, child in tree.items()})
    if isinstance(tree, list):
        return nn.ModuleList([_as_module(child, make) for child in tree])
    return make(tree)


def _rebuild(tree: Tree, leaves: Iterator[Tensor]) -> Tree:
    if isinstance(tree, dict):
        return {name: _rebuild(child, leaves) for name, child in tree.items()}
    if isinstance(tree, list):
        return [_rebuild(child, leaves) for child in tree]
    return next(leaves)
