"""What a causal model says of the patches after its tokens, and which tokens those are."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class PredictedPatches:
    """Quantiles of the n patches after each of m tokens of a batch (b t p), in units of their series' scale."""

    quantiles: Tensor  # (m n q p)
    ahead: Tensor  # (m n) int64: the flat (b t) token that each patch is; −1: none that is to be predicted
    loc: Tensor  # (b t 1), of each token's series
    scale: Tensor  # (b t 1)

    def take(self, per_token: Tensor) -> Tensor:
        """A field's values at the tokens ahead: `(b t ...) -> (m n ...)`; the first token's where there is none."""
        return per_token.flatten(0, 1)[self.ahead.clamp_min(0)]


def find_next_tokens(sample_id: Tensor, time_id: Tensor, variate_id: Tensor, num_ahead: int) -> Tensor:
    """The tokens of the same series 1, 2, … num_ahead patches later: (b t n) int64, into the flat (b t); −1: none.

    sample_id, time_id, variate_id: (b t) int; a series stands in one piece, in the order of time; a
    token behind a gap in it counts as none.
    """
    b, t = sample_id.shape
    place = torch.arange(b * t, device=sample_id.device).view(b, t)
    following = place.new_full((b, t, num_ahead), -1)
    for j in range(1, min(num_ahead, t - 1) + 1):
        same = (sample_id[:, j:] == sample_id[:, :-j]) & (variate_id[:, j:] == variate_id[:, :-j])
        later = (time_id[:, j:] - time_id[:, :-j] == j) & (sample_id[:, j:] > 0)
        following[:, :-j, j - 1] = torch.where(same & later, place[:, j:], -1)
    return following
