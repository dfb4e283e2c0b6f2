"""Fingerprints of windows that stay the same under shift, scale and a linear trend, for every step width.

For blocks of k steps S(t) = x(t) + … + x(t+k−1) and windows of W blocks, the fingerprint at t is the unit vector of the
second differences D(t + jk), j < W − 2, with D(t) = S(t) − 2 S(t+k) + S(t+2k). Two windows have the same one exactly if
one is the other times a positive number plus a line, so sums and means of blocks look alike.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

WINDOW = 9  # blocks
DIMENSIONS = WINDOW - 2
TOLERANCE = 2e-3  # in each coordinate of a unit vector
CELL = 1 / 32
KEYED = 6  # coordinates that enter the key
MOVES = 0.02  # of the norm: what a difference must be to tell anything; zeros agree with zeros everywhere
MOVING = 6  # of the 7 differences that must move: a spike or a step is in every other series
TABLE_BITS = 26
CHUNK = 1 << 18
FLOAT32_EPS = 6e-8


@dataclass(frozen=True)
class Corpus:
    """Many series one after the other; x, of and noise are over the n values of all series.

    x: each series minus its mean over its standard deviation, missing values NaN. of: index of the series.
    noise: rounding of its float32 values, in units of x. begins, lengths: of each series.
    """

    x: np.ndarray
    of: np.ndarray
    noise: np.ndarray
    begins: np.ndarray
    lengths: np.ndarray

    @classmethod
    def of_rows(cls, rows: Sequence[np.ndarray]) -> "Corpus":
        """rows: (t) float arrays, NaN missing."""
        lengths = np.array([len(row) for row in rows], dtype=np.int64)
        x, noise = [np.empty(0)], []
        for row in rows:
            row = np.where(np.isfinite(row), row, np.nan).astype(np.float64)
            some = row[~np.isnan(row)] if not np.isnan(row).all() else np.zeros(1)
            scale = some.std() or 1.0
            x.append((row - some.mean()) / scale)
            noise.append(FLOAT32_EPS * np.abs(some).max() / scale)
        of = np.repeat(np.arange(len(rows)), lengths)
        return cls(np.concatenate(x), of, np.array(noise)[of], np.cumsum(lengths) - lengths, lengths)

    def differences(self, k: int) -> np.ndarray:
        """D of blocks of k steps: (n) float32, NaN where the three blocks miss a value or leave the series."""
        n, D = len(self.x), np.full(len(self.x), np.nan, np.float32)
        m = n - 3 * k + 1
        if m < 1:
            return D
        sums, breaks = self._running
        S = sums[k:] - sums[:-k]
        D[:m] = S[:m] - 2 * S[k : k + m] + S[2 * k :]
        D[:m][breaks[3 * k - 1 : 3 * k - 1 + m] != breaks[:m]] = np.nan
        return D

    @cached_property
    def _running(self) -> tuple[np.ndarray, np.ndarray]:
        """(n+1) sums of x before each value; (n) count of series begun and values missing, up to and with each."""
        missing = np.isnan(self.x)
        sums = np.concatenate([[0.0], np.cumsum(np.where(missing, 0.0, self.x))])
        breaks = np.cumsum(missing) + self.of
        breaks[missing] = -1 - np.arange(missing.sum())
        return sums, breaks


@dataclass(frozen=True)
class Windows:
    """Usable windows of a corpus: where they begin (m) and their fingerprints (m 7), unit vectors."""

    at: np.ndarray
    fingerprints: np.ndarray


def scan(corpus: Corpus, D: np.ndarray, k: int) -> Iterator[Windows]:
    """All windows of W blocks of k steps that lie in one series, miss no value, and are no mere line, step or spike."""
    last = len(D) - (DIMENSIONS - 1) * k
    for begin in range(0, last, CHUNK):
        end = min(begin + CHUNK, last)
        shifted = [D[begin + j * k : end + j * k] for j in range(DIMENSIONS)]
        norm = np.sqrt(sum(d * d for d in shifted))
        usable = norm > np.maximum(8 * k * corpus.noise[begin:end] / TOLERANCE, 1e-6)  # False for NaN
        usable &= sum(np.abs(d) > MOVES * norm for d in shifted) >= MOVING
        vectors = np.stack([d[usable] for d in shifted], axis=-1)
        yield Windows(begin + np.flatnonzero(usable), vectors / norm[usable, None])


class Table:
    """Windows of a corpus by the cell of their fingerprint; one near a border is in the cells on both sides."""

    def __init__(self, corpus: Corpus, stride: int, short: int):
        """stride: every so many positions, but each one in series with fewer than `short` values."""
        self.corpus, self.D = corpus, corpus.differences(1)
        keys, positions = [], []
        for windows in scan(corpus, self.D, 1):
            series = corpus.of[windows.at]
            chosen = (corpus.lengths[series] < short) | ((windows.at - corpus.begins[series]) % stride == 0)
            vectors, owners = _with_neighbours(windows.fingerprints[chosen], windows.at[chosen])
            keys.append(keys_of(vectors))
            positions.append(owners)
        every = np.concatenate([np.empty(0, np.int64), *keys])
        order = np.argsort(every, kind="stable")
        self._keys = every[order]
        self._positions = np.concatenate([np.empty(0, np.int64), *positions])[order]
        self._seen = np.zeros(1 << TABLE_BITS, bool)
        self._seen[_hash(self._keys)] = True

    def pairs(self, fingerprints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Fingerprints (m 7) and windows of the table in one cell: index into m, and position in the corpus."""
        keys = keys_of(fingerprints)
        asked = np.flatnonzero(self._seen[_hash(keys)])
        low = np.searchsorted(self._keys, keys[asked], side="left")
        count = np.searchsorted(self._keys, keys[asked], side="right") - low
        within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        return np.repeat(asked, count), self._positions[np.repeat(low, count) + within]


def keys_of(fingerprints: np.ndarray) -> np.ndarray:
    """The cell into which each fingerprint (m 7) falls: (m) int64."""
    cells = np.floor((fingerprints[:, :KEYED] + 1) / CELL).astype(np.float64)
    return (cells @ float(2 / CELL + 1) ** np.arange(KEYED)).astype(np.int64)  # exact: below 2^53


def _with_neighbours(vectors: np.ndarray, owners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    for j in range(KEYED):
        place = ((vectors[:, j] + 1) / CELL) % 1
        low, high = place < TOLERANCE / CELL, place > 1 - TOLERANCE / CELL
        down, up = vectors[low].copy(), vectors[high].copy()
        down[:, j] -= TOLERANCE
        up[:, j] += TOLERANCE
        vectors = np.concatenate([vectors, down, up])
        owners = np.concatenate([owners, owners[low], owners[high]])
    return vectors, owners


def _hash(keys: np.ndarray) -> np.ndarray:
    return (keys.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(64 - TABLE_BITS)
