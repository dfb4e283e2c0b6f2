"""Standardisation of packed series: location and scale of each (sample, variate) from what may be seen of it."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def number_series(sample_id: Tensor, variate_id: Tensor) -> tuple[Tensor, int]:
    """Number the (row, sample, variate) triples of a packed batch: `(b t), (b t) -> (b t) int64, count`."""
    row = torch.arange(len(sample_id), device=sample_id.device)[:, None]
    key = (row * (sample_id.max() + 1) + sample_id) * (variate_id.max() + 1) + variate_id
    series, number = torch.unique(key, return_inverse=True)
    return number, len(series)


class PackedStdScaler(nn.Module):
    """loc = mean, scale = √(var + ε) of each (sample, variate) over its observed values, in float64.

    The variance divides by n − 1; a series with nothing observed has loc 0 and scale √ε; padding has 0 and 1.

    `target: (b t p), observed_mask: (b t p) bool, sample_id, variate_id: (b t) int -> loc, scale: (b t 1) float32`.
    """

    def __init__(self, minimum_variance: float = 1e-5):
        super().__init__()
        self.minimum_variance = minimum_variance

    @torch.no_grad()
    def forward(
        self, target: Tensor, observed_mask: Tensor, sample_id: Tensor, variate_id: Tensor
    ) -> tuple[Tensor, Tensor]:
        series, count = number_series(sample_id, variate_id)

        def sum_over_series(per_value: Tensor) -> Tensor:
            sums = per_value.new_zeros(count).index_add_(0, series.flatten(), per_value.sum(-1).flatten())
            return sums[series][..., None]

        values = target.double()
        n = sum_over_series(observed_mask.double())
        loc = sum_over_series(torch.where(observed_mask, values, 0.0)) / n.clamp_min(1.0)
        variance = sum_over_series(torch.where(observed_mask, values - loc, 0.0).square()) / (n - 1).clamp_min(1.0)
        scale = (variance + self.minimum_variance).sqrt()
        padding = (sample_id == 0)[..., None]
        return loc.masked_fill(padding, 0.0).float(), scale.masked_fill(padding, 1.0).float()


class UnitScaler(nn.Module):
    """loc 0 and scale 1 everywhere, for models that are trained on values as they are; called as `PackedStdScaler`."""

    def forward(
        self, target: Tensor, observed_mask: Tensor, sample_id: Tensor, variate_id: Tensor
    ) -> tuple[Tensor, Tensor]:
        loc = torch.zeros_like(target[..., :1])
        return loc, torch.ones_like(loc)
