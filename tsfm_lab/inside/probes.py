"""Linear probes: how well a straight line through a layer's representations tells a property of the series.

Alain, Bengio 2016, arXiv:1610.01644; controls after Hewitt, Liang 2019, arXiv:1909.03368.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

PENALTIES = tuple(10.0**k for k in range(-4, 5))  # of standardised features, per item


def ridge_probe(x: Tensor, y: Tensor, train: Tensor, penalties: Sequence[float] = PENALTIES) -> Tensor:
    """R² = 1 − Σ(y − ŷ)²/Σ(y − ȳ)² on held-out items of ŷ = x w, w = argmin ‖y − x w‖² + n λ ‖w‖².

    The penalty is the one of the least error in leaving out one training item at a time, which the singular values of
    x give in closed form: ŷ = U diag(s²/(s² + nλ)) Uᵀ y and error_i = (y_i − ŷ_i)/(1 − hat_ii). Features are
    standardised by the training items.

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
    center, scale = x[train].mean(0), x[train].std(0)
    x = (x - center) / torch.where(scale > 0, scale, 1)
    mean = y[train].mean(0)
    U, s, Vt = torch.linalg.svd(x[train], full_matrices=False)
    n, projected = len(U), U.T @ (y[train] - mean)
    best_error = y.new_full((y.shape[1],), torch.inf)
    w = y.new_zeros(x.shape[1], y.shape[1])
    for penalty in penalties:
        shrink = s.square() / (s.square() + n * penalty)
        hat = 1 / n + U.square() @ shrink  # the mean is fitted too
        left_out = (y[train] - mean - U @ (shrink[:, None] * projected)) / (1 - hat).clamp_min(1e-9)[:, None]
        error = left_out.square().mean(0)
        weights = Vt.T @ (projected * (s / (s.square() + n * penalty))[:, None])
        w = torch.where(error < best_error, weights, w)
        best_error = torch.minimum(error, best_error)
    residual = y[~train] - mean - x[~train] @ w
    return 1 - residual.square().sum(0) / (y[~train] - y[~train].mean(0)).square().sum(0)


def probe_layers(representations: Sequence[Tensor], y: Tensor, train: Tensor) -> Tensor:
    """R² of `ridge_probe` for each layer and property: L tensors (n d), (n m) -> (L m)."""
    return torch.stack([ridge_probe(x, y, train) for x in representations])
