"""Synthetic series as a collection: made when asked for, or cached to arrow once."""

from functools import cached_property
from pathlib import Path

import numpy as np

from tsfm_lab.data.series import Series, SeriesCollection
from tsfm_lab.data.synthetic.mix import SyntheticMix


class SyntheticCollection(SeriesCollection):
    """Series 0 … size − 1 of a mix and a seed; reading one makes it.

    Making a series takes milliseconds, reading a cached one microseconds: train from `cache(folder)`.
    """

    pool = "synthetic"

    def __init__(self, size: int, seed: int = 0, mix: SyntheticMix | None = None, name: str = "synthetic"):
        if size < 1 or seed < 0:
            raise ValueError(f"size must be positive and seed not negative, got {size} and {seed}")
        self.size, self.seed, self.mix, self.name = size, seed, mix or SyntheticMix(), name

    def __len__(self) -> int:
        return self.size

    def read(self, i: int) -> Series:
        return self.mix.series(self.seed, i)

    @cached_property
    def _shapes(self) -> np.ndarray:
        return np.array([self.mix.shape(self.seed, i) for i in range(self.size)], dtype=np.int64)

    @property
    def num_variates(self) -> np.ndarray:
        return self._shapes[:, 0]

    @property
    def lengths(self) -> np.ndarray:
        return self._shapes[:, 1]

    def cache(self, folder: Path) -> SeriesCollection:
        """All series in `folder` in the LOTSA layout, made with a progress bar; a folder that is there already is read.

        Raises: ValueError where the folder holds other series than these.
        """
        from tsfm_lab.data.lotsa import ArrowCollection
        from tsfm_lab.data.lotsa_writer import Layout, write_lotsa

        if not Path(folder).exists():
            layout = Layout(variates=0 if self.num_variates.max() == 1 else -1)  # known without making the series
            write_lotsa(self, folder, layout=layout, progress=True)
        cached = ArrowCollection(folder, name=self.name, pool=self.pool)
        if len(cached) != self.size or cached[self.size - 1].item_id != self[self.size - 1].item_id:
            raise ValueError(f"{folder} must hold these {self.size} series of seed {self.seed}, but holds other ones")
        return cached
