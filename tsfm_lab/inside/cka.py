"""Linear CKA: how alike two layers see the same tokens, up to rotation and scale.

Kornblith et al. 2019, arXiv:1905.00414; the unbiased HSIC of Song et al. 2012 within, as Nguyen et al. 2021
(arXiv:2010.15327) use it: with fewer tokens than channels the biased one is near 1 for anything.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def unbiased_hsic(x: Tensor, y: Tensor) -> Tensor:
    """HSIC₁ = [tr(K̃L̃) + (1ᵀK̃1)(1ᵀL̃1)/((n−1)(n−2)) − 2 (1ᵀK̃L̃1)/(n−2)] / (n(n−3)), K = xxᵀ, L = yyᵀ.

    K̃ and L̃ have no diagonal. Song et al. 2012, JMLR 13:1393, through d × d products instead of n × n kernels.
    `x: (n d), y: (n e) -> ()` float64.

    Raises
    ------
    ValueError: fewer than 4 tokens, or another number of them in x and y.
    """
    if x.dim() != 2 or y.dim() != 2 or len(x) != len(y) or len(x) < 4:
        raise ValueError(f"x and y must be (n d) and (n e), n ≥ 4 tokens, got {tuple(x.shape)} and {tuple(y.shape)}")
    n = len(x)
    x, y = (z.double() - z.double().mean(0) for z in (x, y))  # changes nothing but the rounding
    k, l = x.square().sum(1), y.square().sum(1)  # noqa: E741
    row_k, row_l = x @ x.sum(0) - k, y @ y.sum(0) - l  # K̃1, L̃1
    trace = (x.T @ y).square().sum() - k @ l
    product = row_k.sum() * row_l.sum() / ((n - 1) * (n - 2))
    return (trace + product - 2 * row_k @ row_l / (n - 2)) / (n * (n - 3))


def linear_cka(x: Tensor, y: Tensor) -> Tensor:
    """HSIC₁(x, y) / √(HSIC₁(x, x) HSIC₁(y, y)): 1 if one is a rotation and a scaling of the other.

    Near 0, and as often below as above, if they have nothing in common. `x: (n d), y: (n e) -> ()` float64.
    """
    return unbiased_hsic(x, y) / (unbiased_hsic(x, x) * unbiased_hsic(y, y)).sqrt()


def biased_cka(x: Tensor, y: Tensor) -> Tensor:
    """‖yᵀx‖²/(‖xᵀx‖ ‖yᵀy‖) of centred x and y (Kornblith et al., §3), to show what `linear_cka` mends."""
    x, y = (z.double() - z.double().mean(0) for z in (x, y))
    return (y.T @ x).square().sum() / ((x.T @ x).norm() * (y.T @ y).norm())


def cka_between_layers(first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
    """`linear_cka` of every layer of one model with every layer of another: (L₁ L₂) float64."""
    return torch.stack([torch.stack([linear_cka(x, y) for y in second]) for x in first])
