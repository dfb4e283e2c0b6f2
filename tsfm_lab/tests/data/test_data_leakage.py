"""Series that hold values of others are found on their contents; series that do not are left in peace."""

import numpy as np
import pytest

from tsfm_lab.data import Series, find_leaks
from tsfm_lab.data.fingerprints import DIMENSIONS, WINDOW, Corpus, scan

RNG = np.random.default_rng(5)


def walk(n: int, seed: int) -> np.ndarray:
    return np.cumsum(np.random.default_rng(seed).normal(size=n)) + 100


def made(item: str, values, freq: str = "h", start: str = "2020-01-01") -> Series:
    return Series(item, start, freq, values)


def others(n: int = 40, length: int = 600) -> list[Series]:
    return [made(f"other{i}", walk(length, 1000 + i)) for i in range(n)]


def found(pretraining, heldout) -> list[tuple]:
    return [(leak.relation, leak.k) for leak in find_leaks([*others(), pretraining], [*others(40, 300), heldout]) if
            leak.pretraining == pretraining.item_id and leak.heldout == heldout.item_id]  # fmt: skip


h = walk(700, 1)
CASES = {
    "equals": (h, h, 1),
    "contains": (np.concatenate([walk(90, 2), h[:300], walk(50, 3)]), h[:300], 1),
    "is part of": (h[133:290], h, 1),
    "shares steps with": (np.concatenate([h[400:], walk(500, 4)]), h, 1),
}


@pytest.mark.parametrize(("relation", "case"), CASES.items())
def test_common_stretches_are_found_under_any_shift_and_scale(relation, case):
    p, held, k = case
    assert found(made("p", p), made("h", held)) == [(relation, k)]
    assert found(made("p", (p * 3.7 - 1000).astype(np.float32)), made("h", held)) == [(relation, k)]


@pytest.mark.parametrize("k", [2, 3, 4, 5, 7, 11, 12, 24, 168])
@pytest.mark.parametrize("kind", ["sum", "mean"])
def test_sums_and_means_are_found_at_any_offset(k, kind):
    offset = k // 2 + 1
    fine = walk(offset + 40 * k, k)
    blocks = getattr(fine[offset:].reshape(-1, k), kind)(axis=1)
    assert found(made("p", blocks, "D"), made("h", fine)) == [("aggregates", k)]
    assert found(made("p", fine), made("h", blocks, "D")) == [("is aggregated by", k)]


def test_short_yearly_sums_of_a_quarterly_series_are_found():
    quarters = np.round(np.abs(walk(52, 9)) * 1000 * (1 + 0.2 * np.sin(np.arange(52) * np.pi / 2)))
    years = quarters[4:].reshape(-1, 4).sum(axis=1)
    assert found(made("p", years, "Y"), made("h", quarters, "Q")) == [("aggregates", 4)]


def test_missing_values_end_a_run_and_do_not_hide_it():
    p = h.astype(np.float32).copy()
    p[[200, 201, 500]] = np.nan
    (leak,) = find_leaks([made("p", p)], [made("h", h)])
    assert leak.relation == "shares steps with"
    assert 270 <= leak.steps <= 298  # the longest run between gaps, without the few steps that tell nothing


def test_variates_are_compared_one_by_one():
    p = made("p", np.stack([walk(300, 7), h[:300]]))
    (leak,) = find_leaks([p], [made("h", np.stack([walk(700, 8), walk(700, 9), h]))])
    assert (leak.pretraining, leak.heldout) == ("p[1]", "h[2]")
    assert str(leak).startswith("p[1] is part of h[2]: ")


def test_another_edition_of_the_same_numbers_is_found_by_date():
    months = np.abs(walk(480, 11)) * 10
    years = months.reshape(-1, 12).mean(axis=1) * 0.6 + np.random.default_rng(1).normal(size=40) * 0.3
    p, held = made("p", years, "Y", "1960-01-01"), made("h", months, "M", "1960-01-01")
    (leak,) = find_leaks([p], [held])
    assert (leak.relation, leak.steps) == ("follows", 39)
    assert find_leaks([made("p", years, "Y", "1950-01-01")], [held]) == []


def lookalikes(kind: str, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    t = np.arange(400)
    return {
        "seasonal": 10 * np.sin(2 * np.pi * t / 12) + rng.normal(size=400),
        "trend": t * (1 + 0.01 * rng.normal()) + 0.5 * rng.normal(size=400),
        "counts": rng.poisson(0.3, 400),
        "small integers": rng.integers(0, 6, 400),
        "zeros and spikes": (rng.random(400) < 0.05) * 7.0,
        "constant": np.full(400, 3.0),
        "exponential": np.exp(t / 50) * (1 + 1e-3 * rng.normal(size=400)),
    }[kind]


@pytest.mark.parametrize(
    "kind", ["seasonal", "trend", "counts", "small integers", "zeros and spikes", "constant", "exponential"]
)
def test_series_that_only_look_alike_are_no_leak(kind):
    pretraining = [made(f"p{i}", lookalikes(kind, i)) for i in range(60)]
    heldout = [made(f"h{i}", lookalikes(kind, 100 + i), start="2019-05-05") for i in range(60)]
    assert find_leaks(pretraining, heldout) == []


def test_short_series_of_small_counts_do_not_meet_by_chance():
    def counts(name, seed):
        rows = np.random.default_rng(seed).integers(0, 5, (1000, 12))
        return [made(f"{name}{i}", row, "Y") for i, row in enumerate(rows)]

    assert find_leaks(counts("p", 1), counts("h", 2), blocks=(1,)) == []


def test_a_short_common_burst_before_zeros_is_no_run():
    burst, zeros = walk(WINDOW, 20) - 100, np.zeros(80)
    p, held = (np.concatenate([walk(300, seed), burst, zeros]) for seed in (21, 22))
    assert find_leaks([made("p", p)], [made("h", held)]) == []


def test_rounding_hides_no_series_near_a_border_of_the_search():
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(300, WINDOW)) * 100
    near = rows * (1 + 1e-4 * rng.normal(size=rows.shape))
    leaks = find_leaks(
        [made(f"p{i}", row, "Y") for i, row in enumerate(near)], [made(f"h{i}", row, "Y") for i, row in enumerate(rows)]
    )
    rich = {leak.pretraining[1:] for leak in leaks}
    assert all(leak.pretraining[1:] == leak.heldout[1:] for leak in leaks)
    D = np.diff(rows, n=2, axis=1)
    D /= np.linalg.norm(D, axis=1, keepdims=True)
    sizes = np.sort(np.abs(D), axis=1)
    told = ((sizes > 0.03).sum(axis=1) >= 6) & ((np.diff(sizes, axis=1) > 6e-3).sum(axis=1) >= 5)
    assert told.sum() > 200
    assert {str(i) for i in np.flatnonzero(told)} <= rich


def test_the_windows_of_the_search_are_those_made_one_by_one():
    rows = [walk(60, 1), np.full(30, 2.0), walk(45, 2)]
    rows[2][10] = np.nan
    corpus = Corpus.of_rows(rows)
    for k in (1, 3):
        expected = {}
        for series, row in enumerate(rows):
            for t in range(len(row) - WINDOW * k + 1):
                S = np.array([row[t + j * k : t + (j + 1) * k].sum() for j in range(WINDOW)])
                D = S[:-2] - 2 * S[1:-1] + S[2:]
                norm = np.linalg.norm(D)
                if np.isfinite(norm) and norm > 0 and (np.abs(D) > 0.02 * norm).sum() >= 6:
                    expected[corpus.begins[series] + t] = D / norm
        windows = list(scan(corpus, corpus.differences(k), k))
        at = np.concatenate([window.at for window in windows])
        assert at.tolist() == sorted(expected)
        got = np.concatenate([window.fingerprints for window in windows])
        assert got.shape[1] == DIMENSIONS
        np.testing.assert_allclose(got, [expected[t] for t in at], atol=1e-4)  # float32 of running sums
