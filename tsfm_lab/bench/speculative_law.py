"""A target's law of the next patch, with independent steps and with a covariance: which fits data it has not seen."""

from __future__ import annotations

from math import pi, sqrt

import torch
from torch import Tensor
from torch.special import ndtr

from tsfm_lab.bench.speculative_models import BENCH_CONFIG, window_sizes
from tsfm_lab.bench.tables import Rows
from tsfm_lab.models.timer_xl import TimerXL
from tsfm_lab.nn.noise_scale import NoiseScale, PatchScale, StepScale
from tsfm_lab.training.calibration import best_shrinkage, log_likelihood, residuals
from tsfm_lab.training.timer_data import make_windows, some_windows
from tsfm_lab.training.timer_stages import calibration_batches

TEST_WINDOWS = 2048


def sum_sigma(scale: NoiseScale) -> Tensor:
    """The standard deviation of a patch's sum, √(1ᵀΣ1): a scalar."""
    if isinstance(scale, StepScale):
        return scale.sigma.square().sum().sqrt()
    return scale.factor.sum(dim=0).norm()


def gaussian_crps(error: Tensor, sigma: Tensor) -> Tensor:
    """σ [z (2Φ(z) − 1) + 2φ(z) − 1/√π], z = error/σ: the CRPS of N(0, σ²) (Gneiting & Raftery 2007, Eq. 21)."""
    z = error / sigma
    density = torch.exp(-z.square() / 2) / sqrt(2 * pi)
    return sigma * (z * (2 * ndtr(z) - 1) + 2 * density - 1 / sqrt(pi))


def inside(error: Tensor, sigma: Tensor, edge: float) -> float:
    """The share of errors within ±edge σ; a Gaussian has erf(edge/√2)."""
    return (error.abs() <= edge * sigma).double().mean().item()


def compare_laws(target: TimerXL) -> Rows:
    """A row for each law: log-likelihood of a step on validation and test, and how it covers patches' sums."""
    windows = make_windows("ETTh1", "test", multivariate=False, **window_sizes(96))
    errors = (
        residuals(target, calibration_batches(BENCH_CONFIG)),
        residuals(target, some_windows(windows, TEST_WINDOWS, 64)),
    )
    sigma, factor = target.sigma.double().cpu(), target.noise_scale.factor.double().cpu()
    rows = []
    for name, scale in {"independent": StepScale(sigma), "covariance": PatchScale(factor)}.items():
        row = {"law": name, "shrinkage": best_shrinkage(errors[0]) if name == "covariance" else None}
        row |= {part: round(log_likelihood(scale, e), 4) for part, e in zip(("ll_val", "ll_test"), errors, strict=True)}
        sums, spread = errors[1].sum(dim=1), sum_sigma(scale)
        row["crps_of_sum"] = round(gaussian_crps(sums, spread).mean().item(), 3)
        for level, edge in ((0.5, 0.6745), (0.9, 1.6449)):
            row[f"steps_within_{level}"] = round(inside(errors[1], scale.sigma, edge), 3)
            row[f"sums_within_{level}"] = round(inside(sums, spread, edge), 3)
        rows.append(row)
    return rows
