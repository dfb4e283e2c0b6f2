"""Losses over packed batches, in which every series weighs the same whatever its length."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor
from torch.distributions import Distribution

from tsfm_lab.data.packing import PackedBatch
from tsfm_lab.distributions import PredictedValues, check_quantile_levels
from tsfm_lab.models.predicted_patches import PredictedPatches
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
        return count_series(batch)

    def broken_rows(self, pred: Distribution | PredictedValues, batch: PackedBatch) -> Tensor:
        """Rows with an observed value whose log-density is not finite: (b) bool."""
        log_prob = pred.log_prob(batch["target"]).masked_fill(~batch["observed_mask"], 0)
        return ~torch.isfinite(log_prob).all(dim=(1, 2))


FARTHEST = 100.0  # scales from the location: a context that hardly varies would put what follows 1e6 of them away


class PackedQuantileLoss:
    """L = 1/S Σ_series 1/n_s Σ_values 1/q Σ_τ max(τ (z − ẑ_τ), (τ − 1) (z − ẑ_τ)): the quantile (pinball) loss.

    Of a model that foresees several patches after every token, with z in units of the series' scale (Liu et al. 2025,
    arXiv:2511.11698, §3), cut at ±FARTHEST so that one series cannot drown a batch. A value that several tokens foresee
    counts each time, in n_s too. Sums as in `PackedNLLLoss`. quantile_levels: τ, (q).
    """

    def __init__(self, quantile_levels: Sequence[float]):
        self.quantile_levels = check_quantile_levels(quantile_levels)

    def __call__(self, pred: PredictedPatches, batch: PackedBatch) -> Tensor:
        """The loss of a batch, a scalar; 0 without a predicted token."""
        return self.summed(pred, batch) / self.num_series(batch).clamp_min(1)

    def summed(self, pred: PredictedPatches, batch: PackedBatch) -> Tensor:
        """Σ over the series of their mean loss; one with nothing observed to predict adds 0."""
        counted = (pred.ahead >= 0)[..., None] & pred.take(batch["observed_mask"])  # (m n p)
        loss = torch.where(counted, self.per_value(pred, batch), 0.0)
        series, count = number_series(batch["sample_id"], batch["variate_id"])
        series = pred.take(series[..., None]).squeeze(-1)  # (m n)
        per_patch = counted.sum(-1)
        n = per_patch.new_zeros(count).index_add_(0, series.flatten(), per_patch.flatten())
        return (loss.sum(-1) / n.clamp_min(1)[series]).sum()

    def per_value(self, pred: PredictedPatches, batch: PackedBatch) -> Tensor:
        """The mean over the levels for every value ahead, (m n p), whether it counts or not."""
        z = (pred.take(batch["target"]) - pred.take(pred.loc)) / pred.take(pred.scale)
        z = z.clamp(-FARTHEST, FARTHEST)
        tau = rearrange(torch.as_tensor(self.quantile_levels, device=z.device), "q -> q 1")
        error = z[:, :, None] - pred.quantiles
        return torch.maximum(tau * error, (tau - 1) * error).mean(-2)

    def num_series(self, batch: PackedBatch) -> Tensor:
        """S: () int64."""
        return count_series(batch)

    def broken_rows(self, pred: PredictedPatches, batch: PackedBatch) -> Tensor:
        """Rows with an observed value whose loss is not finite: (b) bool."""
        counted = (pred.ahead >= 0)[..., None] & pred.take(batch["observed_mask"])
        broken = (counted & ~self.per_value(pred, batch).isfinite()).any(-1)
        rows = torch.zeros(len(batch["sample_id"]), dtype=torch.bool, device=broken.device)
        rows[pred.ahead[broken] // batch["sample_id"].shape[1]] = True
        return rows


def count_series(batch: PackedBatch) -> Tensor:
    """How many (row, sample, variate) of a batch have a token to be predicted: () int64."""
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
