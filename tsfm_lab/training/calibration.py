"""A standard deviation for a point forecaster, from its errors on validation, and how well a law covers the truth."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Normal
from torch.utils.data import DataLoader

from tsfm_lab.models.patch_forecaster import PatchForecaster, TokenLaw
from tsfm_lab.models.timer_xl import TimerXL


@torch.no_grad()
def residual_sigma(model: PatchForecaster, batches: DataLoader) -> Tensor:
    """σ_h = √mean((y_h − μ_h)²/s²), h = 1 … output_token_len steps ahead, s the window's standard deviation.

    The maximum-likelihood σ of a Gaussian around the forecast after the last token, in units of the window's.
    batches: (x (b t c), y (b t' c)) whose last output_token_len steps follow x: validation, never test.
    `-> (output_token_len)`.
    """
    device = next(model.parameters()).device
    p = model.output_token_len
    squared, count = torch.zeros(p, dtype=torch.float64), 0
    for x, y in batches:
        x, y = x.to(device), y.to(device)
        residual = (y[:, -p:] - model(x)[:, -p:]) / model.statistics(model.whole_tokens(x)).stdev
        squared += residual.double().square().sum(dim=(0, 2)).cpu()
        count += residual.shape[0] * residual.shape[2]
    return (squared / count).sqrt().float()


def calibrate_sigma(model: TimerXL, batches: DataLoader) -> TimerXL:
    """Give a target its own σ, `residual_sigma` of these batches, and return it: its forecast is then a Gaussian.

    Raises ValueError where the model has a learned variance, or forecasts a step without error.
    """
    model.set_sigma(residual_sigma(model, batches))
    return model


def coverage(law: TokenLaw, y: Tensor, levels: Sequence[float]) -> list[float]:
    """Share of y inside the law's central interval of each level; a calibrated law has the levels themselves.

    law, y: (b t c), in the same units.
    """
    distance = (y - law.mean).abs() / torch.exp(law.logvar / 2)
    edges = Normal(0.0, 1.0).icdf((1 + torch.tensor(levels)) / 2)
    return [(distance <= edge).float().mean().item() for edge in edges]
