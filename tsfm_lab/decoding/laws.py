"""Laws of a patch that a coupling can draw from and compare: Gaussians and their mixtures, independent over steps."""

from __future__ import annotations

from dataclasses import dataclass
from math import log, pi

import torch
from torch import Tensor


def standard_normal(like: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Independent standard normal values of the shape, device and dtype of `like`."""
    return torch.randn(like.shape, generator=generator, device=like.device, dtype=like.dtype)


@dataclass(frozen=True)
class Gaussian:
    """N(mean, diag σ²) in each row: `mean, sigma: (… p)`."""

    mean: Tensor
    sigma: Tensor

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        return self.mean + self.sigma * standard_normal(self.mean, generator)

    def log_prob(self, x: Tensor) -> Tensor:
        z = (x - self.mean) / self.sigma
        return -(z.square() / 2 + self.sigma.log() + log(2 * pi) / 2).sum(dim=-1)

    def select(self, rows: Tensor) -> Gaussian:
        return Gaussian(self.mean[rows], self.sigma[rows])


@dataclass(frozen=True)
class GaussianMixture:
    """Σ_m w_m N(mean_m, diag σ_m²) in each row: `weights: (b m)`, summing to 1; `mean, sigma: (b m p)`."""

    weights: Tensor
    mean: Tensor
    sigma: Tensor

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        chosen = torch.multinomial(self.weights, 1, generator=generator)[:, 0]
        rows = torch.arange(len(chosen), device=chosen.device)
        return Gaussian(self.mean[rows, chosen], self.sigma[rows, chosen]).sample(generator)

    def log_prob(self, x: Tensor) -> Tensor:
        parts = Gaussian(self.mean, self.sigma).log_prob(x[:, None])
        return (self.weights.log() + parts).logsumexp(dim=1)

    def select(self, rows: Tensor) -> GaussianMixture:
        return GaussianMixture(self.weights[rows], self.mean[rows], self.sigma[rows])
