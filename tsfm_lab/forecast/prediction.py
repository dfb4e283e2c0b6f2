"""What a model says of the steps to come, before it takes the form that was asked for."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from einops import rearrange
from scipy.special import ndtri

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True)
class Prediction:
    """What a model says of the next h steps of b items, in one of three forms.

    samples: (b c s h), of a model that draws. mean: (b c h) and quantiles: (b c q h) at `levels`, of one that gives
    quantiles. mean and stdev: (b c h), of one whose law at each step is normal.
    """

    samples: np.ndarray | None = None
    mean: np.ndarray | None = None
    quantiles: np.ndarray | None = None
    levels: tuple[float, ...] = ()
    stdev: np.ndarray | None = None

    def summarise(self, levels: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
        """Mean (b c h) and quantiles (b c q h) at `levels`, between given ones by linear interpolation.

        Raises ValueError when a level lies outside those that the model gives.
        """
        if self.samples is not None:
            quantiles = np.quantile(self.samples, levels, axis=2).astype(np.float32)
            return self.samples.mean(axis=2), np.moveaxis(quantiles, 0, 2)
        if self.stdev is not None:
            z = rearrange(ndtri(np.asarray(levels)), "q -> q 1").astype(np.float32)
            return self.mean, self.mean[:, :, None] + z * self.stdev[:, :, None]
        low, high = self.levels[0], self.levels[-1]
        outside = [level for level in levels if not low <= level <= high]
        if outside:
            raise ValueError(f"quantile_levels must lie within this model's {low} … {high}, got {outside}")
        places = np.interp(levels, self.levels, np.arange(len(self.levels)))
        below = np.floor(places).astype(int)
        above = np.minimum(below + 1, len(self.levels) - 1)
        share = (places - below)[:, None].astype(np.float32)
        return self.mean, (1 - share) * self.quantiles[:, :, below] + share * self.quantiles[:, :, above]
