"""Feed-forward layer of the encoders: a gated linear unit."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


def glu_width(d_model: int) -> int:
    """Hidden width that gives a GLU the parameters of a plain feed-forward of 4·d: ⅔·4·d, rounded up to 8."""
    return (int(4 * d_model * 2 / 3) + 7) // 8 * 8


class GatedLinearUnit(nn.Module):
    """y = W₂ (silu(W_gate x) ⊙ W₁ x), Shazeer 2020, arXiv:2002.05202, Eq. 6 (SwiGLU).

    `x: (... d) -> y: (... d)`; the hidden width d_ff defaults to `glu_width(d_model)`.
    """

    def __init__(self, d_model: int, d_ff: int | None = None, dropout_p: float = 0.0):
        super().__init__()
        d_ff = d_ff or glu_width(d_model)
        self.fc1 = nn.Linear(d_model, d_ff, bias=False)
        self.fc2 = nn.Linear(d_ff, d_model, bias=False)
        self.fc_gate = nn.Linear(d_model, d_ff, bias=False)
        self.dropout = nn.Dropout(dropout_p)

    def forward(self, x: Tensor) -> Tensor:
        hidden = F.silu(self.fc_gate(x)) * self.fc1(x)
        return self.dropout(self.fc2(self.dropout(hidden)))
