"""Frequencies: old and new names, offsets and deltas mean the same; seasons and stamps are the field's."""

from datetime import timedelta

import numpy as np
import pandas as pd
import pytest

from tsfm_lab.data.frequency import (
    infer_frequency,
    mase_season,
    parse_frequency,
    season_length,
    stamps,
    step_index,
)

SAME = {
    "h": ["H", "h", "60min", "60T", "1H", "3600s", pd.offsets.Hour(), pd.Timedelta("1h"), timedelta(hours=1)],
    "15min": ["15T", "15min", "900S", pd.offsets.Minute(15), np.timedelta64(15, "m")],
    "D": ["D", "d", "24h", "1D", pd.offsets.Day(), timedelta(days=1)],
    "B": ["B", pd.offsets.BDay()],
    "W-SUN": ["W", "W-SUN", pd.offsets.Week(weekday=6)],
    "W-TUE": ["W-TUE", "w-tue"],
    "M": ["M", "ME", "MS", "BM", "BMS", pd.offsets.MonthEnd(), pd.offsets.MonthBegin()],
    "Q-DEC": ["Q", "QE", "QS", "Q-DEC", "QE-DEC", "QS-JAN", "QS-OCT", "Q-MAR", pd.offsets.QuarterEnd(startingMonth=12)],
    "Q-OCT": ["QS-FEB", "QE-JAN", "Q-OCT"],
    "Y-DEC": ["A", "Y", "YE", "YS", "AS", "A-DEC", "YE-DEC", "AS-JAN", pd.offsets.YearEnd(), pd.offsets.YearBegin()],
    "Y-MAR": ["A-MAR", "YE-MAR", "YS-APR", "AS-APR"],
    "90min": ["1h30min", "90T", "5400s"],
    "10s": ["10S", "10s"],
}


@pytest.mark.parametrize(("canonical", "names"), SAME.items())
def test_old_and_new_aliases_offsets_and_deltas_have_one_name(canonical, names):
    assert {parse_frequency(name) for name in names} == {canonical}
    assert parse_frequency(canonical) == canonical


def test_indices_and_period_dtypes_are_read_for_their_frequency():
    assert parse_frequency(pd.date_range("2020", periods=5, freq="MS")) == "M"
    assert parse_frequency(pd.period_range("2020", periods=5, freq="Q").dtype) == "Q-DEC"


@pytest.mark.parametrize("freq", ["fortnight", "5X", "m", "W-FOO", "Q-SUN", "0h", "1D-MON", "1M2D", "", "100ms", 3])
def test_what_is_no_frequency_is_refused_with_the_series_named(freq):
    with pytest.raises(ValueError, match="series 'a'"):
        parse_frequency(freq, "a")


def test_none_names_the_series_and_the_remedy():
    with pytest.raises(ValueError, match="series 'sales' has no frequency; pass freq="):
        parse_frequency(None, "sales")


OF_GLUONTS = [
    "s",
    "10s",
    "4s",
    "min",
    "5min",
    "10min",
    "15min",
    "30min",
    "45min",
    "h",
    "2h",
    "6h",
    "7h",
    "D",
    "2D",
    "B",
]
OF_GLUONTS += ["W", "W-TUE", "2W", "ME", "3ME", "QE", "2QE", "YE"]


@pytest.mark.parametrize("freq", OF_GLUONTS)
def test_mase_season_is_that_of_gluonts(freq):
    from gluonts.time_feature import get_seasonality

    assert mase_season(freq) == get_seasonality(freq)


SEASONS = {"D": 7, "W": 52, "M": 12, "Q": 4, "Y": 1, "B": 5, "7D": 52, "h": 24, "7h": 24, "2h": 12}
SEASONS |= {"15min": 96, "10min": 144, "5min": 288, "30min": 48, "11min": 1}


@pytest.mark.parametrize(("freq", "season"), SEASONS.items())
def test_season_of_the_seasonal_naive_forecast(freq, season):
    assert season_length(freq) == season


OF_PANDAS = ["s", "5min", "15min", "h", "2h", "D", "2D", "B", "W-TUE", "W-SUN", "2W-SUN", "MS", "ME", "2MS"]
OF_PANDAS += ["QS", "QE", "QS-FEB", "QE-NOV", "YS", "YE", "YE-MAR", "YS-APR"]


@pytest.mark.parametrize("freq", OF_PANDAS)
def test_stamps_are_those_of_pandas_and_tell_their_frequency(freq):
    expected = pd.date_range("2020-01-05", periods=80, freq=freq).values.astype("datetime64[s]")
    canonical = parse_frequency(freq)
    np.testing.assert_array_equal(stamps(expected[0], canonical, 80), expected)
    np.testing.assert_array_equal(step_index(expected, expected[0], canonical), np.arange(80))
    assert infer_frequency(expected) == canonical


def test_a_month_end_series_stays_at_the_ends_of_months():
    assert [str(s)[:10] for s in stamps(np.datetime64("2020-01-31"), "M", 4)] == [
        "2020-01-31",
        "2020-02-29",
        "2020-03-31",
        "2020-04-30",
    ]


def test_a_frequency_is_inferred_through_gaps_and_repeats_but_not_from_irregular_stamps():
    hours = np.datetime64("2020-01-01", "s") + np.arange(50) * np.timedelta64(3600, "s")
    assert infer_frequency(np.delete(hours, [7, 20, 21])) == "h"
    assert infer_frequency(np.repeat(hours, 2)) == "h"
    irregular = hours + np.random.default_rng(0).integers(0, 1800, 50).astype("timedelta64[s]")
    assert infer_frequency(irregular) is None
    assert infer_frequency(hours[:2]) is None
