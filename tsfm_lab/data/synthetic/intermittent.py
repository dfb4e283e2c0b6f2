"""Counts: intermittent demand, and counts with a seasonal rate."""

from dataclasses import dataclass

import numpy as np

from tsfm_lab.data.synthetic.family import SEASONS, Univariate, draw_frequency, draw_season, log_uniform


@dataclass(frozen=True)
class IntermittentCounts(Univariate):
    """y_t = b_t·(1 + n_t), b ~ Bernoulli(p_t), n ~ NegBin(mean, r); or Poisson and NegBin counts of a seasonal rate."""

    demand_probability: tuple[float, float] = (0.02, 0.6)
    modulated: float = 0.5  # share whose probability has a season
    size_mean: tuple[float, float] = (1.0, 50.0)  # log-uniform
    size_dispersion: tuple[float, float] = (0.5, 5.0)  # r
    counts_only: float = 0.4  # share with a seasonal rate and no gaps
    seasons: tuple[int, ...] = SEASONS  # steps

    def draw(self, rng: np.random.Generator, shape: tuple[int, int]) -> tuple[np.ndarray, str]:
        _, length = shape
        m = draw_season(rng, self.seasons, length)
        wave = np.sin(2 * np.pi * (np.arange(length) / m + rng.random()))
        mean, r = log_uniform(rng, *self.size_mean), rng.uniform(*self.size_dispersion)
        if rng.random() < self.counts_only:
            rate = mean * np.exp(rng.uniform(0.2, 1.5) * wave)
            # a negative binomial is a Poisson whose rate is Gamma distributed
            rate = rate * rng.gamma(r, 1 / r, length) if rng.random() < 0.5 else rate
            return rng.poisson(rate).astype(float)[None], draw_frequency(rng, m)
        p = rng.uniform(*self.demand_probability)
        seasonal = rng.random() < self.modulated
        demand = rng.random(length) < (np.clip(p * (1 + wave), 0, 1) if seasonal else p)
        size = 1 + rng.poisson(mean * rng.gamma(r, 1 / r, length))
        return (demand * size).astype(float)[None], draw_frequency(rng, m if seasonal else None)
