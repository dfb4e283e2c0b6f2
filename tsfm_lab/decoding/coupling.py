r"""Exact acceptance of a drafted value x ~ q in place of one from p, for laws on real vectors.

Keep x with probability min(1, p(x)/q(x)), else draw from the residual ∝ (p − q)₊: the result has the law p (Leviathan
et al. 2023, arXiv:2211.17192, Theorem 1). For Gaussians p = N(μ_p, S Sᵀ), q = N(μ_q, S Sᵀ) of one covariance (S a
diagonal σ, or a Cholesky factor) everything happens along Δ = S⁻¹(μ_p − μ_q); with e = S⁻¹(x − μ_q) and δ = ‖Δ‖,

    ln p(x)/q(x) = e·Δ − δ²/2,    P(x is kept) = 2 Φ(−δ/2),

whatever the dimension. A refused x is mirrored at the plane half-way between the means, which maps (q − p)₊ onto
(p − q)₊: y = μ_p + S (I − 2uuᵀ) e, u = Δ/δ.
"""

from __future__ import annotations

from typing import Protocol, Self

import torch
from torch import Tensor

from tsfm_lab.nn.noise_scale import NoiseScale

MOST_DRAWS = 1_000_000  # of the residual of one value, beyond which the laws must be equal or broken


class Law(Protocol):
    """A law on (… p) with a density, one a row."""

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """A draw from each row's law: (… p)."""

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density of `x: (… p) -> (…)`."""

    def select(self, rows: Tensor) -> Self:
        """The laws of some rows."""


def acceptance_rate(delta: Tensor) -> Tensor:
    """2Φ(−δ/2), the probability that a draw of q is kept for p: `delta: (…) -> (…)`."""
    return torch.special.erfc(delta / 8**0.5)


def gaussian_log_ratio(e: Tensor, Delta: Tensor) -> Tensor:
    """ln p(x)/q(x) = e·Δ − δ²/2, equal covariances: `e, Delta: (… p) -> (…)`."""
    return ((e - Delta / 2) * Delta).sum(dim=-1)


def reflect(e: Tensor, Delta: Tensor) -> Tensor:
    """(I − 2uuᵀ) e, u = Δ/‖Δ‖: `e, Delta: (… p) -> (… p)`. Where Δ = 0, e itself."""
    squared = Delta.square().sum(dim=-1, keepdim=True)
    share = 2 * (e * Delta).sum(dim=-1, keepdim=True) / squared.clamp(min=torch.finfo(e.dtype).tiny)
    return e - share * Delta


def happens(log_ratio: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """True with probability min(1, exp(log_ratio)): `(…) -> (…) bool`."""
    u = torch.rand(log_ratio.shape, generator=generator, device=log_ratio.device, dtype=log_ratio.dtype)
    return u.log() <= log_ratio  # u is in [0, 1): where the ratio is 0, u = 0 has probability 0 up to rounding


def couple_gaussians(
    mu_p: Tensor, mu_q: Tensor, scale: NoiseScale, e: Tensor, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Keep x = μ_q + S e or reflect it, so that the result is a draw of N(μ_p, S Sᵀ).

    `mu_p, mu_q, e: (… p) -> (y: (… p), kept: (…) bool)`; e is standard normal.
    """
    Delta = scale.whiten(mu_p - mu_q)
    kept = happens(gaussian_log_ratio(e, Delta), generator)
    y = torch.where(kept[..., None], mu_q + scale.spread(e), mu_p + scale.spread(reflect(e, Delta)))
    return y, kept


def draw_residual(p: Law, q: Law, generator: torch.Generator | None = None) -> Tensor:
    """A draw from (p − q)₊/∫(p − q)₊ in each row, for any laws: draw y ~ p, keep it with probability (1 − q/p)₊.

    `-> (b p)`. A row needs 1/(1 − acceptance) draws on average; as it needs them only when its x was refused, a
    decoder pays at most one extra draw a position.

    Raises
    ------
    ArithmeticError: when a row is still without a draw after a million, as where p = q everywhere.
    """
    y = p.sample(generator)
    waiting = torch.arange(len(y), device=y.device)
    candidate = y
    for _ in range(MOST_DRAWS):
        refused = happens(q.log_prob(candidate) - p.log_prob(candidate), generator)
        y[waiting[~refused]] = candidate[~refused]
        waiting, p, q = waiting[refused], p.select(refused), q.select(refused)
        if not len(waiting):
            return y
        candidate = p.sample(generator)
    raise ArithmeticError(f"no draw from the residual of {len(waiting)} rows in {MOST_DRAWS}: are the laws equal?")


def couple(x: Tensor, p: Law, q: Law, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Keep x ~ q or draw from the residual, so that the result is a draw of p: `x: (b p) -> ((b p), (b) bool)`."""
    kept = happens(p.log_prob(x) - q.log_prob(x), generator)
    y = x.clone()
    if not kept.all():
        y[~kept] = draw_residual(p.select(~kept), q.select(~kept), generator)
    return y, kept
