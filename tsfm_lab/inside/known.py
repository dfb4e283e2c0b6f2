"""Series whose properties are known because they were made with them."""

from dataclasses import dataclass

import numpy as np

PATTERNS = ("season of 8 steps", "season of 64 steps", "trend", "random walk", "noise", "spikes")


@dataclass(frozen=True)
class KnownSeries:
    """values: (s t) float32; period: (s) steps of the season; rise: (s) of the trend over all t steps.

    The rise is in standard deviations of the series, as models see it that scale what they read.
    """

    values: np.ndarray
    period: np.ndarray
    rise: np.ndarray


def draw_known_series(
    num_series: int, length: int, *, shortest: float = 8.0, longest: float = 128.0, noise: float = 0.3, seed: int = 0
) -> KnownSeries:
    """y_t = a x_t + Σ_k b_k cos(2πkt/m + θ_k) + noise, x_t from 0 to 1, log m uniform, a ~ N(0, 2²).

    Two harmonics, b = 1 and ½ N(0, 1); noise: standard deviation. shortest, longest: of the period, steps.

    Raises
    ------
    ValueError: periods that are not 2 ≤ shortest < longest ≤ length.
    """
    if not 2 <= shortest < longest <= length:
        raise ValueError(f"periods must be 2 ≤ shortest < longest ≤ {length}, got {shortest} and {longest}")
    rng = np.random.default_rng(seed)
    period = np.exp(rng.uniform(np.log(shortest), np.log(longest), num_series))
    t, x = np.arange(length), np.linspace(0, 1, length)
    slope = rng.normal(0, 2, num_series)
    values = slope[:, None] * x + noise * rng.standard_normal((num_series, length))
    for k, amplitude in ((1, np.ones(num_series)), (2, 0.5 * rng.standard_normal(num_series))):
        angle = 2 * np.pi * (k * t / period[:, None] + rng.random((num_series, 1)))
        values += amplitude[:, None] * np.cos(angle)
    return KnownSeries(values.astype(np.float32), period, slope / values.std(1))


def draw_patterns(num_each: int, length: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """`num_each` series of each of PATTERNS: values (s t) float32 and the number of the pattern (s) int64."""
    rng = np.random.default_rng(seed)
    shape, t = (num_each, length), np.arange(length)

    def season(m: int) -> np.ndarray:
        return np.cos(2 * np.pi * (t / m + rng.random((num_each, 1)))) + 0.3 * rng.standard_normal(shape)

    trend = rng.choice([-1, 1], (num_each, 1)) * np.linspace(0, 4, length) + 0.3 * rng.standard_normal(shape)
    spikes = rng.exponential(3, shape) * (rng.random(shape) < 0.05) + 0.1 * rng.standard_normal(shape)
    walk = rng.standard_normal(shape).cumsum(axis=1)
    drawn = (season(8), season(64), trend, walk, rng.standard_normal(shape), spikes)
    return np.concatenate(drawn).astype(np.float32), np.repeat(np.arange(len(PATTERNS)), num_each)
