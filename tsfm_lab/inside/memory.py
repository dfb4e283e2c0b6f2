"""How far back a layer reaches: two numbers of the energy that it takes from each lag.

Energy is weight squared: were the tokens white noise, the share of the output's variance that a lag explains.
"""

import torch
from torch import Tensor


def mean_lag(energy: Tensor) -> Tensor:
    """Σ_l l e_l / Σ_l e_l: `energy: (... l) ≥ 0, from lag 0 on -> (...)`, in the lags' unit; NaN without energy."""
    lag = torch.arange(energy.shape[-1], dtype=energy.dtype, device=energy.device)
    return (energy * lag).sum(-1) / energy.sum(-1)


def effective_memory(energy: Tensor, share: float = 0.9) -> Tensor:
    """The smallest lag m with Σ_{l ≤ m} e_l ≥ share · Σ_l e_l: `energy: (... l) ≥ 0 -> (...) int64`.

    Raises
    ------
    ValueError: share is not within (0, 1].
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must be within (0, 1], got {share}")
    held = energy.cumsum(-1)
    wanted = share * held[..., -1:]
    return (held < wanted * (1 - 1e-12)).sum(-1)
