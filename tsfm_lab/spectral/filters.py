"""The spectral filters: φ_k = σ_k^¼ u_k, with Z = Σ_k σ_k u_k u_kᵀ the Hankel matrix of all decays α at once.

Source: Hazan, Singh, Zhang 2017, arXiv:1711.00946; Agarwal et al. 2023, arXiv:2312.06837, Section 2.
"""

import warnings
from functools import lru_cache

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

# Filters whose rounding error is measured to be larger are announced by a warning.
ERROR_LIMIT = 1e-6


def get_hankel(seq_len: int, use_hankel_L: bool = False) -> Tensor:
    """Z = ∫₀¹ μ(α) μ(α)ᵀ dα with μ_t(α) = (α − 1) αᵗ, or the Hankel-L form ∫₋₁¹ (1 − α²)² α^{s+t} dα.

    In closed form, with n = s + t + 2 for lags s, t = 0 … L − 1: 2 / (n³ − n), and
    ((−1)ⁿ + 1) · 8 / ((n + 3)(n − 1)(n + 1)), which is zero where s + t is odd.

    Parameters
    ----------
    seq_len: L, steps.
    use_hankel_L: the form on [−1, 1], whose one set of filters serves negative eigenvalues too.

    Returns
    -------
    (t s) in float64. Its own `eigh` is no way to the filters: see `get_hankel_eigenpairs`.
    """
    _require_at_least("seq_len", seq_len, 1)
    lag = torch.arange(seq_len, dtype=torch.float64)
    n = lag[:, None] + lag[None, :] + 2
    if use_hankel_L:
        return torch.where(n % 2 == 0, 16 / ((n + 3) * (n - 1) * (n + 1)), 0.0)
    return 2 / (n**3 - n)


def get_spectral_filters(
    seq_len: int,
    K: int,
    use_hankel_L: bool = False,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
    ascending: bool = False,
) -> Tensor:
    """φ_k = σ_k^¼ u_k for the K largest eigenvalues σ_k of `get_hankel(seq_len)`; computed in float64 and remembered.

    The sign is canonical: each filter ends in a positive lobe (and filter k, from 0, has k changes of sign).

    Parameters
    ----------
    seq_len: L, steps.
    K: number of filters, 1 … L.
    use_hankel_L: the eigenpairs of the Hankel-L form.
    ascending: smallest eigenvalue first, as the published implementations order them.

    Returns
    -------
    (t k). The filters of a length L are not the first rows of those of a longer one.

    Raises
    ------
    ValueError: seq_len or K below 1, or K > seq_len.

    Warns
    -----
    UserWarning: float64 does not resolve the last filters to one part in a million (more than 28 at L 64, 38 at L 512,
    44 at L 2048; Hankel-L: 68 at L 512). They are still orthogonal and finite.
    """
    sigma, U = get_hankel_eigenpairs(seq_len, K, use_hankel_L)
    phi = U * sigma**0.25
    return (phi.flip(1) if ascending else phi).to(device=device, dtype=dtype)


def get_hankel_eigenpairs(seq_len: int, K: int, use_hankel_L: bool = False) -> tuple[Tensor, Tensor]:
    """The K largest eigenvalues σ of Z and their eigenvectors U, Z U = U diag(σ), from the singular values of √Z.

    σ falls so fast (2e-16 at k 24, L 512) that an eigendecomposition of Z returns rounding noise from filter 15 to 24
    on. But Z is the moment matrix of a Jacobi weight, so its Cholesky factor G, Z = G Gᵀ, is known in closed form
    without a subtraction, and G = U diag(√σ) Vᵀ: the noise floor moves from 1e-16 to 1e-32. The columns of G fall like
    exp(−n² / L), so 6 √L of them are all that float64 can see, and a QR step leaves an SVD of that size.

    Parameters
    ----------
    seq_len: L, steps.
    K: number of pairs, 1 … L.

    Returns
    -------
    sigma: (k), descending, float64.
    U: (t k), orthonormal, canonical sign, float64.

    Raises, Warns: as `get_spectral_filters`.
    """
    _require_at_least("seq_len", seq_len, 1)
    _require_at_least("K", K, 1)
    if seq_len < K:
        raise ValueError(f"K must be at most seq_len={seq_len}, got {K}: ask for fewer filters or a longer sequence")
    sigma, U, error = compute_eigenpairs(int(seq_len), int(K), bool(use_hankel_L))
    if error > ERROR_LIMIT:
        warnings.warn(
            f"{K} filters of length {seq_len} are more than float64 resolves: the last ones are off by {error:.0e} "
            f"relative; ask for fewer",
            stacklevel=3,
        )
    return torch.from_numpy(sigma.copy()), torch.from_numpy(U.copy())


@lru_cache(maxsize=32)
def compute_eigenpairs(seq_len: int, K: int, use_hankel_L: bool) -> tuple[np.ndarray, np.ndarray, float]:
    """σ (k), U (t k) and the largest rounding error of a column of U."""
    if not use_hankel_L:
        s, U, errors = _decompose(_hankel_cholesky(seq_len, 0.0, K), K)
        return s**2, U, float(errors.max())
    # x = α² splits Z into a matrix on even lags and one on odd lags, both moment matrices on [0, 1]
    parts = [(0, -0.5), (1, 0.5)] if seq_len > 1 else [(0, -0.5)]
    s, U, errors = [], [], []
    for first_lag, power in parts:
        num_lags = (seq_len + 1 - first_lag) // 2
        num_pairs = min(K, num_lags)
        s_part, U_part, errors_part = _decompose(_hankel_cholesky(num_lags, power, num_pairs), num_pairs)
        U_full = np.zeros((seq_len, s_part.size))
        U_full[first_lag::2] = U_part
        s.append(s_part), U.append(U_full), errors.append(errors_part)
    s = np.concatenate(s)
    order = np.argsort(-s, kind="stable")[:K]
    return s[order] ** 2, np.concatenate(U, axis=1)[:, order], float(np.concatenate(errors)[order].max())


def _hankel_cholesky(num_lags: int, power: float, least_columns: int) -> np.ndarray:
    """Lower-triangular G (t n), G Gᵀ = ∫₀¹ x^{s+t} x^power (1 − x)² dx, every entry to full relative accuracy.

    G_tn = ∫₀¹ xᵗ P_n(x) x^power (1 − x)² dx with P_n the orthonormal polynomials of that weight (Jacobi). Rodrigues'
    formula and n integrations by parts leave binom(t, n) · Beta(t + power + 1, n + 3) / ‖P_n‖: no subtraction anywhere.
    """
    t = np.arange(num_lags)[:, None]
    num_columns = min(num_lags, max(least_columns, int(np.ceil(6 * num_lags**0.5))))
    n = np.arange(num_columns - 1)
    squared_norm = 2 / ((power + 1) * (power + 2) * (power + 3))
    squared_norm_ratio = (
        (n + 3) * (n + power + 1) * (2 * n + power + 3) / ((n + 1) * (n + power + 3) * (2 * n + power + 5))
    )
    G = np.empty((num_lags, num_columns))
    G[:, 0] = (2 / ((t + power + 1) * (t + power + 2) * (t + power + 3)) / squared_norm**0.5)[:, 0]
    G[:, 1:] = (t - n) / (t + power + n + 4) * ((n + 3) / (n + 1) / squared_norm_ratio**0.5)
    return np.cumprod(G, axis=1, out=G)


def _decompose(G: np.ndarray, K: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The K largest singular values s (k) of G, their left vectors U (t k), and the measured rounding error of each.

    The error of u_k is how far it moves when every entry is rounded once more, by a factor 1 ± 2⁻⁵².
    """
    U, s = _leading_singular_pairs(G, K)
    rounding = np.random.default_rng(0).choice([1 - 2.0**-52, 1 + 2.0**-52], size=G.shape)
    U_rounded, _ = _leading_singular_pairs(G * rounding, K)
    return s, U, np.linalg.norm(U - U_rounded, axis=0)


def _leading_singular_pairs(G: np.ndarray, K: int) -> tuple[np.ndarray, np.ndarray]:
    """U (t k) and s (k) of G = Q R: an SVD of R alone, and Q applied to its first K vectors without being formed."""
    reflectors, scales = torch.geqrf(torch.from_numpy(G))
    num_columns = G.shape[1]
    # gesvd, unlike the default gesdd, keeps the relative accuracy of a matrix whose columns fall off so fast
    U_R, s, _ = scipy.linalg.svd(reflectors[:num_columns].triu().numpy(), lapack_driver="gesvd")
    U = reflectors.new_zeros(len(G), K)  # on the CPU, also where a model is being built on another device
    U[:num_columns] = torch.from_numpy(U_R[:, :K])
    return _with_canonical_sign(torch.ormqr(reflectors, scales, U).numpy()), s[:K]


def _with_canonical_sign(U: np.ndarray) -> np.ndarray:
    """U (t k) with the last entry of at least a tenth of the column's largest magnitude made positive."""
    large = np.abs(U) >= 0.1 * np.abs(U).max(axis=0)
    last_large = len(U) - 1 - large[::-1].argmax(axis=0)
    return U * np.sign(np.take_along_axis(U, last_large[None], axis=0))


def _require_at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
