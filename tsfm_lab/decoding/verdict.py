"""Which drafted tokens stand, and what follows them: one rule a mode, whole batches at a time.

Axes: b rows, k drafted tokens, k+1 positions that the target verifies. Everything in units of the window.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from tsfm_lab.decoding.block import verify_block
from tsfm_lab.decoding.coupling import draw_residual, gaussian_log_ratio, happens, reflect
from tsfm_lab.decoding.laws import Gaussian, standard_normal
from tsfm_lab.decoding.speculation import Speculation
from tsfm_lab.models.patch_forecaster import TokenLaw
from tsfm_lab.nn.noise_scale import NoiseScale


class Drafted(NamedTuple):
    """k drafted tokens: x = mean + S e, each (b k p). Of means alone neither scale nor e is there."""

    x: Tensor
    mean: Tensor
    scale: NoiseScale | None
    e: Tensor | None


class Verdict(NamedTuple):
    """How a round went.

    kept: (b) int, drafted tokens that stand. read: (b k+1 p), what the target goes on from, its places up to `kept`
    counting. forecast: (b k+1 p), what the caller gets in these places. score: (b k), of each drafted token, the
    log-ratio ln p/q or, where means are judged, the mean squared deviation from the target's mean.
    """

    kept: Tensor
    read: Tensor
    forecast: Tensor
    score: Tensor


# judges drafted tokens by the target's law of them and of the one after
Rule = Callable[[TokenLaw, Drafted, torch.Generator | None], Verdict]


def target_sigma(p: TokenLaw, sigma: float | None) -> Tensor:
    """The target's standard deviation in each place, `(b k+1 p)` or a scalar: what is given, else its law's.

    Raises ValueError where the target has no law.
    """
    if sigma is not None:
        return p.mean.new_tensor(sigma)
    if p.logvar is None:
        raise ValueError(
            "own_variance=True draws from the target's law, and it has none: calibrate_sigma(target, …) or give sigma"
        )
    return torch.exp(p.logvar / 2)


def count_leading(accepted: Tensor) -> Tensor:
    """How many tokens stand before the first refused one: `(b k) bool -> (b) int`."""
    return accepted.long().cumprod(dim=1).sum(dim=1)


def splice(kept: Tensor, x: Tensor, after: Tensor) -> Tensor:
    """The drafts that stand, then `after`: `kept: (b), x: (b k p), after: (b k+1 p) or (b 1 p) -> (b k+1 p)`."""
    b, k, p = x.shape
    stands = torch.arange(k + 1, device=x.device) < kept[:, None]
    return torch.where(stands[..., None], torch.cat([x, x.new_zeros(b, 1, p)], dim=1), after)


def judge_tokens(p: TokenLaw, drafted: Drafted, generator: torch.Generator | None = None) -> Verdict:
    """Exact: target and draft have one covariance; the first refused token is reflected."""
    k, scale = drafted.x.shape[1], drafted.scale
    Delta = scale.whiten(p.mean[:, :k] - drafted.mean)
    log_ratio = gaussian_log_ratio(drafted.e, Delta)
    kept = count_leading(happens(log_ratio, generator))
    fresh = standard_normal(p.mean[:, k:], generator)
    after = p.mean + scale.spread(torch.cat([reflect(drafted.e, Delta), fresh], dim=1))
    read = splice(kept, drafted.x, after)
    return Verdict(kept, read, read, log_ratio)


def judge_block(p: TokenLaw, drafted: Drafted, generator: torch.Generator | None = None) -> Verdict:
    """Exact: one covariance, the drafted tokens judged together."""
    k = drafted.x.shape[1]
    if k == 0:
        return judge_tokens(p, drafted, generator)
    kept, after = verify_block(p.mean, drafted.mean, drafted.scale, drafted.e, generator)
    read = splice(kept, drafted.x, after[:, None])
    log_ratio = gaussian_log_ratio(drafted.e, drafted.scale.whiten(p.mean[:, :k] - drafted.mean))
    return Verdict(kept, read, read, log_ratio)


@dataclass(frozen=True)
class OwnVariances:
    """Exact: each law has a variance of its own, independent over steps; a refused token is drawn from the residual."""

    sigma: float | None = None

    def __call__(self, p: TokenLaw, drafted: Drafted, generator: torch.Generator | None = None) -> Verdict:
        k = drafted.x.shape[1]
        sigma = target_sigma(p, self.sigma).expand_as(p.mean)
        law_p, law_q = Gaussian(p.mean[:, :k], sigma[:, :k]), Gaussian(drafted.mean, drafted.scale.sigma)
        log_ratio = law_p.log_prob(drafted.x) - law_q.log_prob(drafted.x)
        kept = count_leading(happens(log_ratio, generator))
        rows = torch.arange(len(kept), device=kept.device)
        after = Gaussian(p.mean[rows, kept], sigma[rows, kept]).sample(generator)
        if (refused := kept < k).any():
            at = rows[refused], kept[refused]
            after[refused] = draw_residual(law_p.select(at), law_q.select(at), generator)
        read = splice(kept, drafted.x, after[:, None])
        return Verdict(kept, read, read, log_ratio)


@dataclass(frozen=True)
class Tolerance:
    """Means: a drafted token stands within a mean squared deviation; the target's mean of it is the forecast.

    The target's mean in every place is exact for what the target read before it, and no token it read differs from its
    own mean by more than √tolerance in root mean square: 0 is autoregression, infinity a sweep.
    """

    tolerance: float

    def __call__(self, p: TokenLaw, drafted: Drafted, generator: torch.Generator | None = None) -> Verdict:
        deviation = (drafted.x - p.mean[:, : drafted.x.shape[1]]).square().mean(dim=-1)
        kept = count_leading(deviation <= self.tolerance)
        return Verdict(kept, splice(kept, drafted.x, p.mean), p.mean, deviation)


@dataclass(frozen=True)
class Stride:
    """The published rule (STRIDE, arXiv:2511.18191, utils/speculative_decoder.py), biased, for comparison.

    Keep with min(1, bias · exp(‖x − μ_q‖²/2v_q − ‖x − μ_p‖²/2σ²)), v_q the draft's variance averaged over the patch
    and the log-determinants left out, or where x is within the tolerance; a refused token is drawn from p.
    """

    sigma: float | None
    sigma_mode: str
    sigma_adapt_c: float
    bias: float
    tolerance: float | None

    def __call__(self, p: TokenLaw, drafted: Drafted, generator: torch.Generator | None = None) -> Verdict:
        k = drafted.x.shape[1]
        sigma = target_sigma(p, self.sigma)
        v_p = sigma.expand_as(p.mean)[:, :k].square().mean(dim=-1)
        v_q = drafted.scale.sigma.square().expand_as(drafted.x).mean(dim=-1)
        if self.sigma_mode == "adaptive":
            v_p = v_q = self.sigma_adapt_c * (p.mean[:, :k] - drafted.mean).square().mean(dim=-1).clamp(min=1e-6)
        deviation = (drafted.x - p.mean[:, :k]).square()
        log_ratio = (drafted.x - drafted.mean).square().sum(-1) / (2 * v_q) - deviation.sum(-1) / (2 * v_p)
        accepted = happens(log_ratio + p.mean.new_tensor(self.bias).log(), generator)
        if self.tolerance is not None:
            accepted |= deviation.mean(dim=-1) <= self.tolerance
        kept = count_leading(accepted)
        read = splice(kept, drafted.x, p.mean + sigma * standard_normal(p.mean, generator))
        return Verdict(kept, read, read, log_ratio)


def make_rule(how: Speculation) -> Rule:
    """The rule of a mode."""
    if how.mode == "stride":
        return Stride(how.sigma, how.sigma_mode, how.sigma_adapt_c, how.bias, how.tolerance)
    if how.mode != "exact":
        return Tolerance(float("inf") if how.mode == "sweep" else how.tolerance)
    if how.own_variance:
        return OwnVariances(how.sigma)
    return judge_block if how.block else judge_tokens
