"""Calendar series: level × day × week or year × noise, with the seasons that go with a frequency.

After the prior of ForecastPFN (Dooley et al. 2023, arXiv:2311.01933): a trend times the effects of the calendar times
noise. differs from it: a season has the shape of any Fourier series, the level wanders, and the noise has memory.
"""

from dataclasses import dataclass

import numpy as np
from scipy.signal import lfilter

from tsfm_lab.data.synthetic.family import Univariate, log_uniform

# frequency -> its seasons in steps: day and week, week and year, or the year
CALENDAR = {
    "h": (24, 168),
    "30min": (48, 336),
    "15min": (96, 672),
    "10min": (144, 1008),
    "5min": (288,),
    "D": (7, 365.25),
    "W-SUN": (52.18,),
    "M": (12,),
    "Q-DEC": (4,),
}


@dataclass(frozen=True)
class Calendar(Univariate):
    """log y = trend + wandering level + Σ seasons + noise, or y itself so; some stand still at night.

    Every part is drawn in units of the first season's standard deviation.
    """

    second_season: float = 0.5  # share that has the longer one too, at a random strength below the first's
    max_harmonics: int = 8
    harmonic_decay: tuple[float, float] = (0.5, 2.0)  # amplitude of harmonic k ~ N(0, 1)/k^decay
    seasonless: float = 0.15  # share whose first season has no strength
    slope: float = 2.0  # standard deviation of the trend's rise over the whole series
    wander: tuple[float, float] = (0.03, 5.0)  # log-uniform standard deviation of the level's walk over the series
    noise: tuple[float, float] = (0.01, 0.7)  # log-uniform standard deviation
    memory: float = 0.5  # share whose noise is autoregressive, with a coefficient of up to .95
    multiplicative: float = 0.5  # share that is exp of the sum
    effect: tuple[float, float] = (0.1, 1.0)  # log-uniform, of the season's standard deviation within the exponent
    night: float = 0.2  # share of those with a season of a day that are zero below a level, as solar power is

    def draw(self, rng: np.random.Generator, shape: tuple[int, int]) -> tuple[np.ndarray, str]:
        _, length = shape
        freq = list(CALENDAR)[rng.integers(len(CALENDAR))]
        first, *longer = CALENDAR[freq]
        season = self._season(rng, first, length) * (rng.random() >= self.seasonless)
        for m in longer:
            season += self._season(rng, m, length) * rng.random() * (rng.random() < self.second_season)
        night = rng.random() < self.night and freq.endswith(("h", "min")) and season.any()
        if night:
            season = np.maximum(0, season - np.quantile(season, rng.uniform(0.3, 0.6)))
        level = self.slope * rng.standard_normal() * np.linspace(0, 1, length) * (rng.random() < 0.5)
        level = level + self._walk(rng, length)
        noise = self._noise(rng, length)
        if night:
            return np.where(season > 0, np.maximum(0, season * np.exp(0.2 * level) + noise), 0)[None], freq
        y = season + level + noise
        if rng.random() < self.multiplicative:
            y = np.exp(log_uniform(rng, *self.effect) * y.clip(-6, 6))
        return y[None], freq

    def _season(self, rng: np.random.Generator, m: float, length: int) -> np.ndarray:
        """A periodic shape of standard deviation about 1 at a random phase: (length)."""
        k = np.arange(1, min(rng.integers(1, self.max_harmonics + 1), max(1, int(m) // 2)) + 1)[:, None]
        a, b = rng.standard_normal((2, len(k), 1)) / k ** rng.uniform(*self.harmonic_decay)
        angle = 2 * np.pi * k * (np.arange(length) + rng.integers(int(m))) / m
        shape = (a * np.cos(angle) + b * np.sin(angle)).sum(0)
        return shape / np.sqrt(((a**2 + b**2) / 2).sum())

    def _walk(self, rng: np.random.Generator, length: int) -> np.ndarray:
        return log_uniform(rng, *self.wander) * np.cumsum(rng.standard_normal(length)) / np.sqrt(length)

    def _noise(self, rng: np.random.Generator, length: int) -> np.ndarray:
        rho = rng.uniform(0, 0.95) * (rng.random() < self.memory)
        drive = np.sqrt(1 - rho**2) * rng.standard_normal(length)
        return log_uniform(rng, *self.noise) * lfilter([1], [1, -rho], drive)
