"""Windows for training the Timer family: sources by name, and batches that are a function of (seed, step)."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Sampler

from tsfm_lab.data.catalog import load
from tsfm_lab.data.registry import find
from tsfm_lab.data.synthetic import SyntheticCollection, SyntheticMix
from tsfm_lab.data.tslib import UTSD, MultivariateDatasetBenchmark, UnivariateDatasetBenchmark


def window_source(name: str, *, length: int = 2048, seed: int = 0) -> str | Path | np.ndarray:
    """What the windows' datasets read for a name.

    A registered table or a table file: itself, so that its exact split holds. "synthetic:<n>": n random series of
    `length` steps, (t n). Another registered set, e.g. "co2": its first series (t c), missing values interpolated.

    Raises
    ------
    ValueError: for an unknown name.
    """
    if Path(name).is_file():
        return Path(name)
    if name.startswith("synthetic:"):
        mix = SyntheticMix(length=length, tsmixup=0.0)  # mixed-up series have lengths of their own
        collection = SyntheticCollection(int(name.partition(":")[2]), seed, mix)
        return np.stack([series.target[0, :length] for series in collection], axis=1)
    if find(name).loader == "table":
        return name
    return interpolated(load(name)[0].target.T)


def interpolated(rows: np.ndarray) -> np.ndarray:
    """Each column with its missing values (NaN) on the line between their neighbours: (t c) -> (t c) float64."""
    rows = rows.astype(np.float64)
    at = np.arange(len(rows))
    for column in rows.T:
        present = ~np.isnan(column)
        column[:] = np.interp(at, at[present], column[present])
    return rows


def make_windows(names: str | Sequence[str], part: str, *, multivariate: bool, seed: int = 0, **sizes: Any) -> Dataset:
    """Windows of one or several sources, one after the other.

    names: as `window_source` knows them, or a folder of UTSD. part: "train", "val", "test".
    multivariate: all variates of a row in one window; else one variate each, as UTSD's always are.
    sizes: seq_len, input_token_len, output_token_len, autoregressive, fraction of `MultivariateDatasetBenchmark`.
    """
    kind = MultivariateDatasetBenchmark if multivariate else UnivariateDatasetBenchmark
    names = [names] if isinstance(names, str) else names
    windows = [
        UTSD(name, part, **sizes) if Path(name).is_dir() else kind(window_source(name, seed=seed), part, **sizes)
        for name in names
    ]
    return windows[0] if len(windows) == 1 else ConcatDataset(windows)


class StepBatches(Sampler[list[int]]):
    """Indices of the windows of step first_step, first_step + 1, … without end.

    Every pass over the windows is a permutation that depends on (seed, pass) alone; its last batch may be smaller.
    """

    def __init__(self, num_windows: int, batch_size: int, seed: int, first_step: int = 0):
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1 window, got {batch_size}")
        self.num_windows, self.batch_size, self.seed, self.first_step = num_windows, batch_size, seed, first_step

    @property
    def steps_per_pass(self) -> int:
        """Batches of one pass over all windows."""
        return -(-self.num_windows // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        number, begin = divmod(self.first_step, self.steps_per_pass)
        while True:
            order = np.random.default_rng((self.seed, number)).permutation(self.num_windows)
            for i in range(begin, self.steps_per_pass):
                yield order[i * self.batch_size : (i + 1) * self.batch_size].tolist()
            number, begin = number + 1, 0


class WindowData(lightning.LightningDataModule):
    """Training batches (x, y) from the trainer's step on, so that a resumed run goes on with the very next one.

    windows: (x, y) each, as `make_windows` with part "train" gives them. num_workers: processes that read them.
    """

    def __init__(self, windows: Dataset, batch_size: int, *, seed: int = 0, num_workers: int = 0):
        super().__init__()
        self.windows, self.num_workers = windows, num_workers
        self.batches = StepBatches(len(windows), batch_size, seed)

    def train_dataloader(self) -> DataLoader:
        rest = self.batches
        batches = StepBatches(rest.num_windows, rest.batch_size, rest.seed, self.trainer.global_step)
        return DataLoader(self.windows, batch_sampler=batches, num_workers=self.num_workers, collate_fn=stack_windows)


def some_windows(windows: Dataset, count: int | None, batch_size: int) -> DataLoader:
    """At most `count` windows, evenly spaced, in batches, in order; None: all."""
    total = len(windows)
    chosen = np.linspace(0, total - 1, min(count or total, total)).astype(int).tolist()
    batches = [chosen[i : i + batch_size] for i in range(0, len(chosen), batch_size)]
    return DataLoader(windows, batch_sampler=batches, collate_fn=stack_windows)


def stack_windows(windows: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[Tensor, Tensor]:
    """A batch (x, y) of windows: (b t c), (b t' c)."""
    x, y = (torch.from_numpy(np.stack(arrays)) for arrays in zip(*windows, strict=True))
    return x, y
