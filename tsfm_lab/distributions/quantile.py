"""Quantiles: their levels, their order, those of a sample, and the law that a few of them determine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints


def check_quantile_levels(levels: Sequence[float]) -> tuple[float, ...]:
    """The levels as a tuple. Raises ValueError unless they ascend within (0, 1)."""
    levels = tuple(float(level) for level in levels)
    if not levels or any(not 0 < level < 1 for level in levels) or list(levels) != sorted(set(levels)):
        raise ValueError(f"quantile_levels must be ascending and within (0, 1), got {levels}")
    return levels


def empirical_quantiles(values: Tensor, levels: Sequence[float]) -> Tensor:
    """Quantiles of n values, linear between order statistics: place τ (n − 1). `values: (... n) -> (... q)`.

    `torch.quantile` without its limit of 16 million values.
    """
    place = torch.as_tensor(levels, dtype=values.dtype, device=values.device) * (values.shape[-1] - 1)
    below = place.floor().long()
    ordered = values.sort(-1).values
    above = (below + 1).clamp_max(values.shape[-1] - 1)
    return torch.lerp(ordered[..., below], ordered[..., above], place - below)


def repair_crossings(quantiles: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Quantiles in ascending order along `dim`, and how many neighbouring pairs were not: () int64.

    Sorting never raises the quantile loss (Chernozhukov et al. 2010, arXiv:0704.3649).
    """
    return quantiles.sort(dim).values, (quantiles.diff(dim=dim) < 0).sum()


class QuantileKnots(Distribution):
    """Distribution function through the points (x_i, τ_i): linear in between, an exponential tail on either side.

    A tail holds the mass beyond the outermost level and starts with the density of the interval beside it. Crossing
    quantiles are sorted. `knots: (... q), levels: (q)`, increasing, between 0 and 1.
    """

    arg_constraints: ClassVar = {}
    support = constraints.real

    def __init__(self, knots: Tensor, levels: Tensor):
        self.knots, self.levels = knots.sort(-1).values, levels.to(knots)
        width = self.knots.diff(dim=-1)
        self.width = width.clamp_min(torch.finfo(knots.dtype).eps)
        self.density = self.levels.diff() / self.width  # (... q-1)
        self.lower_tail = self.levels[0] / self.density[..., 0]  # mean distance from the outermost knot
        self.upper_tail = (1 - self.levels[-1]) / self.density[..., -1]
        super().__init__(knots.shape[:-1], validate_args=False)

    @property
    def mean(self) -> Tensor:
        middle = (self.knots[..., 1:] + self.knots[..., :-1]) / 2
        below = self.levels[0] * (self.knots[..., 0] - self.lower_tail)
        above = (1 - self.levels[-1]) * (self.knots[..., -1] + self.upper_tail)
        return (middle * self.levels.diff()).sum(-1) + below + above

    def log_prob(self, value: Tensor) -> Tensor:
        below, above = self._distance_to_tails(value)
        i = self._interval(value[..., None] >= self.knots)
        density = self._at(self.density, i).log()
        return density - below / self.lower_tail - above / self.upper_tail

    def cdf(self, value: Tensor) -> Tensor:
        below, above = self._distance_to_tails(value)
        i = self._interval(value[..., None] >= self.knots)
        part = ((value - self._at(self.knots, i)) / self._at(self.width, i)).clamp(0, 1)
        inner = self.levels[i] + part * self.levels.diff()[i]
        lower = self.levels[0] * (-below / self.lower_tail).exp()
        upper = 1 - (1 - self.levels[-1]) * (-above / self.upper_tail).exp()
        return torch.where(below > 0, lower, torch.where(above > 0, upper, inner))

    def icdf(self, value: Tensor) -> Tensor:
        first, last = self.levels[0], self.levels[-1]
        i = self._interval(value[..., None] >= self.levels)
        inner = self._at(self.knots, i) + (value - self.levels[i]) / self._at(self.density, i)
        lower = self.knots[..., 0] + self.lower_tail * (value / first).log()
        upper = self.knots[..., -1] - self.upper_tail * ((1 - value) / (1 - last)).log()
        return torch.where(value < first, lower, torch.where(value > last, upper, inner))

    @torch.no_grad()
    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        return self.icdf(
            torch.rand(self._extended_shape(sample_shape), dtype=self.knots.dtype, device=self.knots.device)
        )

    def _distance_to_tails(self, value: Tensor) -> tuple[Tensor, Tensor]:
        """How far the value lies below the first and above the last knot, 0 where it does not."""
        return (self.knots[..., 0] - value).clamp_min(0), (value - self.knots[..., -1]).clamp_min(0)

    def _interval(self, reached: Tensor) -> Tensor:
        """Index of the interval between two knots, from which of the knots are reached: (... q) bool -> (...)."""
        return (reached.sum(-1) - 1).clamp(0, len(self.levels) - 2)

    def _at(self, per_interval: Tensor, i: Tensor) -> Tensor:
        """`per_interval: (... q or q-1), i: (s ...) -> (s ...)`."""
        return per_interval.expand(*i.shape, per_interval.shape[-1]).gather(-1, i[..., None]).squeeze(-1)
