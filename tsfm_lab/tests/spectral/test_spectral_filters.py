"""The spectral filters against high precision, a finer quadrature, and the theorem that makes them useful."""

import warnings

import mpmath
import numpy as np
import pytest
import scipy.linalg
import torch

from tsfm_lab.spectral import get_hankel, get_hankel_eigenpairs, get_spectral_filters


def solve_in_high_precision(Z: list[list], num_pairs: int) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues (k) descending and eigenvectors (t k) of a matrix of mpmath numbers, in 50-digit arithmetic."""
    with mpmath.workdps(50):
        values, vectors = mpmath.eigsy(mpmath.matrix(Z))
        order = sorted(range(len(Z)), key=lambda i: -values[i])[:num_pairs]
        U = [[float(vectors[t, k]) for k in order] for t in range(len(Z))]
        return np.array([float(values[k]) for k in order]), np.array(U)


def measure_relative_error(phi: np.ndarray, reference: np.ndarray) -> float:
    """Largest ‖φ_k − reference_k‖ / ‖reference_k‖ over the columns, whatever the reference's signs."""
    reference = reference * np.sign((phi * reference).sum(axis=0))
    return (np.linalg.norm(phi - reference, axis=0) / np.linalg.norm(reference, axis=0)).max()


def filters_by_quadrature(seq_len: int, K: int, num_nodes: int = 900) -> np.ndarray:
    """Filters from Z = ∫ μ μᵀ dα by the trapezoidal rule in log(−log α): another way to the same vectors."""
    u = np.linspace(np.log(1e-7 / seq_len), np.log(60.0), num_nodes)
    rate = np.exp(u)
    weight = np.sqrt((u[1] - u[0]) * rate * np.exp(-rate))
    F = np.exp(-np.arange(seq_len)[:, None] * rate) * -np.expm1(-rate) * weight
    Q, R = np.linalg.qr(F)
    U, s, _ = scipy.linalg.svd(R, lapack_driver="gesvd")
    return Q @ U[:, :K] * np.sqrt(s[:K])


def test_filters_equal_50_digit_arithmetic():
    with mpmath.workdps(50):
        Z = [[mpmath.mpf(2) / ((i + j) ** 3 - (i + j)) for j in range(1, 65)] for i in range(1, 65)]
    sigma, U = solve_in_high_precision(Z, 24)
    phi = get_spectral_filters(64, 24, dtype=torch.float64).numpy()
    assert measure_relative_error(phi, U * sigma**0.25) < 1e-8  # σ_24 = 7e-24 is the float64 rounding of Z times 1e-8


@pytest.mark.parametrize("first_lag", [0, 1])
def test_hankel_L_filters_equal_50_digit_arithmetic(first_lag):
    # Z_L couples even lags with even lags and odd with odd: each half is a problem of its own
    lags = range(first_lag + 1, 65, 2)
    with mpmath.workdps(50):
        Z = [[mpmath.mpf(16) / ((i + j + 3) * (i + j - 1) * (i + j + 1)) for j in lags] for i in lags]
    sigma, U = solve_in_high_precision(Z, 12)
    phi = get_spectral_filters(64, 24, use_hankel_L=True, dtype=torch.float64)[first_lag::2].numpy()
    phi = phi[:, np.abs(phi).max(axis=0) > 0]
    assert measure_relative_error(phi, U[:, : phi.shape[1]] * sigma[: phi.shape[1]] ** 0.25) < 1e-10


@pytest.mark.parametrize("seq_len", [512, 2048])
def test_filters_equal_a_finer_quadrature(seq_len):
    phi = get_spectral_filters(seq_len, 24, dtype=torch.float64).numpy()
    assert measure_relative_error(phi, filters_by_quadrature(seq_len, 24)) < 1e-8


@pytest.mark.parametrize("use_hankel_L", [False, True])
def test_hankel_matrix_is_its_integral(use_hankel_L):
    x, w = np.polynomial.legendre.leggauss(40)
    alpha, w = (x, w) if use_hankel_L else ((x + 1) / 2, w / 2)
    weight = (1 - alpha**2) if use_hankel_L else (1 - alpha)
    mu = weight * alpha ** np.arange(12)[:, None]
    np.testing.assert_allclose(get_hankel(12, use_hankel_L).numpy(), (mu * w) @ mu.T, atol=1e-15)


@pytest.mark.parametrize("use_hankel_L", [False, True])
@pytest.mark.parametrize(("seq_len", "K"), [(1, 1), (2, 2), (3, 2), (16, 16), (33, 8), (100, 24)])
def test_eigenpairs_diagonalise_the_hankel_matrix(seq_len, K, use_hankel_L):
    sigma, U = get_hankel_eigenpairs(seq_len, K, use_hankel_L)
    Z = get_hankel(seq_len, use_hankel_L)
    assert (sigma.diff() <= 0).all()
    torch.testing.assert_close(Z @ U, U * sigma, atol=1e-14, rtol=0)
    torch.testing.assert_close(U.T @ U, torch.eye(K, dtype=torch.float64), atol=1e-13, rtol=0)


@pytest.mark.parametrize("use_hankel_L", [False, True])
def test_every_K_up_to_seq_len_is_finite_and_orthogonal(use_hankel_L):
    for K in range(1, 49):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _, U = get_hankel_eigenpairs(48, K, use_hankel_L)
            phi = get_spectral_filters(48, K, use_hankel_L)
        assert phi.isfinite().all()
        torch.testing.assert_close(U.T @ U, torch.eye(K, dtype=torch.float64), atol=1e-13, rtol=0)


def test_filters_beyond_double_precision_warn():
    with pytest.warns(UserWarning, match="more than float64 resolves"):
        get_spectral_filters(64, 40)


@pytest.mark.parametrize(("seq_len", "K"), [(64, 28), (512, 36), (32, 32)])
def test_filters_within_double_precision_do_not_warn(seq_len, K):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        get_spectral_filters(seq_len, K)


@pytest.mark.parametrize("seq_len", [16, 64, 512])
def test_each_filter_ends_in_a_positive_lobe_and_changes_sign_k_times(seq_len):
    phi = get_spectral_filters(seq_len, 12, dtype=torch.float64)
    for k, column in enumerate(phi.T):
        visible = column[column.abs() > 1e-9 * column.abs().max()]
        assert (visible.sign().diff() != 0).sum() == k
        assert visible[-1] > 0


def test_ascending_reverses_the_order():
    phi = get_spectral_filters(32, 5)
    torch.testing.assert_close(get_spectral_filters(32, 5, ascending=True), phi.flip(1), atol=0, rtol=0)


def test_a_caller_cannot_change_the_remembered_filters():
    for pair in get_hankel_eigenpairs(32, 5):
        pair.zero_()
    assert all(pair.abs().max() > 0.1 for pair in get_hankel_eigenpairs(32, 5))


# The theorem, at the values that a grid of decays α → 1 gives; 2 % for the grid.
@pytest.mark.parametrize(
    ("seq_len", "errors"), [(512, (1.11e-1, 8.24e-3, 3.26e-5, 6.33e-8)), (4096, (1.11e-1, 1.26e-2, 4.33e-4, 5.10e-6))]
)
def test_a_few_filters_span_every_decay(seq_len, errors):
    _, U = get_hankel_eigenpairs(seq_len, 24)
    alpha = 1 - torch.logspace(-7, 0, 2001, dtype=torch.float64)
    mu = (alpha - 1) * alpha ** torch.arange(seq_len)[:, None]
    for k, expected in zip((2, 8, 16, 24), errors, strict=True):
        residual = mu - U[:, :k] @ (U[:, :k].T @ mu)
        assert residual.norm(dim=0).max().item() == pytest.approx(expected, rel=0.02)


def test_filters_come_in_the_asked_dtype():
    assert get_spectral_filters(16, 4).dtype == torch.float32
    assert get_spectral_filters(16, 4, dtype=torch.bfloat16).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("seq_len", "K", "message"),
    [
        (8, 9, "K must be at most seq_len=8, got 9"),
        (8, 0, "K must be at least 1, got 0"),
        (0, 1, "seq_len must be at least 1, got 0"),
    ],
)
def test_impossible_sizes_are_refused(seq_len, K, message):
    with pytest.raises(ValueError, match=message):
        get_spectral_filters(seq_len, K)
