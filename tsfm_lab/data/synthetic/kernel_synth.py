"""KernelSynth: Gaussian processes with random sums and products of kernels (Ansari et al. 2024, arXiv:2403.07815).

Every kernel of the bank is stationary, κ(|i−j|), or a dot product, σ0² + x_i·x_j, and + and × keep sums of such terms:

    K_ij = Σ_m (x_i·x_j)^m κ_m(|i−j|)        so that        y = Σ_m x^m f_m,   f_m ~ GP(0, κ_m) independent.

A stationary f_m needs the Cholesky factor of a Toeplitz matrix only, whose columns follow one from another (Schur's
recursion): O(t²) instead of O(t³), and elementwise, hence the same bits whatever the number of threads.
"""

from dataclasses import dataclass

import numpy as np

from tsfm_lab.data.synthetic.family import Univariate, draw_frequency

Terms = dict[int, np.ndarray]  # m -> κ_m(lag): (t)


@dataclass(frozen=True)
class KernelSynth(Univariate):
    """One draw of a Gaussian process on x = 0 … 1, whose covariance joins 1 … max_kernels kernels by + or ×."""

    max_kernels: int = 5
    periods: tuple[int, ...] = (
        24,
        48,
        96,
        168,
        336,
        672,
        7,
        14,
        30,
        60,
        365,
        730,
        4,
        26,
        52,
        4,
        6,
        12,
        4,
        40,
        10,
    )  # steps
    dot_product_offsets: tuple[float, ...] = (0.0, 1.0, 10.0)  # σ0
    rbf_lengths: tuple[float, ...] = (0.1, 1.0, 10.0)  # of the whole series
    rational_quadratic_alphas: tuple[float, ...] = (0.1, 1.0, 10.0)
    white_variances: tuple[float, ...] = (0.1, 1.0)
    constant: float = 1.0

    def draw(self, rng: np.random.Generator, shape: tuple[int, int]) -> tuple[np.ndarray, str]:
        _, length = shape
        bank = self.bank()
        chosen = [bank[i] for i in rng.integers(len(bank), size=rng.integers(1, self.max_kernels + 1))]
        terms = kernel_terms(*chosen[0], length)
        for kind, parameter in chosen[1:]:
            join = add_terms if rng.random() < 0.5 else multiply_terms
            terms = join(terms, kernel_terms(kind, parameter, length))
        x = np.linspace(0, 1, length)
        noise = rng.standard_normal((len(terms), length))
        f = color_noise(np.stack(list(terms.values())), noise)
        y = sum(x**m * f_m for m, f_m in zip(terms, f, strict=True))
        periods = [int(parameter) for kind, parameter in chosen if kind == "periodic"]
        return y[None], draw_frequency(rng, periods[0] if periods else None)

    def bank(self) -> list[tuple[str, float]]:
        """(kind, parameter) of every kernel; one is drawn as likely as another, as in the paper's code."""
        return [
            *(("periodic", p) for p in self.periods),
            *(("dot product", s) for s in self.dot_product_offsets),
            *(("rbf", ell) for ell in self.rbf_lengths),
            *(("rational quadratic", a) for a in self.rational_quadratic_alphas),
            *(("white", v) for v in self.white_variances),
            ("constant", self.constant),
        ]


def kernel_terms(kind: str, parameter: float, length: int) -> Terms:
    """{m: κ_m(lag)} of one kernel on `length` steps; periods are in steps, lengths in units of the whole series."""
    lag = np.arange(length)
    d = lag / max(length - 1, 1)
    if kind == "periodic":
        return {0: np.exp(-2 * np.sin(np.pi * lag / parameter) ** 2)}
    if kind == "dot product":
        return {0: np.full(length, parameter**2), 1: np.ones(length)}
    if kind == "rbf":
        return {0: np.exp(-((d / parameter) ** 2) / 2)}
    if kind == "rational quadratic":
        return {0: (1 + d**2 / (2 * parameter)) ** -parameter}
    if kind == "white":
        return {0: np.where(lag == 0, parameter, 0.0)}
    return {0: np.full(length, parameter)}


def add_terms(a: Terms, b: Terms) -> Terms:
    """The terms of the sum of two kernels."""
    return {m: a.get(m, 0) + b.get(m, 0) for m in sorted(a.keys() | b.keys())}


def multiply_terms(a: Terms, b: Terms) -> Terms:
    """The terms of the product of two kernels: powers of x·x' add up."""
    product: Terms = {}
    for m, kappa in a.items():
        for n, other in b.items():
            product[m + n] = product.get(m + n, 0) + kappa * other
    return product


def color_noise(kappa: np.ndarray, noise: np.ndarray, jitter: float = 1e-6) -> np.ndarray:
    """f_m = L_m z_m with L_m L_mᵀ = Toeplitz(κ_m) + jitter·κ_m(0)·I, by Schur's recursion on the columns of L_m.

    kappa: autocovariances (m t); a term with κ_m(0) = 0 gives zeros. noise: z (m t). Returns (m t).
    The rotation is in its mixed form, which is stable (Bojanczyk et al. 1995). The jitter, a thousandth of the signal's
    standard deviation, keeps smooth kernels, whose matrices are singular in floating point, away from a zero pivot.
    """
    variance = kappa[:, :1]
    r = np.divide(kappa, variance, out=np.zeros_like(kappa), where=variance > 0)
    r[:, 0] = 1 + jitter
    u = r / np.sqrt(r[:, :1])  # the column of L, from its diagonal down
    v = u.copy()
    v[:, 0] = 0
    f = np.zeros_like(noise)
    t = r.shape[1]
    for j in range(t):
        f[:, j:] += u * noise[:, j : j + 1]
        if j + 1 == t:
            break
        u, v = u[:, :-1], v[:, 1:]
        k = -v[:, :1] / u[:, :1]
        c = np.sqrt((1 - k) * (1 + k))
        u = (u + k * v) / c
        v = k * u + c * v
    return f * np.sqrt(variance)
