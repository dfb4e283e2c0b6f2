"""Mixtures: how often a source and a series come, and how aligned series are stacked."""

from collections import Counter

import numpy as np
import pytest
from scipy.stats import betabinom, chisquare

from tsfm_lab.data import Series, SeriesCollection, SeriesList
from tsfm_lab.data.mixture import Mixture, Source
from tsfm_lab.data.transforms import UnusableSeries


def collection(lengths, name="toy", **fields) -> SeriesList:
    return SeriesList(
        [Series(f"{name}-{i}", "2020-01-01", "h", np.full(t, float(i)), **fields) for i, t in enumerate(lengths)], name
    )


def share_is(count, n, p) -> bool:
    """Within five standard deviations of a binomial share: wrong once in a million."""
    return abs(count / n - p) < 5 * np.sqrt(p * (1 - p) / n)


def drawn_items(source, n=3000):
    rng = np.random.default_rng(0)
    return Counter(source.draw(rng)["item_id"] for _ in range(n))


def test_series_come_in_proportion_to_their_length():
    counts = drawn_items(Source(collection([10, 30, 60])))
    assert all(share_is(counts[f"toy-{i}"], 3000, p) for i, p in enumerate((0.1, 0.3, 0.6)))


def test_series_come_uniformly_on_request():
    counts = drawn_items(Source(collection([10, 30, 60]), sampling="uniform"))
    assert all(share_is(counts[f"toy-{i}"], 3000, 1 / 3) for i in range(3))


def test_a_series_without_steps_never_comes_by_length():
    assert set(drawn_items(Source(collection([0, 5, 0, 5, 0])), 200)) == {"toy-1", "toy-3"}


def test_sources_come_in_proportion_to_their_rounded_up_weight():
    a, b = Source(collection([10] * 10, "a"), weight=0.25), Source(collection([1000] * 3, "b"), weight=2)
    assert (a.size, b.size) == (3, 6)  # ceil(2.5), 6
    mixture, rng = Mixture([a, b]), np.random.default_rng(0)
    assert len(mixture) == 9
    names = Counter(mixture.draw(rng).collection.name for _ in range(3000))
    assert share_is(names["a"], 3000, 1 / 3)


def test_a_plain_collection_is_a_source_of_weight_one():
    assert Mixture([collection([4, 4])]).sources[0].weight == 1


# stacking


def test_stacked_series_are_distinct_and_start_with_the_drawn_one():
    source = Source(collection([20] * 12), stack=128)
    rng = np.random.default_rng(0)
    firsts = Counter()
    for _ in range(2000):
        values = [row[0] for row in source.draw(rng)["target"]]
        assert len(set(values)) == len(values)
        firsts[values[0]] += 1
    assert all(share_is(firsts[i], 2000, 1 / 12) for i in range(12))


@pytest.mark.parametrize(("size", "stack", "most"), [(12, 128, 12), (200, 128, 128), (12, 4, 4)])
def test_the_number_of_stacked_series_is_beta_binomial(size, stack, most):
    source, rng, n = Source(collection([20] * size), stack=stack), np.random.default_rng(1), 3000
    counts = np.bincount([len(source.draw(rng)["target"]) for _ in range(n)], minlength=most + 1)
    assert counts[0] == 0
    assert len(counts) == most + 1
    expected = n * betabinom(most - 1, 2, 5).pmf(np.arange(most))
    common = expected > 5  # the chi-square approximation needs some counts in each cell
    observed = np.append(counts[1:][common], counts[1:][~common].sum() + 1e-9)
    expected = np.append(expected[common], expected[~common].sum() + 1e-9)
    assert chisquare(observed, expected * observed.sum() / expected.sum()).pvalue > 1e-4


def test_stacking_joins_the_past_covariates():
    source = Source(
        collection([20] * 3, past_feat_dynamic_real=np.ones((2, 20))), stack=3, stack_alpha=1e6, stack_beta=1e-6
    )
    sample = source.draw(np.random.default_rng(0))
    assert len(sample["target"]) == 3
    assert len(sample["past_feat_dynamic_real"]) == 6


def test_series_of_unequal_length_cannot_be_stacked():
    with pytest.raises(ValueError, match="must be aligned to be stacked, but have 10 to 30 steps"):
        Source(collection([10, 30]), stack=2)


def test_series_of_unequal_start_are_unusable_together():
    series = [Series(str(day), f"2020-01-0{day}", "h", np.ones(20)) for day in (1, 2)]
    source = Source(SeriesList(series), stack=2, stack_alpha=1e6, stack_beta=1e-6)
    with pytest.raises(UnusableSeries, match="not aligned"):
        source.draw(np.random.default_rng(0))


# bad input


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weight": 0}, "weight of 'toy' must be positive, got 0"),
        ({"weight": float("nan")}, "weight of 'toy' must be positive"),
        ({"sampling": "random"}, "must be one of proportional, uniform, got 'random'"),
        ({"stack": 0}, "stack of 'toy' must be at least 1 series"),
    ],
)
def test_impossible_sources_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Source(collection([10, 10]), **settings)


def test_empty_collections_and_mixtures_are_refused():
    with pytest.raises(ValueError, match="'toy' has no series"):
        Source(collection([]))
    with pytest.raises(ValueError, match="at least one source"):
        Mixture([])


def test_a_collection_of_empty_series_is_unusable_and_stops_nothing_else():
    with pytest.raises(UnusableSeries, match="no series of the collection has a step"):
        Source(collection([0, 0])).draw(np.random.default_rng(0))


class Broken(SeriesCollection):
    name, pool = "broken", "user"

    def __len__(self):
        return 3

    def read(self, i):
        raise OSError("disk on fire")

    lengths = np.array([5, 5, 5])


def test_a_series_that_cannot_be_read_is_unusable_and_says_which():
    with pytest.raises(UnusableSeries, match=r"unreadable \(OSError\): series \d: disk on fire") as error:
        Source(Broken()).draw(np.random.default_rng(0))
    assert error.value.reason == "unreadable (OSError)"
