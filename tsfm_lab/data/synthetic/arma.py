"""Autoregressive moving averages, stationary or integrated, some with a seasonal lag."""

from dataclasses import dataclass

import numpy as np
from scipy.signal import lfilter

from tsfm_lab.data.synthetic.family import SEASONS, Univariate, draw_frequency, draw_season


@dataclass(frozen=True)
class ARMA(Univariate):
    """φ(B) (1 − s·B^m) (1 − B)^d y_t = θ(B) ε_t, ε ~ N(0, 1); B is the backward shift.

    φ and θ are given by their inverse roots, whose moduli below 1 make the process stationary and invertible.
    """

    max_p: int = 4  # order of φ, from 1
    max_q: int = 2  # order of θ, from 0
    modulus: tuple[float, float] = (0.3, 0.995)  # of the inverse roots
    complex_pairs: float = 0.5  # share of roots that come as a conjugate pair
    integrated: float = 0.3  # share with d = 1
    seasonal: float = 0.3  # share with a seasonal lag
    seasonal_coefficient: tuple[float, float] = (0.3, 0.9)
    seasons: tuple[int, ...] = SEASONS  # steps
    burn_in: int = 1000  # steps

    def draw(self, rng: np.random.Generator, shape: tuple[int, int]) -> tuple[np.ndarray, str]:
        _, length = shape
        phi = self._polynomial(rng, rng.integers(1, self.max_p + 1))
        theta = self._polynomial(rng, rng.integers(0, self.max_q + 1))
        season = None
        if rng.random() < self.seasonal:
            season = draw_season(rng, self.seasons, length)
            lag = np.zeros(season + 1)
            lag[0], lag[-1] = 1, -rng.uniform(*self.seasonal_coefficient)
            phi = np.convolve(phi, lag)
        y = lfilter(theta, phi, rng.standard_normal(self.burn_in + length))[self.burn_in :]
        if rng.random() < self.integrated:
            y = np.cumsum(y)
        return y[None], draw_frequency(rng, season)

    def _polynomial(self, rng: np.random.Generator, order: int) -> np.ndarray:
        """Coefficients 1, c_1 … c_order of a product of (1 − ρB) and (1 − 2ρ cos(ω) B + ρ²B²)."""
        polynomial, left = np.ones(1), order
        while left:
            rho = rng.uniform(*self.modulus)
            if left >= 2 and rng.random() < self.complex_pairs:
                factor = [1, -2 * rho * np.cos(rng.uniform(0, np.pi)), rho**2]
            else:
                factor = [1, -rho if rng.random() < 0.5 else rho]
            polynomial = np.convolve(polynomial, factor)
            left -= len(factor) - 1
        return polynomial
