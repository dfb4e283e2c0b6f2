"""A law for a point forecaster, from its validation errors: σ of each step, or a patch's covariance; how it covers."""

from collections.abc import Sequence
from math import log, pi

import torch
from torch import Tensor
from torch.distributions import Normal
from torch.utils.data import DataLoader

from tsfm_lab.models.patch_forecaster import PatchForecaster, TokenLaw
from tsfm_lab.models.timer_xl import TimerXL
from tsfm_lab.nn.noise_scale import NoiseScale, PatchScale

SHRINKAGES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
FOLDS = 5


@torch.no_grad()
def residuals(model: PatchForecaster, batches: DataLoader) -> Tensor:
    """(y − μ)/s of the forecast after the last token, s the window's standard deviation: one row a window and variate.

    batches: (x (b t c), y (b t' c)) whose last output_token_len steps follow x: validation, never test.
    `-> (n output_token_len)` float64, in the order of the windows.
    """
    device, p = next(model.parameters()).device, model.output_token_len
    rows = []
    for x, y in batches:
        x, y = x.to(device), y.to(device)
        error = (y[:, -p:] - model(x)[:, -p:]) / model.statistics(model.whole_tokens(x)).stdev
        rows.append(error.transpose(1, 2).flatten(0, 1).double().cpu())
    return torch.cat(rows)


def residual_sigma(errors: Tensor) -> Tensor:
    """σ_h = √mean(e_h²), h steps ahead: the maximum-likelihood σ of a Gaussian. `errors: (n p) -> (p)`."""
    return errors.square().mean(dim=0).sqrt()


def residual_correlation(errors: Tensor, shrinkage: float) -> Tensor:
    """(1 − λ) R + λ I, R the correlation of the steps' errors (about 0): `errors: (n p) -> (p p)`.

    Shrinking the covariance towards its own diagonal, which leaves each step's σ as it is. λ in (0, 1].
    """
    z = errors / residual_sigma(errors)
    return (1 - shrinkage) * z.T @ z / len(z) + shrinkage * torch.eye(z.shape[1]).to(z)


def best_shrinkage(errors: Tensor) -> float:
    """The λ of `SHRINKAGES` under which left-out errors are likeliest: `errors: (n p)`, in the order of the windows.

    Five folds, each a run of neighbours, as neighbouring windows overlap. Raises ValueError for fewer windows.
    """
    if len(errors) < FOLDS:
        raise ValueError(f"a covariance needs at least {FOLDS} windows' errors, got {len(errors)}; give more windows")

    def held_out(shrinkage: float) -> float:
        total = 0.0
        for fold in torch.arange(len(errors)).tensor_split(FOLDS):
            kept = torch.ones(len(errors), dtype=torch.bool)
            kept[fold] = False
            sigma = residual_sigma(errors[kept])
            factor = torch.linalg.cholesky(residual_correlation(errors[kept], shrinkage))
            total += len(fold) * log_likelihood(PatchScale(sigma[:, None] * factor), errors[fold])
        return total

    return max(SHRINKAGES, key=held_out)


def log_likelihood(scale: NoiseScale, errors: Tensor) -> float:
    """Mean log-density of a step, nats: `errors: (n p)`, in the scale's units."""
    squared = scale.whiten(errors).square().sum(dim=1).mean()
    return (-(squared / 2 + scale.log_det()) / errors.shape[1] - log(2 * pi) / 2).item()


def calibrate_sigma(model: TimerXL, batches: DataLoader) -> TimerXL:
    """Give a target its own σ, `residual_sigma` of these batches, and return it: its forecast is then a Gaussian.

    Raises ValueError where the model has a learned variance, or forecasts a step without error.
    """
    model.set_sigma(residual_sigma(residuals(model, batches)).float())
    return model


def calibrate_covariance(model: TimerXL, batches: DataLoader) -> TimerXL:
    """Give a target the covariance of a patch's errors in these batches, and return it.

    The maximum-likelihood σ of each step, as `calibrate_sigma`, and `residual_correlation` with `best_shrinkage`: a
    patch is off as a whole more than step by step. Raises ValueError as `calibrate_sigma`.
    """
    errors = residuals(model, batches)
    sigma = residual_sigma(errors)
    if not (sigma > 0).all():
        return calibrate_sigma(model, batches)  # which says what is wrong
    model.set_sigma(sigma.float(), residual_correlation(errors, best_shrinkage(errors)))
    return model


def coverage(law: TokenLaw, y: Tensor, levels: Sequence[float]) -> list[float]:
    """Share of y inside the law's central interval of each level; a calibrated law has the levels themselves.

    law, y: (b t c), in the same units.
    """
    distance = (y - law.mean).abs() / torch.exp(law.logvar / 2)
    edges = Normal(0.0, 1.0).icdf((1 + torch.tensor(levels)) / 2)
    return [(distance <= edge).float().mean().item() for edge in edges]
