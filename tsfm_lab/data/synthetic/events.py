"""Events: what sensors and markets do to a well-behaved series."""

from dataclasses import dataclass, field

import numpy as np

from tsfm_lab.data.synthetic.family import Univariate
from tsfm_lab.data.synthetic.seasonal import SeasonalTrend


@dataclass(frozen=True)
class Events(Univariate):
    """A seasonal series with one to `max_kinds` kinds of event; missing blocks are NaN."""

    base: SeasonalTrend = field(default_factory=SeasonalTrend)
    max_kinds: int = 3
    max_shifts: int = 4
    spike_probability: float = 0.005  # per step
    spike_df: float = 2.0
    max_missing: float = 0.2  # of all steps
    max_missing_blocks: int = 5
    clip_quantiles: tuple[float, float] = (0.8, 0.98)

    def draw(self, rng: np.random.Generator, shape: tuple[int, int]) -> tuple[np.ndarray, str]:
        values, freq = self.base.draw(rng, shape)
        y = values[0]
        y = (y - y.mean()) / (y.std() + 1e-12)
        kinds = [self._night, self._variance_change, self._level_shifts, self._spikes, self._clip, self._gaps]
        # in this order: gaps come last, because what is missing is not known to have shifted or spiked
        chosen = rng.permutation(len(kinds))[: rng.integers(1, self.max_kinds + 1)]
        for k in sorted(chosen):
            y = kinds[k](rng, y)
        return y[None], freq

    def _night(self, rng: np.random.Generator, y: np.ndarray) -> np.ndarray:
        """Solar-like: max(0, y)."""
        return np.maximum(0, y)

    def _variance_change(self, rng: np.random.Generator, y: np.ndarray) -> np.ndarray:
        at, factor = rng.integers(1, len(y)), np.exp(rng.normal(0, 1))
        return np.where(np.arange(len(y)) < at, y, y.mean() + factor * (y - y.mean()))

    def _level_shifts(self, rng: np.random.Generator, y: np.ndarray) -> np.ndarray:
        for _ in range(rng.integers(self.max_shifts + 1)):
            y = y + np.where(np.arange(len(y)) < rng.integers(1, len(y)), 0, 2 * rng.standard_normal())
        return y

    def _spikes(self, rng: np.random.Generator, y: np.ndarray) -> np.ndarray:
        at = rng.random(len(y)) < self.spike_probability
        return y + at * 3 * rng.standard_t(self.spike_df, len(y))

    def _clip(self, rng: np.random.Generator, y: np.ndarray) -> np.ndarray:
        q = rng.uniform(*self.clip_quantiles)
        return np.minimum(y, np.quantile(y, q)) if rng.random() < 0.5 else np.maximum(y, np.quantile(y, 1 - q))

    def _gaps(self, rng: np.random.Generator, y: np.ndarray) -> np.ndarray:
        y = y.copy()
        blocks = rng.integers(1, self.max_missing_blocks + 1)
        width = int(rng.uniform(0, self.max_missing) * len(y) / blocks)
        for begin in rng.integers(len(y) - width + 1, size=blocks):
            y[begin : begin + width] = np.nan
        return y
