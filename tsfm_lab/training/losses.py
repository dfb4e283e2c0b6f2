"""Losses over packed batches, in which every series weighs the same whatever its length."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution

from tsfm_lab.data.packing import PackedBatch
from tsfm_lab.distributions import PredictedValues
from tsfm_lab.nn.scaler import number_series


class PackedNLLLoss:
    """L = 1/S Σ_series 1/n_s Σ_values −log p(value): the mean over S series of the mean over their predicted values.

    Woo et al. 2024, arXiv:2402.02592, Eq. 4, with uni2ts's weights. A series is a (row, sample, variate) with a
    predicted token; n_s counts its predicted values that are observed. Sum and S also come apart, because across ranks
    or parts of a batch the loss is Σ sums / Σ S, which is no mean of the parts' losses.
    """

    def __call__(self, pred: Distribution | PredictedValues, batch: PackedBatch) -> Tensor:
        """The loss of a batch, a scalar; 0 without a predicted token. pred: law with `log_prob: (b t p) -> (b t p)`."""
        return self.summed(pred, batch) / self.num_series(batch).clamp_min(1)

    def summed(self, pred: Distribution | PredictedValues, batch: PackedBatch) -> Tensor:
        """Σ over the series of their mean negative log-likelihood; one with nothing observed to predict adds 0."""
        weights = weigh_values(batch)
        # what is not predicted must not count even where its log-density is −inf or NaN
        nll = torch.where(weights > 0, -pred.log_prob(batch["target"]), 0.0)
        return (nll * weights).sum()

    def num_series(self, batch: PackedBatch) -> Tensor:
        """S: () int64."""
        series, count = number_series(batch["sample_id"], batch["variate_id"])
        predicted = torch.zeros(count, dtype=torch.bool, device=series.device)
        predicted[series[batch["prediction_mask"]]] = True
        return predicted.sum()


def weigh_values(batch: PackedBatch) -> Tensor:
    """Weight of each value in its series' mean: 1/n_s for the n_s predicted, observed values of a series, 0 for others.

    `-> (b t p) float32`
    """
    counted = batch["observed_mask"] & batch["prediction_mask"][..., None]
    series, count = number_series(batch["sample_id"], batch["variate_id"])
    per_token = counted.sum(-1)
    n = per_token.new_zeros(count).index_add_(0, series.flatten(), per_token.flatten())
    return counted / n.clamp_min(1)[series][..., None]
