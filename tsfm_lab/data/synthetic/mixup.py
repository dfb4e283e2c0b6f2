"""TSMixup: convex combinations of pieces of several series (Ansari et al. 2024, arXiv:2403.07815, Alg. 1)."""

from dataclasses import dataclass

import numpy as np

from tsfm_lab.data.series import SeriesCollection
from tsfm_lab.data.synthetic.family import Family


@dataclass(frozen=True, eq=False)
class TSMixup:
    """y = Σ_k λ_k x_k / mean|x_k|, λ ~ Dirichlet(alpha), over K ~ U{1 … max_series} pieces of one random length.

    pool: the collection that pieces are cut from, one variate of a series each; without one they are fresh draws of
    `families`, by `weights`. The frequency is that of the piece with the largest λ. A step that one piece lacks is NaN.
    """

    families: tuple[Family, ...]
    weights: tuple[float, ...]
    pool: SeriesCollection | None = None
    max_series: int = 3
    alpha: float = 1.5
    lengths: tuple[int, int] = (128, 2048)  # steps; at most what the pool's longest series has

    def draw_shape(self, rng: np.random.Generator, length: int) -> tuple[int, int]:
        longest = self.lengths[1] if self.pool is None else min(self.lengths[1], int(self.pool.lengths.max()))
        return 1, int(rng.integers(min(self.lengths[0], longest), longest + 1))

    def draw(self, rng: np.random.Generator, shape: tuple[int, int]) -> tuple[np.ndarray, str]:
        _, length = shape
        piece = self._fresh_piece if self.pool is None else self._pool_piece
        pieces = [piece(rng, length) for _ in range(rng.integers(1, self.max_series + 1))]
        shares = rng.dirichlet([self.alpha] * len(pieces))
        mixed = sum(share * x / mean_abs(x) for share, (x, _) in zip(shares, pieces, strict=True))
        return mixed[None], pieces[int(shares.argmax())][1]

    def _fresh_piece(self, rng: np.random.Generator, length: int) -> tuple[np.ndarray, str]:
        family = self.families[rng.choice(len(self.families), p=np.divide(self.weights, sum(self.weights)))]
        values, freq = family.draw(rng, family.draw_shape(rng, length))
        return values[rng.integers(len(values))], freq

    def _pool_piece(self, rng: np.random.Generator, length: int) -> tuple[np.ndarray, str]:
        series = self.pool[int(rng.choice(np.flatnonzero(self.pool.lengths >= length)))]
        begin = rng.integers(series.length - length + 1)
        row = series.target[rng.integers(series.num_variates), begin : begin + length]
        return row.astype(np.float64), series.freq


def mean_abs(x: np.ndarray) -> float:
    """Mean of |x| over what is observed: (t) -> number; 1 where that is nothing, or zero throughout."""
    observed = np.abs(x[~np.isnan(x)])
    mean = float(observed.mean()) if len(observed) else 0.0
    return mean or 1.0
