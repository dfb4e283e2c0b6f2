"""A filter bank as a diagonal linear system: ψ_k(t) ≈ Σ_n C_nk α_nᵗ, so that one token costs the same at any length.

After Shah et al. 2025 (SpectraLDS), arXiv:2505.17868; the fit is this workbook's own.
"""

from dataclasses import dataclass

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

NUM_RATES = 300  # decay rates in the dictionary, log-spaced
TOLERANCE = 1e-8  # relative error of a filter at which no further pole is added
REFUSED_ERROR = 1e-5  # of the largest filter's norm; above it the filters are not sums of exponentials


@dataclass(frozen=True)
class DiagonalLDS:
    """h_t = α ⊙ h_{t−1} + x_t, f_t = Cᵀ h_t: its impulse response Cᵀ αᵗ stands for a bank of filters.

    alpha: (n) poles in (−1, 1), float64.
    C: (n k) read-out, float64.
    errors: (k) relative error of each filter over its own length, as fitted.
    """

    alpha: Tensor
    C: Tensor
    errors: Tensor

    def respond(self, length: int) -> Tensor:
        """(t k): the filters this system stands for, at lags 0 … length − 1."""
        return self.powers(torch.arange(length)) @ self.C

    def powers(self, lag: Tensor) -> Tensor:
        """α_n^lag: (t) -> (t n); 0⁰ = 1."""
        return self.alpha ** lag[:, None]


@torch.inference_mode(False)  # a system fitted while forecasting must serve training too
def fit_diagonal_lds(psi: Tensor, negative_poles: bool = False) -> DiagonalLDS:
    """Fit Σ_n C_nk α_nᵗ to ψ_k(t): pivoted QR picks the poles from a dictionary, least squares gives C.

    The dictionary holds αᵗ on log-spaced rates −log α from 0.1 / L to 40, each column weighted by 1 − α as in
    μ(α) = (α − 1) αᵗ. Columns of unit norm keep the least squares as accurate as float64 allows. Poles are added until
    every filter is within 1e-8 of its norm: 44 to 56 serve 24 filters of 512 to 8192 steps. Where float64 cannot reach
    that (the last of many filters of a short sequence) the best fit is kept.

    Parameters
    ----------
    psi: (t k), filters of length L.
    negative_poles: offer −α beside α, for filters of the Hankel-L form.

    Raises
    ------
    ValueError: the filters are not sums of decaying exponentials (error above 1e-5 of the largest filter).
    """
    target = psi.detach().to("cpu", torch.float64).numpy()
    alpha = _pick_poles(len(target), negative_poles)
    scale = np.linalg.norm(target, axis=0)
    best_error, best = np.inf, None
    for num_poles in range(min(16, alpha.size), min(alpha.size, 128) + 1, 4):
        C, errors = _fit_read_out(alpha[:num_poles], target, scale)
        if errors.max() < best_error:
            best_error, best = errors.max(), (alpha[:num_poles], C, errors)
        if best_error <= TOLERANCE:
            break
    alpha, C, errors = best
    worst = (errors * scale).max() / scale.max()
    if not worst <= REFUSED_ERROR:
        raise ValueError(
            f"these filters are not sums of decaying exponentials (best relative error {worst:.1e}): "
            f"decoding and backend='lds' need spectral filters; use backend='spectral' and whole sequences"
        )
    return DiagonalLDS(torch.from_numpy(alpha), torch.from_numpy(C), torch.from_numpy(errors))


def _pick_poles(seq_len: int, negative_poles: bool) -> np.ndarray:
    """Poles of the dictionary in the order of a pivoted QR: the first N span the most that N can."""
    rate = np.geomspace(0.1 / seq_len, 40.0, NUM_RATES)
    alpha = np.exp(-rate)
    if negative_poles:
        alpha = np.concatenate([alpha, -alpha])
    weighted = alpha ** np.arange(seq_len)[:, None] * (1 - np.abs(alpha))
    if seq_len > alpha.size:
        weighted = np.linalg.qr(weighted, mode="r")
    _, order = scipy.linalg.qr(weighted, mode="r", pivoting=True)
    return alpha[order[: min(seq_len, alpha.size)]]


def _fit_read_out(alpha: np.ndarray, target: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """C (n k) and the relative error of each filter (k)."""
    E = alpha ** np.arange(len(target))[:, None]
    norm = np.linalg.norm(E, axis=0)
    Q, R = np.linalg.qr(E / norm)
    C = scipy.linalg.solve_triangular(R, Q.T @ target) / norm[:, None]
    return C, np.linalg.norm(E @ C - target, axis=0) / scale
