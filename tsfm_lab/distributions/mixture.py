"""Mixture of laws of different kinds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from tsfm_lab.distributions.parametric import map_parameters
from tsfm_lab.distributions.special import invert_cdf


class Mixture(Distribution):
    """p(x) = Σ_k w_k p_k(x), w = softmax(logits); a component whose support excludes x contributes nothing.

    `logits: (... k)`, one component of batch shape (...) for each of the k.

    Raises
    ------
    ValueError: when the number of logits is not that of components.
    """

    arg_constraints: ClassVar = {}
    support = constraints.real

    def __init__(self, logits: Tensor, components: Sequence[Distribution]):
        if logits.shape[-1] != len(components):
            raise ValueError(f"logits must have a value for each of {len(components)} components, got {logits.shape}")
        # (k ...): a softmax along a first axis is vectorised over the others, along a last one of four values it is not
        self.log_weights = logits.movedim(-1, 0).contiguous().log_softmax(0)
        self.components = list(components)
        super().__init__(logits.shape[:-1], validate_args=False)

    @property
    def weights(self) -> Tensor:
        """(k ...), summing to 1."""
        return self.log_weights.exp()

    @property
    def mean(self) -> Tensor:
        return (self.weights * torch.stack([law.mean for law in self.components])).sum(0)

    def log_prob(self, value: Tensor) -> Tensor:
        log_densities = [
            law.log_prob(value) + log_weight for law, log_weight in zip(self.components, self.log_weights, strict=True)
        ]
        return torch.stack(log_densities).logsumexp(0)

    def cdf(self, value: Tensor) -> Tensor:
        return sum(law.cdf(value) * w for law, w in zip(self.components, self.weights, strict=True))

    def icdf(self, value: Tensor) -> Tensor:
        """Quantiles by bisection in float64; the smallest x with cdf(x) ≥ value, as the law may have atoms."""
        components = [map_parameters(law, Tensor.double) for law in self.components]
        exact = Mixture(self.log_weights.double().movedim(0, -1), components)
        p = torch.broadcast_to(value.double(), torch.broadcast_shapes(value.shape, self.batch_shape))
        return invert_cdf(exact.cdf, p).to(value.dtype)

    @torch.no_grad()
    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """`-> (*sample_shape ...)`: each value's component first, then a draw from that one component only."""
        count, batch = torch.Size(sample_shape).numel(), self.batch_shape.numel()
        # (count·batch): which component each value comes from
        chosen = torch.multinomial(
            self.weights.reshape(len(self.components), -1).T, count, replacement=True
        ).T.flatten()
        samples = self.log_weights.new_empty(count * batch)
        for k, law in enumerate(self.components):
            place = (chosen == k).nonzero().squeeze(1)
            drawn = map_parameters(law, lambda parameter, place=place: parameter.flatten()[place % batch])
            samples[place] = drawn.sample()
        return samples.view(self._extended_shape(sample_shape))
