"""The in-memory form of a series, and lazy collections."""

import pickle
from datetime import datetime, timezone

import numpy as np
import pytest

from tsfm_lab.data.series import Concatenation, Series, SeriesCollection, SeriesList


def some(n: int = 5, c: int = 1) -> list[Series]:
    return [Series(f"i{i}", "2020-01-01", "h", np.full((c, 10 + i), i, np.float64)) for i in range(n)]


def test_a_series_holds_float32_rows_a_canonical_frequency_and_a_stamp():
    series = Series(7, datetime(2020, 1, 1, 5), "5T", [1, 2, 3])
    assert (series.item_id, series.freq, series.target.dtype, series.target.shape) == ("7", "5min", np.float32, (1, 3))
    assert series.start == np.datetime64("2020-01-01T05:00:00")
    assert series.stamps(1)[-1] == np.datetime64("2020-01-01T05:15:00")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"freq": None}, "has no frequency"),
        ({"start": None}, "has no start"),
        ({"start": "yesterday"}, "unreadable start"),
        ({"start": datetime(2020, 1, 1, tzinfo=timezone.utc)}, "time zone"),  # noqa: UP017 (3.10 spelling of UTC)
        ({"target": ["a", "b"]}, "must be numbers"),
        ({"target": np.zeros((2, 2, 2))}, "axes"),
        ({"past_feat_dynamic_real": np.zeros(4)}, "target's 3 steps, got 4"),
        ({"feat_dynamic_real": np.zeros(2)}, "at least the target's 3 steps"),
    ],
)
def test_an_unusable_series_is_refused_by_name(change, message):
    fields = {"item_id": "x", "start": "2020-01-01", "freq": "h", "target": np.zeros(3)} | change
    with pytest.raises(ValueError, match=message) as error:
        Series(**fields)
    assert "'x'" in str(error.value)


def test_a_window_keeps_stamps_and_covariates_in_step():
    series = Series("x", "2020-01-31", "M", np.arange(10), np.arange(10) * 2, np.arange(12) * 3)
    window = series.window(2, 6, horizon=1)
    np.testing.assert_array_equal(window.stamps(), series.stamps()[2:6])
    np.testing.assert_array_equal(window.target[0], [2, 3, 4, 5])
    np.testing.assert_array_equal(window.past_feat_dynamic_real[0], [4, 6, 8, 10])
    np.testing.assert_array_equal(window.feat_dynamic_real[0], [6, 9, 12, 15, 18])


def test_reading_one_item_reads_no_other():
    class Counting(SeriesCollection):
        name, pool, read_items = "c", "user", []

        def __len__(self):
            return 1000

        def read(self, i):
            self.read_items.append(i)
            return Series(str(i), "2020", "D", np.zeros(3))

    collection = Counting()
    assert [collection[-1].item_id, collection[10:900:7][2].item_id] == ["999", "24"]
    assert collection.read_items == [999, 24]


def test_subsets_and_concatenations_index_their_sources():
    a, b = SeriesList(some(5), "a", "p"), SeriesList(some(3, c=2), "b", "q", notes=["n"])
    both = Concatenation([a, b], "both")
    chosen = both.select([7, 0, 5])
    assert [s.item_id for s in chosen] == ["i2", "i0", "i0"]
    assert chosen.lengths.tolist() == [12, 10, 10]
    assert chosen.num_variates.tolist() == [2, 1, 2]
    assert (both.pool, both.notes, len(pickle.loads(pickle.dumps(chosen)))) == ("p+q", ("n",), 3)
    with pytest.raises(IndexError, match="which has 8"):
        both[8]
