r"""Block verification: how many drafted patches to keep, decided for the block as a whole instead of one by one.

Sun et al. 2024, "Block Verification Accelerates Speculative Decoding", arXiv:2403.10444, Algorithm 2. With
c_0 = 1, c_j = min(1, c_{j−1} p_j(x_j)/q_j(x_j)), prefix j < k is kept with probability

    h_j = R_j / (R_j + 1 − c_j),  R_j = ∫ (c_j p_{j+1} − q_{j+1})₊,  h_k = c_k,

independently; the longest kept one counts, and the next patch is drawn ∝ (c_j p_{j+1} − q_{j+1})₊. For Gaussians of one
covariance R = c Φ(δ/2 + ln c/δ) − Φ(−δ/2 + ln c/δ), and the residual is a law of one coordinate, t = u·S⁻¹(x − μ_q).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.special import log_ndtr, ndtr

from tsfm_lab.decoding.coupling import gaussian_log_ratio
from tsfm_lab.decoding.laws import standard_normal
from tsfm_lab.nn.noise_scale import NoiseScale

TINY = 1e-12  # of δ, below which p and q are one
HALVINGS = 60  # of an interval of 40 standard deviations: down to rounding


def residual_mass(log_c: Tensor, delta: Tensor) -> Tensor:
    """∫(c p − q)₊ of two Gaussians of one covariance, c ≤ 1: `log_c, delta: (…) -> (…)`."""
    delta = delta.clamp(min=TINY)
    shift = log_c / delta
    return (log_c.exp() * ndtr(delta / 2 + shift) - ndtr(shift - delta / 2)).clamp(min=0)


def prefix_log_weights(log_ratio: Tensor) -> Tensor:
    """ln c_0 … ln c_k: `log_ratio: (b k) -> (b k+1)`."""
    log_c = [torch.zeros_like(log_ratio[:, 0])]
    for ratio in log_ratio.unbind(dim=1):
        log_c.append((log_c[-1] + ratio).clamp(max=0))
    return torch.stack(log_c, dim=1)


def count_kept(log_ratio: Tensor, delta: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """How many of k drafted patches are kept, and ln c there: `log_ratio, delta: (b k) -> ((b) int, (b))`."""
    log_c = prefix_log_weights(log_ratio)
    mass = residual_mass(log_c[:, :-1], delta)
    missing = -torch.expm1(log_c[:, :-1])
    h = torch.cat([mass / (mass + missing).clamp(min=TINY), log_c[:, -1:].exp()], dim=1)
    h[:, 0] = 1.0  # nothing drafted is kept for sure
    u = torch.rand(h.shape, generator=generator, device=h.device, dtype=h.dtype)
    position = torch.arange(h.shape[1], device=h.device)
    kept = torch.where(u < h, position, 0).amax(dim=1)
    return kept, log_c.gather(1, kept[:, None])[:, 0]


def draw_along(log_c: Tensor, delta: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """A draw of t ∝ (c φ(t − δ) − φ(t))₊ by halving an interval of its survival function: `(b), (b) -> (b)` float64.

    Its support is t > t* = δ/2 − ln c/δ, where S(t) = c Φ(δ − t) − Φ(−t).
    """
    log_c, delta = log_c.double(), delta.double().clamp(min=TINY)
    low = delta / 2 - log_c / delta
    high = low + 40.0  # standard deviations: nothing is left beyond

    def log_survival(t: Tensor) -> Tensor:
        head, tail = log_c + log_ndtr(delta - t), log_ndtr(-t)
        return head + torch.log(-torch.expm1((tail - head).clamp(max=0)))

    u = torch.rand(low.shape, generator=generator, device=low.device, dtype=low.dtype)
    wanted = log_survival(low) + torch.log1p(-u)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        above = log_survival(middle) > wanted
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    return (low + high) / 2


def draw_residual_gaussian(
    mu_p: Tensor, mu_q: Tensor, scale: NoiseScale, log_c: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """A draw ∝ (c p − q)₊: `mu_p, mu_q: (b p), log_c: (b) -> (b p)`. Where μ_p = μ_q, of p."""
    Delta = scale.whiten(mu_p - mu_q)
    delta = Delta.norm(dim=-1)
    u = Delta / delta.clamp(min=TINY)[:, None]
    e = standard_normal(mu_p, generator)
    t = draw_along(log_c, delta, generator).to(e)
    along = (e * u).sum(dim=-1)
    e = torch.where((delta > TINY)[:, None], e + (t - along)[:, None] * u, e)
    return mu_q + scale.spread(e)


def verify_block(
    mu_p: Tensor, mu_q: Tensor, scale: NoiseScale, e: Tensor, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """How many of the drafts x = μ_q + S e are kept, and the patch after them.

    `mu_p: (b k+1 p), mu_q, e: (b k p) -> (kept: (b) int, after: (b p))`.
    """
    b, k, _ = e.shape
    Delta = scale.whiten(mu_p[:, :k] - mu_q)
    kept, log_c = count_kept(gaussian_log_ratio(e, Delta), Delta.norm(dim=-1), generator)
    rows, place = torch.arange(b, device=e.device), kept.clamp(max=k - 1)
    residual = draw_residual_gaussian(mu_p[rows, place], mu_q[rows, place], scale, log_c, generator)
    fresh = mu_p[:, k] + scale.spread(standard_normal(residual, generator))
    return kept, torch.where((kept == k)[:, None], fresh, residual)
