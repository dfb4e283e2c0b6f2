"""What a model says of the steps to come, before it takes the form that was asked for."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Prediction:
    """What a model says of the next h steps of b items: samples (b c s h), or a mean with quantiles.

    mean: (b c h) and quantiles: (b c q h) at `levels` take the place of samples for a model that gives no samples.
    """

    samples: np.ndarray | None = None
    mean: np.ndarray | None = None
    quantiles: np.ndarray | None = None
    levels: tuple[float, ...] = ()

    def summarise(self, levels: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
        """Mean (b c h) and quantiles (b c q h) at `levels`, between given ones by linear interpolation.

        Raises ValueError when a level lies outside those that the model gives.
        """
        if self.samples is not None:
            quantiles = np.quantile(self.samples, levels, axis=2).astype(np.float32)
            return self.samples.mean(axis=2), np.moveaxis(quantiles, 0, 2)
        low, high = self.levels[0], self.levels[-1]
        outside = [level for level in levels if not low <= level <= high]
        if outside:
            raise ValueError(f"quantile_levels must lie within this model's {low} … {high}, got {outside}")
        places = np.interp(levels, self.levels, np.arange(len(self.levels)))
        below = np.floor(places).astype(int)
        above = np.minimum(below + 1, len(self.levels) - 1)
        share = (places - below)[:, None].astype(np.float32)
        return self.mean, (1 - share) * self.quantiles[:, :, below] + share * self.quantiles[:, :, above]
