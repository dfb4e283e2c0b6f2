"""Seasons, trends and noise, added or multiplied: the textbook decomposition, run forwards."""

from dataclasses import dataclass

import numpy as np

from tsfm_lab.data.synthetic.family import SEASONS, Univariate, draw_frequency, draw_season, log_uniform


@dataclass(frozen=True)
class SeasonalTrend(Univariate):
    """y = trend + Σ seasons + noise, or (1 + trend)·exp(season_effect·Σ seasons) + noise."""

    max_seasons: int = 3
    seasons: tuple[int, ...] = SEASONS  # steps
    max_harmonics: int = 5
    amplitude_decay: float = 1.0  # amplitude of harmonic k ~ N(0, 1)/k^amplitude_decay
    modulated: float = 0.3  # share of seasons whose amplitude swings by ±modulation
    modulation: float = 0.5
    trends: tuple[float, ...] = (0.4, 0.25, 0.2, 0.1, 0.05)  # none, linear, piecewise linear, logistic, exponential
    slope: float = 3.0  # standard deviation of a linear trend's rise over the whole series
    max_knots: int = 5
    exponential_rate: float = 1.5  # standard deviation of the exponent over the whole series
    multiplicative: float = 0.3
    season_effect: float = 0.3
    noise: tuple[float, float] = (0.01, 1.0)  # log-uniform, of the signal's standard deviation
    noise_kinds: tuple[float, ...] = (0.6, 0.3, 0.1)  # normal, Student t, normal with a swinging scale
    noise_df: float = 3.0

    def draw(self, rng: np.random.Generator, shape: tuple[int, int]) -> tuple[np.ndarray, str]:
        _, length = shape
        parts = {}
        for _ in range(rng.integers(1, self.max_seasons + 1)):
            m = draw_season(rng, self.seasons, length)
            parts[m] = parts.get(m, 0) + self._season(rng, m, length)
        season, trend = sum(parts.values()), self._trend(rng, length)
        if rng.random() < self.multiplicative:
            signal = (1 + trend) * np.exp(self.season_effect * season)
        else:
            signal = trend + season
        dominant = max(parts, key=lambda m: parts[m].var())
        return (signal + self._noise(rng, signal))[None], draw_frequency(rng, dominant)

    def _season(self, rng: np.random.Generator, m: int, length: int) -> np.ndarray:
        """Σ_k (a_k cos + b_k sin)(2πkt/m), k up to the Nyquist frequency at most."""
        t = np.arange(length)
        k = np.arange(1, min(rng.integers(1, self.max_harmonics + 1), m // 2) + 1)[:, None]
        a, b = rng.standard_normal((2, len(k), 1)) / k**self.amplitude_decay
        angle = 2 * np.pi * k * t / m
        season = (a * np.cos(angle) + b * np.sin(angle)).sum(0)
        if rng.random() < self.modulated:
            season *= 1 + self.modulation * slow_wave(rng, length)
        return season

    def _trend(self, rng: np.random.Generator, length: int) -> np.ndarray:
        x = np.linspace(0, 1, length)
        kind = rng.choice(5, p=self.trends)
        if kind == 1:
            return self.slope * rng.standard_normal() * x
        if kind == 2:
            knots = np.sort(rng.random(rng.integers(1, self.max_knots + 1)))
            slopes = self.slope * rng.standard_normal(len(knots) + 1)
            changes = np.maximum(x - knots[:, None], 0) * np.diff(slopes)[:, None]
            return slopes[0] * x + changes.sum(0)
        if kind == 3:
            height, steepness, middle = rng.standard_normal() * self.slope, rng.uniform(5, 30), rng.random()
            return height / (1 + np.exp(-steepness * (x - middle)))
        if kind == 4:
            return np.expm1(self.exponential_rate * rng.standard_normal() * x)
        return np.zeros(length)

    def _noise(self, rng: np.random.Generator, signal: np.ndarray) -> np.ndarray:
        sigma = log_uniform(rng, *self.noise) * signal.std()
        kind = rng.choice(3, p=self.noise_kinds)
        if kind == 1:
            return sigma * rng.standard_t(self.noise_df, len(signal))
        noise = sigma * rng.standard_normal(len(signal))
        return noise * (1 + 0.9 * slow_wave(rng, len(signal))) if kind == 2 else noise


def slow_wave(rng: np.random.Generator, length: int) -> np.ndarray:
    """A sine in [−1, 1] of random phase with a period between a quarter of the series and twice its length: (t)."""
    period = rng.uniform(length / 4, 2 * length)
    return np.sin(2 * np.pi * (np.arange(length) / period + rng.random()))
