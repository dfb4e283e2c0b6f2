"""The matrix between a patch's white noise and its errors: a standard deviation a step, or a factor of a covariance."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class StepScale:
    """Independent steps: S = diag σ. `sigma: (p)`, one for each row and step, or a scalar."""

    sigma: Tensor

    def spread(self, e: Tensor) -> Tensor:
        """S e, errors of white noise: `e: (… p) -> (… p)`."""
        return self.sigma * e

    def whiten(self, difference: Tensor) -> Tensor:
        """S⁻¹ d: `difference: (… p) -> (… p)`. Its length is a distance in standard deviations."""
        return difference / self.sigma

    def log_det(self) -> Tensor:
        """ln det S, where σ has a value for every step."""
        return self.sigma.log().sum(dim=-1)


@dataclass(frozen=True)
class PatchScale:
    """Steps that err together: S = L, lower triangular, of the covariance Σ = L Lᵀ. `factor: (p p)`."""

    factor: Tensor

    @cached_property
    def _inverse(self) -> Tensor:
        one = torch.eye(len(self.factor), dtype=torch.float64, device=self.factor.device)
        return torch.linalg.solve_triangular(self.factor.double(), one, upper=False).to(self.factor)

    @property
    def sigma(self) -> Tensor:
        """Standard deviation of each step by itself: (p)."""
        return self.factor.norm(dim=1)

    def spread(self, e: Tensor) -> Tensor:
        """S e, errors of white noise: `e: (… p) -> (… p)`."""
        return e @ self.factor.T

    def whiten(self, difference: Tensor) -> Tensor:
        """S⁻¹ d: `difference: (… p) -> (… p)`. Its length is a distance in standard deviations."""
        return difference @ self._inverse.T

    def log_det(self) -> Tensor:
        """ln det S."""
        return self.factor.diagonal().log().sum()


NoiseScale = StepScale | PatchScale
