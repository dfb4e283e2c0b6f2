"""Root-mean-square normalisation, used before every layer and on queries and keys."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RMSNorm(nn.Module):
    """y = w ⊙ x / √(mean_d(x²) + ε), over the last axis.

    Zhang & Sennrich 2019, arXiv:1910.07467. `x: (... d) -> y: (... d)`; ε = 1e-5 in every published MOIRAI checkpoint.
    """

    def __init__(self, dim: int, eps: float = 1e-5):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), self.eps)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]}, eps={self.eps}"
