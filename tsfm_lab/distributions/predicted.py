"""A law for some of a batch's values only: those that a model was asked to predict."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.distributions import Distribution


@dataclass(frozen=True)
class PredictedValues:
    """The predictive law of the m predicted values of a batch (b t p), and where in the batch they stand.

    Parameters for the other values are not computed: training and forecasting need no more.
    """

    law: Distribution  # batch shape (m)
    index: Tensor  # (m) int64, into the flat (b t p): by patch size, then token, then position in the patch
    shape: tuple[int, int, int]  # (b, t, p)

    def log_prob(self, value: Tensor) -> Tensor:
        """`value: (b t p) -> (b t p)`, 0 where nothing is predicted."""
        return self.scatter(self.law.log_prob(self.gather(value)))

    def gather(self, values: Tensor) -> Tensor:
        """The predicted ones of a batch's values: `(b t p) -> (m)`."""
        return values.reshape(-1).index_select(0, self.index)

    def scatter(self, predicted: Tensor) -> Tensor:
        """Predicted values at their places, 0 elsewhere: `(… m) -> (… b t p)`."""
        size = self.shape[0] * self.shape[1] * self.shape[2]
        placed = predicted.new_zeros(*predicted.shape[:-1], size).index_copy(-1, self.index, predicted)
        return placed.unflatten(-1, self.shape)
