"""A user's own tables: long and wide frames, CSV files, and what is wrong with them."""

import gzip

import numpy as np
import pandas as pd
import pytest

from tsfm_lab.data import CorruptFileError, find_problems, from_frame, load, read_csv, screen
from tsfm_lab.data.dirt import clean
from tsfm_lab.data.regular import regularise
from tsfm_lab.data.series import Series, SeriesList


def long_frame(items: int = 3, n: int = 20, freq: str = "h") -> pd.DataFrame:
    when = pd.date_range("2020-01-01", periods=n, freq=freq)
    parts = [pd.DataFrame({"item_id": f"s{i}", "timestamp": when, "y": np.arange(n) + i}) for i in range(items)]
    return pd.concat(parts, ignore_index=True)


def test_a_long_frame_gives_one_series_an_item_in_any_order_of_rows():
    frame = long_frame().sample(frac=1, random_state=0)
    series = {s.item_id: s for s in from_frame(frame)}
    assert sorted(series) == ["s0", "s1", "s2"]
    np.testing.assert_array_equal(series["s2"].target, [np.arange(20) + 2])
    assert (series["s2"].freq, series["s2"].start) == ("h", np.datetime64("2020-01-01"))


def test_a_wide_frame_gives_a_series_a_column_or_one_of_many_variates():
    frame = pd.DataFrame(
        {"date": pd.date_range("2020", periods=9, freq="MS"), "a": np.arange(9.0), "b": np.arange(9.0) * 2}
    )
    apart, together = from_frame(frame), from_frame(frame, multivariate=True, name="both")
    assert [(s.item_id, s.target.shape, s.freq) for s in apart] == [("a", (1, 9), "M"), ("b", (1, 9), "M")]
    assert [(s.item_id, s.target.shape) for s in together] == [("both", (2, 9))]


def test_a_date_index_a_period_index_and_chosen_columns_are_understood():
    values = {"x": np.arange(10.0), "label": list("abcdefghij")}
    dated = pd.DataFrame(values, index=pd.date_range("2020", periods=10, freq="QE"))
    assert from_frame(dated, target="x")[0].freq == "Q-DEC"
    periods = pd.DataFrame(values, index=pd.period_range("2020", periods=10, freq="M"))
    assert from_frame(periods, target="x")[0].freq == "M"


def test_covariates_known_ahead_reach_beyond_the_target():
    frame = long_frame(items=1, n=10).assign(temp=np.arange(10.0), holiday=np.arange(10.0) % 2)
    frame.loc[7:, ["y", "temp"]] = np.nan
    series = from_frame(frame, target="y", past=["temp"], known=["holiday"])[0]
    shapes = (series.target.shape, series.past_feat_dynamic_real.shape, series.feat_dynamic_real.shape)
    assert shapes == ((1, 7), (1, 7), (1, 10))


def change(frame: pd.DataFrame, what: str) -> pd.DataFrame:
    frame = frame.copy()
    if what == "duplicate":
        return pd.concat([frame, frame.iloc[[25]]], ignore_index=True)
    if what == "gap":
        return frame.drop(index=[26, 27])
    if what == "irregular":
        frame.loc[20:39, "timestamp"] += pd.to_timedelta(np.random.default_rng(0).integers(0, 1800, 20), "s")
    if what == "no stamp":
        frame.loc[25, "timestamp"] = pd.NaT
    return frame


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("duplicate", r"'s1' has 1 duplicate stamps .*duplicates="),
        ("gap", r"'s1' has 2 missing steps of h .*gaps='nan'"),
        ("irregular", r"'s1': no regular frequency fits .*pass freq="),
        ("no stamp", r"'s1' has 1 rows without a stamp"),
    ],
)
def test_bad_stamps_name_the_series_and_the_remedy_or_are_skipped_and_counted(what, message):
    frame = change(long_frame(), what)
    with pytest.raises(ValueError, match=message):
        from_frame(frame)
    kept = from_frame(frame, bad="skip")
    assert [s.item_id for s in kept] == ["s0", "s2"]
    assert kept.notes[0] == "skipped 1 of 3 series"


def test_one_bad_series_never_stops_a_run_of_thousands():
    frame = long_frame(items=2000, n=5)
    frame = pd.concat([frame, frame.iloc[[3, 7]]], ignore_index=True)
    kept = from_frame(frame, bad="skip")
    assert len(kept) == 1998
    assert kept.notes[0] == "skipped 2 of 2000 series"
    assert kept.notes[1].startswith("  2 × series 's0' has 1 duplicate stamps")


def test_dirt_is_mended_on_request_and_reported():
    frame = change(change(long_frame(), "gap"), "duplicate").reset_index(drop=True)
    frame.loc[len(frame) - 1, "y"] = 100
    mended = from_frame(frame, duplicates="mean", gaps="nan")
    target = mended[1].target[0]
    assert target[5] == pytest.approx((6 + 100) / 2)
    assert np.flatnonzero(np.isnan(target)).tolist() == [6, 7]
    assert mended.notes == ("1 duplicate stamps merged (mean) (s1)", "2 missing steps of h filled with NaN (s1)")


def test_stamps_off_the_grid_are_moved_down_and_averaged_on_request():
    when = np.datetime64("2020-01-01", "s") + np.array([7, 305, 400, 903]) * np.timedelta64(1, "s")
    values = np.array([[1.0], [2.0], [4.0], [8.0]])
    with pytest.raises(ValueError, match="off its grid of 5min"):
        regularise(when, values, freq="5min")
    regular = regularise(when, values, freq="5min", off_grid="floor", gaps="nan")
    np.testing.assert_array_equal(regular.values, [[1, 3, np.nan, 8]])
    assert list(regular.mended.values()) == [4, 1, 1]


def test_one_wild_stamp_is_refused_rather_than_filled():
    when = np.concatenate([np.datetime64("2020-01-01", "s") + np.arange(50), np.array(["1970-01-01"], "datetime64[s]")])
    with pytest.raises(ValueError, match="too many to fill"):
        regularise(when, np.zeros((51, 1)), freq="s", gaps="nan")


def test_time_zones_need_a_word_and_are_then_converted():
    frame = long_frame().assign(timestamp=lambda f: f.timestamp.dt.tz_localize("Europe/Berlin"))
    with pytest.raises(ValueError, match="time zone Europe/Berlin; pass tz='UTC'"):
        from_frame(frame)
    assert from_frame(frame, tz="UTC")[0].start == np.datetime64("2019-12-31T23:00")


def test_text_among_numbers_shows_the_cell():
    frame = long_frame().astype({"y": object})
    frame.loc[5, "y"] = "n/a!"
    with pytest.raises(ValueError, match=r"column 'y' must hold numbers, but 1 of its 60 cells .*'n/a!' in row 5"):
        from_frame(frame)


def test_each_item_keeps_its_own_frequency_and_a_wrong_one_is_refused():
    both = pd.concat([long_frame(1), long_frame(2, freq="D").query("item_id == 's1'")], ignore_index=True)
    assert [s.freq for s in from_frame(both)] == ["h", "D"]
    with pytest.raises(ValueError, match=r"'s0' has \d+ stamps off its grid of D"):
        from_frame(both, freq="D")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"time": "when"}, "no column 'when'"),
        ({"target": "z"}, "no column 'z'"),
        ({"bad": "ignore"}, "bad must be one of"),
        ({"gaps": "zero"}, "gaps must be one of"),
    ],
)
def test_a_wrong_option_lists_what_there_is(options, message):
    with pytest.raises(ValueError, match=message):
        from_frame(long_frame(), **options)


def test_a_csv_is_read_plain_or_gzipped_and_a_broken_one_is_named(tmp_path):
    text = long_frame().to_csv(index=False)
    (tmp_path / "a.csv").write_text(text)
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(text.encode()))
    assert len(load(tmp_path / "a.csv")) == len(read_csv(tmp_path / "b.csv.gz")) == 3
    (tmp_path / "c.csv.gz").write_bytes(gzip.compress(text.encode())[:100])
    (tmp_path / "d.csv").write_text("")
    (tmp_path / "e.csv").write_text('a,b\n1,2\n3,4,5,"6\n')
    for name in ("c.csv.gz", "d.csv", "e.csv"):
        with pytest.raises(CorruptFileError, match=name):
            load(tmp_path / name)


def test_problems_of_a_series_are_said_in_words():
    def of(*values):
        return find_problems(Series("x", "2020", "D", np.array(values, np.float32)), min_length=3)

    assert of(1, 2, 3) == []
    assert of() == ["too short: 0 steps, at least 3 are needed"]
    assert of(1, 2) == ["too short: 2 steps, at least 3 are needed"]
    assert of(np.nan, np.nan, np.nan) == ["no observed value in 3 steps"]
    assert of(5, 5, np.nan) == ["constant"]
    assert of(1, np.inf, 2)[0].startswith("1 infinite values")


def test_screening_keeps_the_usable_series_and_counts_the_rest():
    class Broken(SeriesList):
        def read(self, i):
            if i == 2:
                raise ValueError("series 'i2' has no frequency; pass freq=")
            return super().read(i)

    rows = [np.arange(9.0), np.full(9, np.nan), np.arange(9.0), np.ones(9), np.arange(9.0)]
    collection = Broken([Series(f"i{i}", "2020", "D", row) for i, row in enumerate(rows)])
    kept = screen(collection)
    assert [s.item_id for s in kept] == ["i0", "i4"]
    assert kept.notes[0] == "skipped 3 of 5 series"
    assert len(kept.notes) == 4


def test_cleaning_makes_sentinels_and_infinities_missing_and_counts_them():
    series = Series("x", "2020", "D", [1, -9999, np.inf, 4, -9999])
    cleaned, counts = clean(series, sentinels=[-9999], infinite=True)
    np.testing.assert_array_equal(cleaned.target, [[1, np.nan, np.nan, 4, np.nan]])
    assert counts == {"-9999": 2, "infinite": 1}
    assert series.target[0, 1] == -9999
