"""A law moved and stretched: y = loc + scale·x."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution


class AffineTransformed(Distribution):
    """The law of loc + scale·x for x from `base`: p(y) = p_base((y − loc)/scale)/scale.

    `loc, scale: (...)` broadcastable to the batch shape, scale > 0.
    """

    arg_constraints: ClassVar = {}

    def __init__(self, base: Distribution, loc: Tensor, scale: Tensor):
        self.base, self.loc, self.scale = base, loc, scale
        shape = torch.broadcast_shapes(base.batch_shape, loc.shape, scale.shape)
        super().__init__(shape, validate_args=False)

    @property
    def mean(self) -> Tensor:
        return self.loc + self.scale * self.base.mean

    def log_prob(self, value: Tensor) -> Tensor:
        return self.base.log_prob((value - self.loc) / self.scale) - self.scale.log()

    def cdf(self, value: Tensor) -> Tensor:
        return self.base.cdf((value - self.loc) / self.scale)

    def icdf(self, value: Tensor) -> Tensor:
        return self.loc + self.scale * self.base.icdf(value)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        return self.loc + self.scale * self.base.sample(sample_shape)
