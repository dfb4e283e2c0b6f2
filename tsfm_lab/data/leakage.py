"""Does a pretraining series equal, contain or aggregate a held-out one, or the other way round? From the contents.

Two searches. At any offset: windows of blocks of k steps of the finer series that are windows of the coarser one up to
shift and scale (`fingerprints`), grown to the whole run; sums and means look alike. By date (`followers`): seasonal
changes that go together, which finds other editions of the same numbers and calendar steps of unequal length.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tsfm_lab.data.fingerprints import DIMENSIONS, MOVES, MOVING, TOLERANCE, Corpus, Table, scan
from tsfm_lab.data.followers import find_followers
from tsfm_lab.data.series import Series, variate_name

BLOCKS = (*range(1, 13), 24, 48, 96, 144, 168, 288)
STRIDE = 4
SHORT = 64  # values: series below it are searched at every offset
DISTINCT = 6  # sizes among the 7 differences of a seed: small counts repeat a few sizes, and meet by chance
RUN = 24  # steps that a common run must have, or three quarters of the shorter series


@dataclass(frozen=True)
class Leak:
    """Values that a pretraining and a held-out series have in common.

    pretraining, heldout: item, or item[variate] where an item has several.
    relation: what the pretraining series does: "equals", "contains", "is part of", "shares steps with", "aggregates",
    "is aggregated by", "follows" (by date). k: steps of the finer series in one of the coarser. steps: common ones.
    """

    pretraining: str
    heldout: str
    relation: str
    k: int
    steps: int

    def __str__(self) -> str:
        blocks = f" ({self.k} steps each)" if self.k > 1 else ""
        return f"{self.pretraining} {self.relation} {self.heldout}{blocks}: {self.steps} common steps"


def find_leaks(pretraining: Sequence[Series], heldout: Sequence[Series], blocks: Sequence[int] = BLOCKS) -> list[Leak]:
    """Every pair of a pretraining and a held-out series with common values, each with its longest common run.

    Variates are compared one by one. blocks: the k that are tried, 1 (no blocks) first.
    """
    names_p, rows_p = _rows(pretraining)
    names_h, rows_h = _rows(heldout)
    corpus_p, corpus_h = Corpus.of_rows(rows_p), Corpus.of_rows(rows_h)
    found: dict[tuple[str, str], Leak] = {}
    for coarse, fine, p_is_coarse in ((corpus_p, corpus_h, True), (corpus_h, corpus_p, False)):
        table = Table(coarse, STRIDE, SHORT)
        for k in blocks if p_is_coarse else blocks[1:]:
            for c, f, steps in _common_runs(table, fine, k):
                p, h = (c, f) if p_is_coarse else (f, c)
                relation = _relation(k, steps, len(rows_p[p]), len(rows_h[h]), p_is_coarse)
                leak = Leak(names_p[p], names_h[h], relation, k, steps)
                pair = leak.pretraining, leak.heldout
                if pair not in found or found[pair].steps < steps:
                    found[pair] = leak
    for (i, v), (j, w), steps in find_followers(pretraining, heldout):
        pair = variate_name(pretraining[i], v), variate_name(heldout[j], w)
        found.setdefault(pair, Leak(*pair, "follows", 1, steps))
    return list(found.values())


def _rows(collection: Sequence[Series]) -> tuple[list[str], list[np.ndarray]]:
    names, rows = [], []
    for series in collection:
        for v, row in enumerate(series.target):
            names.append(variate_name(series, v))
            rows.append(row)
    return names, rows


def _relation(k: int, steps: int, length_p: int, length_h: int, p_is_coarse: bool) -> str:
    if k > 1:
        return "aggregates" if p_is_coarse else "is aggregated by"
    whole_p, whole_h = steps >= 0.95 * length_p, steps >= 0.95 * length_h
    if whole_p and whole_h:
        return "equals"
    return "contains" if whole_h else "is part of" if whole_p else "shares steps with"


def _common_runs(table: Table, fine: Corpus, k: int) -> list[tuple[int, int, int]]:
    """(series of the table, series of fine, steps) whose blocks of k fine steps run along the table's steps."""
    coarse, A, B = table.corpus, table.D, fine.differences(k)
    found = [np.empty((0, 2), np.int64)]
    for windows in scan(fine, B, k):
        i, at = table.pairs(windows.fingerprints)
        found.append(_same_windows(A, windows.fingerprints[i], windows.at[i], at))
    seeds, runs = np.concatenate(found), []
    while len(seeds):
        diagonal = np.stack([coarse.of[seeds[:, 0]], fine.of[seeds[:, 1]], seeds[:, 1] - k * seeds[:, 0]], axis=1)
        _, first, group = np.unique(diagonal, axis=0, return_index=True, return_inverse=True)
        c, f = seeds[first].T
        steps, ends = _grow(A, B, c, f, k)
        most = np.minimum(coarse.lengths[coarse.of[c]], fine.lengths[fine.of[f]] // k)
        long = steps >= np.minimum(RUN, np.maximum(0.75 * most, MOVING + 2))
        runs += zip(coarse.of[c[long]].tolist(), fine.of[f[long]].tolist(), steps[long].tolist(), strict=True)
        seeds = seeds[seeds[:, 0] >= ends[group.reshape(-1)]]  # the same diagonal may hold another run, after a gap
    return runs


def _same_windows(A: np.ndarray, fingerprints: np.ndarray, at_fine: np.ndarray, at_coarse: np.ndarray) -> np.ndarray:
    """Pairs (coarse position, fine position) whose fingerprints agree and do not look like small counts: (m 2)."""
    vectors = A[at_coarse[:, None] + np.arange(DIMENSIONS)]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    same = (np.abs(vectors - fingerprints) <= TOLERANCE).all(axis=1)
    sizes = np.sort(np.abs(vectors), axis=1)
    same &= (np.diff(sizes, axis=1) > 2 * TOLERANCE).sum(axis=1) >= DISTINCT - 1
    return np.stack([at_coarse[same], at_fine[same]], axis=1)


def _grow(A: np.ndarray, B: np.ndarray, c: np.ndarray, f: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The run through each seed along which differences agree up to one factor.

    Returns how many of its steps tell something, and the coarse position at which it ends: two (m).
    """
    columns = np.arange(DIMENSIONS)
    a, b = A[c[:, None] + columns], B[f[:, None] + k * columns]
    factor = np.einsum("mj,mj->m", a, b) / np.einsum("mj,mj->m", b, b)
    scale = np.linalg.norm(a, axis=1)
    steps = (np.abs(a) > MOVES * scale[:, None]).sum(axis=1) + 2
    ends = c + DIMENSIONS
    for first, direction in ((DIMENSIONS, 1), (-1, -1)):
        alive, j = np.arange(len(c)), first
        while len(alive):
            at_a, at_b = c[alive] + j, f[alive] + k * j
            inside = (at_a >= 0) & (at_b >= 0) & (at_a < len(A)) & (at_b < len(B))
            alive, at_a, at_b = alive[inside], at_a[inside], at_b[inside]
            x, y = A[at_a], factor[alive] * B[at_b]  # NaN ends a run: a gap, or the end of the series
            agree = np.abs(x - y) <= 2 * TOLERANCE * np.maximum(scale[alive], np.abs(x))
            alive = alive[agree]
            steps[alive] += np.abs(x[agree]) > MOVES * scale[alive]
            if direction == 1:
                ends[alive] += 1
            j += direction
    return steps, ends
