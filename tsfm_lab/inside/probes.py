"""Linear probes: how well a straight line through a layer's representations tells a property of the series.

Alain, Bengio 2016, arXiv:1610.01644; controls after Hewitt, Liang 2019, arXiv:1909.03368.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

PENALTIES = tuple(10.0**k for k in range(-4, 5))  # of standardised features, per item


def ridge_probe(x: Tensor, y: Tensor, train: Tensor, penalties: Sequence[float] = PENALTIES) -> Tensor:
    """R² = 1 − Σ(y − ŷ)²/Σ(y − ȳ)² on held-out items of ŷ = b + x w, (b, w) = argmin ‖y − b − x w‖² + n λ ‖w‖².

    Each property has the penalty λ of the least `leave_one_out_errors`. Features are standardised by the items that
    are fitted.

    Parameters
    ----------
    x: (n d) features; y: (n m) properties, a probe each; train: (n) bool, True: fitted, False: judged.

    Returns
    -------
    (m) float64; 0 is as good as the mean of the held-out items, below 0 worse.

    Raises
    ------
    ValueError: shapes do not fit, fewer than 3 items on either side, or a property that is constant on the held-out
    ones.
    """
    if x.dim() != 2 or y.dim() != 2 or not len(x) == len(y) == len(train):
        raise ValueError(f"x, y and train must be (n d), (n m), (n), got {[tuple(z.shape) for z in (x, y, train)]}")
    train = train.cpu().bool()
    if min(int(train.sum()), int((~train).sum())) < 3:
        raise ValueError(f"a probe needs 3 items to be fitted and 3 to be judged, got {int(train.sum())} of {len(x)}")
    x, y = x.double().cpu(), y.double().cpu()
    if (y[~train].std(0) == 0).any():
        raise ValueError("a property is the same for all held-out items, so that nothing is left to tell")
    scale = x[train].std(0)
    x = (x - x[train].mean(0)) / torch.where(scale > 0, scale, 1)
    mean = y[train].mean(0)
    best = leave_one_out_errors(x[train], y[train], penalties).argmin(0)
    weight = int(train.sum()) * torch.tensor(penalties, dtype=x.dtype)[best]  # (m)
    U, s, Vt = torch.linalg.svd(x[train], full_matrices=False)
    w = Vt.T @ (U.T @ (y[train] - mean) * s[:, None] / (s.square()[:, None] + weight))
    residual = y[~train] - mean - x[~train] @ w
    return 1 - residual.square().sum(0) / (y[~train] - y[~train].mean(0)).square().sum(0)


def leave_one_out_errors(x: Tensor, y: Tensor, penalties: Sequence[float] = PENALTIES) -> Tensor:
    """Mean squared error of each item under the ridge that was fitted to all others, of penalty n λ as all have.

    In closed form from x = U diag(s) Vᵀ, centred: ŷ = ȳ + U diag(s²/(s² + nλ)) Uᵀ (y − ȳ) is linear in y, by a matrix H
    say, and error_i = (y_i − ŷ_i)/(1 − H_ii).

    `x: (n d), y: (n m) -> (penalties m)`.
    """
    x, y = x - x.mean(0), y - y.mean(0)
    U, s, _ = torch.linalg.svd(x, full_matrices=False)
    errors = []
    for penalty in penalties:
        shrink = s.square() / (s.square() + len(x) * penalty)
        hat = 1 / len(x) + U.square() @ shrink  # 1/n: the mean is fitted too
        residual = y - U @ (shrink[:, None] * (U.T @ y))
        errors.append((residual / (1 - hat).clamp_min(1e-9)[:, None]).square().mean(0))
    return torch.stack(errors)


def probe_layers(representations: Sequence[Tensor], y: Tensor, train: Tensor) -> Tensor:
    """R² of `ridge_probe` for each layer and property: L tensors (n d), (n m) -> (L m)."""
    return torch.stack([ridge_probe(x, y, train) for x in representations])
