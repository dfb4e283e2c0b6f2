"""Linear dynamical systems, observed through noise: the class that spectral filters are made for."""

from dataclasses import dataclass

import numpy as np
from scipy.signal import lfilter

from tsfm_lab.data.synthetic.family import FREQUENCIES, draw_frequency, log_uniform


@dataclass(frozen=True)
class LinearSystem:
    """h_{t+1} = A h_t + w_t, y_t = C h_t + v_t, without input: h_0 ~ N(0, I) keeps y from being noise alone.

    Half of the systems are symmetric, A with eigenvalues in [−1, 1] (Hazan et al. 2017, arXiv:1711.00946); the others
    have A = block rotations of moduli near 1. C and w are isotropic, so A is taken in its (block-)diagonal form.
    """

    states: tuple[int, int] = (2, 16)
    symmetric: float = 0.5
    modulus: tuple[float, float] = (0.9, 0.9995)
    rotation_period: tuple[float, float] = (4.0, 400.0)  # steps
    process_noise: tuple[float, float] = (1e-3, 0.3)  # log-uniform standard deviation of w
    observation_noise: tuple[float, float] = (1e-2, 0.5)  # log-uniform standard deviation of v
    multivariate: float = 0.3  # share with 2 … max_outputs variates
    max_outputs: int = 8

    def draw_shape(self, rng: np.random.Generator, length: int) -> tuple[int, int]:
        several = rng.random() < self.multivariate
        return int(rng.integers(2, self.max_outputs + 1)) if several else 1, length

    def draw(self, rng: np.random.Generator, shape: tuple[int, int]) -> tuple[np.ndarray, str]:
        outputs, length = shape
        d = int(rng.integers(self.states[0], self.states[1] + 1))
        drive = log_uniform(rng, *self.process_noise) * rng.standard_normal((d, length))
        drive[:, 0] = rng.standard_normal(d)  # h_0
        symmetric = rng.random() < self.symmetric
        eigenvalues = rng.uniform(-1, 1, d) if symmetric else self._rotations(rng, d)
        h = run_modes(eigenvalues, drive)
        season = None if symmetric else nearest_season(eigenvalues[h[: d // 2 * 2 : 2].var(axis=1).argmax()])
        C = rng.standard_normal((outputs, d)) / np.sqrt(d)
        y = np.einsum("ds,st->dt", C, h)  # elementwise loops: the same bits with any number of BLAS threads
        y += log_uniform(rng, *self.observation_noise) * rng.standard_normal(y.shape)
        return y, draw_frequency(rng, season)

    def _rotations(self, rng: np.random.Generator, d: int) -> np.ndarray:
        """d // 2 eigenvalues with their conjugates left out, and a real one if d is odd."""
        rho = rng.uniform(*self.modulus, (d + 1) // 2)
        omega = 2 * np.pi / rng.uniform(*self.rotation_period, (d + 1) // 2)
        if d % 2:
            omega[-1] = 0
        return rho * np.exp(1j * omega)


def nearest_season(eigenvalue: complex) -> int:
    """The known season nearest, by ratio, to the period 2π/angle of a rotation, in steps."""
    period = 2 * np.pi / np.angle(eigenvalue)
    return min(FREQUENCIES, key=lambda m: abs(np.log(m / period)))


def run_modes(eigenvalues: np.ndarray, drive: np.ndarray) -> np.ndarray:
    """States h (d t) of h_t = A h_{t−1} + drive_t with h_{−1} = 0, mode by mode.

    eigenvalues: (d) real, or ((d + 1) // 2) complex, each of which stands for a block ρ·[[cos, −sin], [sin, cos]] on
    two states (the last on one, if d is odd).
    """
    if np.isrealobj(eigenvalues):
        return np.stack([lfilter([1], [1, -a], x) for a, x in zip(eigenvalues, drive, strict=True)])
    d, h = len(drive), np.empty_like(drive)
    for i, a in enumerate(eigenvalues):
        if 2 * i + 1 < d:
            z = lfilter([1], [1, -a], drive[2 * i] + 1j * drive[2 * i + 1])
            h[2 * i], h[2 * i + 1] = z.real, z.imag
        else:
            h[2 * i] = lfilter([1], [1, -a.real], drive[2 * i])
    return h
