"""The long-horizon benchmark of TSLib and OpenLTM: exact splits, scaling by the training rows, and windows.

Zhou et al. 2021 (arXiv:2012.07436) for ETT's 12/4/4 months, Wu et al. 2021 (arXiv:2106.13008) for .7/.1/.2 of the
others, Liu et al. 2025 (Timer-XL, arXiv:2410.04803) for the datasets of windows and for UTSD.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from einops import rearrange

from tsfm_lab.data.catalog import load_table
from tsfm_lab.data.registry import entries, find
from tsfm_lab.data.tables import read_table

PARTS = ("train", "val", "test")
DEFAULT_SPLIT = "0.7/0.1/0.2"


def split_borders(rows: int, rule: str) -> dict[str, tuple[int, int]]:
    """First and one-past-last row of the training, validation and test part, without overlap.

    rule: "8640/2880/2880" rows, or fractions "0.7/0.1/0.2": training int(.7 n), test int(.2 n), validation the rest;
    the test part of fractions ends with the data, that of row counts after the three counts.
    Raises: ValueError where the rule is no such rule or the rows do not suffice.
    """
    try:
        train, val, test = (float(part) for part in rule.split("/"))
    except ValueError:
        raise ValueError(f"split rule must be like '8640/2880/2880' or '0.7/0.1/0.2', got {rule!r}") from None
    if train < 1:
        train, test = int(rows * train), int(rows * test)
        val = rows - train - test
    train, val, test = int(train), int(val), int(test)
    if train + val + test > rows or min(train, val, test) < 0:
        raise ValueError(f"split {rule} needs {train + val + test} rows, got {rows}; the data is a slice of the set")
    return {"train": (0, train), "val": (train, train + val), "test": (train + val, train + val + test)}


@dataclass(frozen=True)
class Standardiser:
    """x ↦ (x − mean) / scale per column, with the population's standard deviation; 1 for constant columns."""

    mean: np.ndarray
    scale: np.ndarray

    @classmethod
    def fit(cls, values: np.ndarray) -> "Standardiser":
        """values: (t c), NaN ignored."""
        scale = np.nanstd(values, axis=0)
        return cls(np.nanmean(values, axis=0), np.where(scale == 0, 1.0, scale))

    def transform(self, values: np.ndarray) -> np.ndarray:
        """values: (t c) -> standardised (t c)."""
        return (values - self.mean) / self.scale

    def inverse(self, values: np.ndarray) -> np.ndarray:
        """values: standardised (t c) -> (t c)."""
        return values * self.scale + self.mean


class MultivariateDatasetBenchmark(Sequence):
    """Windows of all variates of a set, as the source's dataset of the same name has them.

    Item i is (x, y): x (seq_len c) and y of the rows that follow each token. With `autoregressive`, y holds, for every
    input token of input_token_len rows, the output_token_len rows after it: (token·output_token_len c), in order;
    without it, only the output_token_len rows after x: (output_token_len c). float32, standardised by the training rows
    in float64.

    source: name of a registered table, a table file, or rows (t c). part: "train", "val", "test"; those after the first
    begin seq_len rows early. split: rule of `split_borders`, by default the registry's for that name or file name, else
    0.7/0.1/0.2.
    fraction: of the training windows, the first ones.
    Raises: ValueError where a part is too short for one window, or seq_len is no multiple of input_token_len.
    """

    def __init__(
        self,
        source: str | Path | np.ndarray,
        part: str,
        *,
        seq_len: int,
        input_token_len: int,
        output_token_len: int,
        split: str | None = None,
        scale: bool = True,
        autoregressive: bool = True,
        fraction: float = 1.0,
    ):
        if part not in PARTS:
            raise ValueError(f"part must be one of {', '.join(PARTS)}, got {part!r}")
        if autoregressive and seq_len % input_token_len:
            raise ValueError(f"seq_len must be a multiple of input_token_len={input_token_len}, got {seq_len}")
        values, rule = _rows_of(source)
        borders = split_borders(len(values), split or rule)
        self.scaler = Standardiser.fit(values[slice(*borders["train"])]) if scale else None
        begin, end = borders[part]
        begin -= seq_len if part != "train" else 0
        rows = values[begin:end] if begin >= 0 else values[:0]
        self.rows = (self.scaler.transform(rows) if self.scaler else rows).astype(np.float32)
        self.seq_len, self.input_token_len, self.output_token_len = seq_len, input_token_len, output_token_len
        self.autoregressive = autoregressive
        self.num_positions = len(self.rows) - seq_len - output_token_len + 1
        if self.num_positions < 1:
            need = seq_len + output_token_len
            raise ValueError(f"the {part} part has {len(self.rows)} rows with its context, a window needs {need}")
        self._length = self._windows()
        if part == "train" and fraction < 1:
            self._length = max(int(self._length * fraction), 1)

    def _windows(self) -> int:
        return self.num_positions

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        i = _checked_index(i, len(self))
        return self._window(self.rows, i)

    def _window(self, rows: np.ndarray, begin: int) -> tuple[np.ndarray, np.ndarray]:
        end = begin + self.seq_len
        x = rows[begin:end]
        if not self.autoregressive:
            return x, rows[end : end + self.output_token_len]
        following = rows[begin + self.input_token_len : end + self.output_token_len]
        tokens = np.lib.stride_tricks.sliding_window_view(following, self.output_token_len, axis=0)
        return x, rearrange(tokens[:: self.input_token_len], "token c t -> (token t) c")


class UnivariateDatasetBenchmark(MultivariateDatasetBenchmark):
    """The same windows one variate at a time: all of variate 0, then all of variate 1; x (seq_len 1), y (… 1)."""

    def _windows(self) -> int:
        return self.num_positions * self.rows.shape[1]

    def __getitem__(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        variate, begin = divmod(_checked_index(i, len(self)), self.num_positions)
        return self._window(self.rows[:, variate : variate + 1], begin)


class UTSD(Sequence):
    """Univariate windows over all .csv or .npy files below a folder, each split 0.9/0.05/0.05 and scaled on its own.

    Item i is (x, y): x (seq_len 1), and y the rows from one input token later to output_token_len rows after x.
    Files whose training part is shorter than one window are left out and named in `notes`; files are taken by name.
    """

    def __init__(
        self,
        folder: str | Path,
        part: str = "train",
        *,
        seq_len: int,
        input_token_len: int,
        output_token_len: int,
        train_fraction: float = 0.9,
        stride: int = 1,
        scale: bool = True,
    ):
        if part not in PARTS:
            raise ValueError(f"part must be one of {', '.join(PARTS)}, got {part!r}")
        self.seq_len, self.input_token_len, self.output_token_len = seq_len, input_token_len, output_token_len
        self.stride, self.notes, self._rows, self._ends = stride, [], [], []
        files = sorted(path for path in Path(folder).rglob("*") if path.suffix in (".csv", ".npy"))
        if not files:
            raise FileNotFoundError(f"{folder} holds no .csv or .npy file; pass the folder of UTSD")
        for file in files:
            rows = self._part_of(file, part, train_fraction, scale)
            if rows is not None:
                self._rows.append(rows)
                self._ends.append((self._ends[-1] if self._ends else 0) + self._positions(rows) * rows.shape[1])

    def _part_of(self, file: Path, part: str, train_fraction: float, scale: bool) -> np.ndarray | None:
        try:
            values = read_table(file).values
        except ValueError as error:
            self.notes.append(f"left out: {error}")
            return None
        train, test = int(len(values) * train_fraction), int(len(values) * (1 - train_fraction) / 2)
        if train < self.seq_len + self.output_token_len:
            self.notes.append(f"left out: {file.name} has {train} training rows, fewer than a window")
            return None
        if scale:
            values = Standardiser.fit(values[:train]).transform(values)
        early = len(values) - test
        begin, end = {"train": (0, train), "val": (train, early), "test": (early, len(values))}[part]
        rows = values[begin - (self.seq_len if part != "train" else 0) : end].astype(np.float32)
        return rows if self._positions(rows) > 0 else None

    def _positions(self, rows: np.ndarray) -> int:
        return max((len(rows) - self.seq_len - self.output_token_len) // self.stride + 1, 0)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        i = _checked_index(i, len(self))
        k = bisect_right(self._ends, i)
        rows = self._rows[k]
        variate, position = divmod(i - (self._ends[k - 1] if k else 0), self._positions(rows))
        begin = position * self.stride
        end = begin + self.seq_len
        column = rows[:, variate : variate + 1]
        return column[begin:end], column[begin + self.input_token_len : end + self.output_token_len]


def _rows_of(source: str | Path | np.ndarray) -> tuple[np.ndarray, str]:
    if isinstance(source, np.ndarray):
        return np.asarray(source, np.float64), DEFAULT_SPLIT
    if isinstance(source, Path) or Path(source).is_file():
        known = entries().get(Path(source).name.split(".")[0])
        return read_table(Path(source)).values, known.split if known and known.loader == "table" else DEFAULT_SPLIT
    return load_table(source).values, find(source).split


def _checked_index(i: int, n: int) -> int:
    if not -n <= i < n:
        raise IndexError(f"window {i} of {n}")
    return int(i) % n
