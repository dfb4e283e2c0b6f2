"""Losses of the Timer family: squared error of forecasts, and the likelihood of a teacher's."""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from tsfm_lab.models.patch_forecaster import Statistics, TokenLaw
from tsfm_lab.nn.noise_scale import NoiseScale

FLOOR = -5.0  # log-variance below which the regulariser acts


def gaussian_nll(law: TokenLaw, target: Tensor, extra_variance: float = 0.0) -> Tensor:
    """½·mean(logvar + ((μ − t)² + v)/exp(logvar)), the constant ½ ln 2π left out.

    law, target: (b t c). extra_variance v: what independent noise of that variance on the target adds on average.
    """
    squared = (law.mean - target).square() + extra_variance
    return 0.5 * (law.logvar + squared * torch.exp(-law.logvar)).mean()


def variance_penalty(logvar: Tensor) -> Tensor:
    """mean(relu(−logvar − 5)): keeps a variance from collapsing below e⁻⁵, σ ≈ .08."""
    return F.relu(FLOOR - logvar).mean()


def distillation_loss(law: TokenLaw, teacher: Tensor, *, var_reg: float, extra_variance: float = 0.0) -> Tensor:
    """`gaussian_nll` of the teacher's forecast plus var_reg·`variance_penalty`; squared error without a variance.

    law, teacher: (b t c), in the data's units.
    """
    if law.logvar is None:
        return F.mse_loss(law.mean, teacher)
    return gaussian_nll(law, teacher, extra_variance) + var_reg * variance_penalty(law.logvar)


def law_distance(scale: NoiseScale, difference: Tensor, statistics: Statistics) -> Tensor:
    """δ = ‖S⁻¹ d‖ of each patch, in standard deviations of a law with noise S e in units of the window's.

    `difference: (b n·p c)`, in the data's units `-> (b n c)`. Of two means it is what acceptance depends on, and δ²/2
    is the divergence of the laws; of a mean and the truth, δ²/2 is the law's negative log-likelihood up to a constant.
    """
    p = scale.sigma.shape[-1]
    patches = rearrange(difference / statistics.stdev, "b (n p) c -> b n c p", p=p)
    return scale.whiten(patches).norm(dim=-1)
