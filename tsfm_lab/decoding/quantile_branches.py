"""Decoding beyond one pass with a model of quantiles: each quantile is continued as a branch of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from einops import rearrange
from torch import Tensor

from tsfm_lab.distributions import empirical_quantiles

Extend = Callable[[Tensor], Tensor]


def decode_quantile_branches(first: Tensor, extend: Extend, num_patches: int, levels: Sequence[float]) -> Tensor:
    """Recursive multi-quantile decoding: every level's path is fed back, and q·q predictions become q again.

    Liu et al. 2025, arXiv:2511.11698, §3: branch r of q goes on with quantile r as if observed, the model predicts q
    quantiles after each branch, and the quantiles of those q·q values are the forecast and the branches' next patches.

    Parameters
    ----------
    first: (b c n q p), the n patches after the context.
    extend: given each branch's newest patches (b r c n p), the quantiles of the n patches after them, (b r c n q p).
    num_patches: wanted, in patches; n or fewer need no further pass.
    levels: (q).

    Returns
    -------
    (b c num_patches q p).
    """
    newest, patches = first, [first]
    for _ in range(-(-num_patches // first.shape[2]) - 1):
        ahead = extend(rearrange(newest, "b c n r p -> b r c n p"))
        gathered = rearrange(ahead, "b r c n q p -> b c n p (r q)")
        newest = rearrange(empirical_quantiles(gathered, levels), "b c n p q -> b c n q p")
        patches.append(newest)
    return torch.cat(patches, dim=2)[:, :, :num_patches]
