"""Parametric laws: those of torch.distributions where they fit, completed or replaced where they do not.

All are built without torch's argument checks, which cost a pass over the parameters and turn one NaN into an exception
in the middle of training; a value outside a law's support has log-density −inf.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import log, pi
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Distribution, Laplace, Normal, constraints
from torch.distributions import LogNormal as TorchLogNormal
from torch.distributions import Pareto as TorchPareto
from torch.distributions.utils import broadcast_all

from tsfm_lab.distributions.special import invert_cdf, regularised_beta, student_t_cdf, student_t_icdf

__all__ = ["Laplace", "LogNormal", "NegativeBinomial", "Normal", "Pareto", "StudentT", "map_parameters"]


def map_parameters(law: Distribution, change: Callable[[Tensor], Tensor]) -> Distribution:
    """The same law with `change` applied to each of its parameters, e.g. an index or a dtype."""
    parameters = {name: change(getattr(law, name)) for name in law.arg_constraints}
    return type(law)(**parameters, validate_args=False)


class StudentT(Distribution):
    """p(x) ∝ (1 + y²/df)^(−(df+1)/2), y = (x − loc)/scale."""

    arg_constraints: ClassVar = {"df": constraints.positive, "loc": constraints.real, "scale": constraints.positive}
    support = constraints.real

    def __init__(self, df: Tensor, loc: Tensor, scale: Tensor, validate_args: bool | None = None):
        self.df, self.loc, self.scale = broadcast_all(df, loc, scale)
        super().__init__(self.df.shape, validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        return torch.where(self.df > 1, self.loc, torch.nan)

    def log_prob(self, value: Tensor) -> Tensor:
        y = (value - self.loc) / self.scale
        half = self.df / 2
        normaliser = self.scale.log() + 0.5 * (self.df.log() + log(pi)) + torch.lgamma(half) - torch.lgamma(half + 0.5)
        return -(half + 0.5) * torch.log1p(y.square() / self.df) - normaliser

    def cdf(self, value: Tensor) -> Tensor:
        return student_t_cdf(self.df, (value - self.loc) / self.scale)

    def icdf(self, value: Tensor) -> Tensor:
        return self.loc + self.scale * student_t_icdf(self.df, value)

    @torch.no_grad()
    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        shape = self._extended_shape(sample_shape)
        df = self.df.expand(shape)
        chi_square = 2 * torch._standard_gamma(df / 2)
        return self.loc + self.scale * torch.randn_like(df) * (df / chi_square).sqrt()


class _BoundedBelow(Distribution):
    """A law on (a, ∞) or [a, ∞): log-density −inf and distribution function 0 outside, with gradients that stay finite.

    The formula is evaluated at a point inside where the value is not (a masked NaN would still reach the gradient).
    """

    def _inner_point(self) -> Tensor | float:
        return 1.0

    def log_prob(self, value: Tensor) -> Tensor:
        inside = self.support.check(value)
        return self._log_density(torch.where(inside, value, self._inner_point())).masked_fill(~inside, -torch.inf)

    def cdf(self, value: Tensor) -> Tensor:
        inside = self.support.check(value)
        return self._cdf_inside(torch.where(inside, value, self._inner_point())).masked_fill(~inside, 0.0)


class LogNormal(_BoundedBelow, TorchLogNormal):
    """exp(loc + scale·z), z standard normal, on (0, ∞)."""

    _log_density = TorchLogNormal.log_prob
    _cdf_inside = TorchLogNormal.cdf


class Pareto(_BoundedBelow, TorchPareto):
    """p(x) = alpha scale^alpha / x^(alpha+1) on [scale, ∞)."""

    _log_density = TorchPareto.log_prob
    _cdf_inside = TorchPareto.cdf

    def _inner_point(self) -> Tensor | float:
        return 2 * self.scale


class NegativeBinomial(_BoundedBelow):
    """p(x) = Γ(x + r)/(Γ(x + 1) Γ(r)) (1 − π)^r π^x, r = total_count, π = sigmoid(logits).

    As a density it is evaluated at every real x ≥ 0, as published (scaled targets are not integers); samples,
    mean, distribution function and quantiles are those of the integer-valued law.
    """

    arg_constraints: ClassVar = {"total_count": constraints.positive, "logits": constraints.real}
    support = constraints.nonnegative

    def __init__(self, total_count: Tensor, logits: Tensor, validate_args: bool | None = None):
        self.total_count, self.logits = broadcast_all(total_count, logits)
        super().__init__(self.logits.shape, validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        return self.total_count * self.logits.exp()

    def _log_density(self, value: Tensor) -> Tensor:
        r = self.total_count
        coefficient = torch.lgamma(value + r) - torch.lgamma(value + 1) - torch.lgamma(r)
        return coefficient + r * F.logsigmoid(-self.logits) + value * F.logsigmoid(self.logits)

    def _cdf_inside(self, value: Tensor) -> Tensor:
        return regularised_beta(self.total_count, value.floor() + 1, torch.sigmoid(-self.logits))

    def icdf(self, value: Tensor) -> Tensor:
        exact = map_parameters(self, lambda parameter: parameter.double())
        p = torch.broadcast_to(value.double(), torch.broadcast_shapes(value.shape, self.batch_shape))
        return invert_cdf(exact.cdf, p).round().to(value.dtype)  # a step of the distribution function is an integer

    @torch.no_grad()
    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        shape = self._extended_shape(sample_shape)
        rate = torch._standard_gamma(self.total_count.expand(shape)) * self.logits.exp()
        return torch.poisson(rate)
