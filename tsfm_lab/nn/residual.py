"""Two-layer perceptron with a linear shortcut, between patches and embeddings."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """y = W_o silu(W_h x + b_h) + b_o + W_r x + b_r, a map between widths (Das et al. 2024, arXiv:2310.10688, §4).

    `x: (... input_dims) -> y: (... output_dims)`.
    """

    def __init__(self, input_dims: int, hidden_dims: int, output_dims: int):
        super().__init__()
        self.hidden_layer = nn.Linear(input_dims, hidden_dims)
        self.output_layer = nn.Linear(hidden_dims, output_dims)
        self.residual_layer = nn.Linear(input_dims, output_dims)

    def forward(self, x: Tensor) -> Tensor:
        return self.output_layer(F.silu(self.hidden_layer(x))) + self.residual_layer(x)
