"""Tables of consecutive rows and the windows of the long-horizon benchmark over them."""

import json

import numpy as np
import pandas as pd
import pytest

from tsfm_lab.data import UTSD, CorruptFileError, MultivariateDatasetBenchmark, UnivariateDatasetBenchmark, load
from tsfm_lab.data.tables import join_columns, read_table, series_of, stack_rows
from tsfm_lab.data.tslib import Standardiser, split_borders

RNG = np.random.default_rng(0)


def test_pems_npz_gives_the_flow(tmp_path):
    values = RNG.normal(size=(30, 4, 3))
    np.savez(tmp_path / "PEMS08.npz", data=values)
    np.testing.assert_array_equal(read_table(tmp_path / "PEMS08.npz").values, values[:, :, 0])
    series = load(tmp_path / "PEMS08.npz", start="2016-07-01", freq="5min")[0]
    assert (series.target.shape, series.freq) == ((4, 30), "5min")


def test_solar_txt_has_neither_header_nor_stamps(tmp_path):
    (tmp_path / "solar_AL.txt").write_text("0,1.5\n2,3\n4,5\n")
    np.testing.assert_array_equal(read_table(tmp_path / "solar_AL.txt").values, [[0, 1.5], [2, 3], [4, 5]])
    with pytest.raises(ValueError, match="no stamps; pass start= and freq="):
        load(tmp_path / "solar_AL.txt")


def test_a_tslib_csv_has_stamps_and_columns(tmp_path):
    when = pd.date_range("2016-07-01", periods=8, freq="h")
    pd.DataFrame({"date": when, "HUFL": range(8), "OT": range(8, 16)}).to_csv(tmp_path / "x.csv", index=False)
    table = read_table(tmp_path / "x.csv")
    assert (table.names, table.values.shape) == (("HUFL", "OT"), (8, 2))
    series = series_of(table.select(["OT"]), name="x")[0]
    assert (series.freq, series.start, series.target[0, 0]) == ("h", np.datetime64("2016-07-01"), 8)


def test_irregular_stamps_of_a_table_are_kept_and_reported(tmp_path):
    when = pd.to_datetime(["2020-01-01", "2020-01-02", "2020-01-02", "2020-01-03", "2020-01-06"])
    pd.DataFrame({"date": when, "a": range(5)}).to_csv(tmp_path / "x.csv", index=False)
    collection = series_of(read_table(tmp_path / "x.csv"), name="x", freq="D")
    assert collection[0].length == 5
    assert collection.notes == ("1 repeated and 2 missing stamps kept: rows are taken as consecutive steps of D",)


def test_json_columns_take_their_names_from_beside_them(tmp_path):
    content = {"ids": {"A": 0, "B": 1}, "FX": [[1, 2], [3, 4], [5, 6]], "nodes": [{"id": 7, "y": [1, 2]}]}
    (tmp_path / "x.json").write_text(json.dumps(content))
    assert read_table(tmp_path / "x.json", key="FX", names="ids").names == ("A", "B")
    table = read_table(tmp_path / "x.json", key="nodes.y", names="id")
    assert (table.names, table.values.tolist()) == (("7",), [[1.0], [2.0]])


def test_tables_are_joined_side_by_side_and_stacked_in_time(tmp_path):
    for name, columns in {"a": {"0": [1, 2], "1": [3, 4]}, "b": {"0": [1, 2], "OT": [5, 6]}}.items():
        pd.DataFrame(columns).to_csv(tmp_path / f"{name}.csv", index=False)
    tables = [read_table(tmp_path / f"{name}.csv") for name in "ab"]
    joined = join_columns(tables).select(["0", "1", "OT"])
    np.testing.assert_array_equal(joined.values, [[1, 3, 5], [2, 4, 6]])
    np.testing.assert_array_equal(stack_rows(tables, ["0"]).values[:, 0], [1, 2, 1, 2])


def test_a_broken_table_is_named_and_text_shows_its_cell(tmp_path):
    (tmp_path / "x.npz").write_bytes(b"PK\x03\x04 no archive")
    (tmp_path / "x.json").write_text("{")
    for name in ("x.npz", "x.json"):
        with pytest.raises(CorruptFileError, match=name):
            read_table(tmp_path / name, key="data")
    (tmp_path / "x.csv").write_text("date,a\n2020-01-01,1\n2020-01-02,oops\n")
    with pytest.raises(ValueError, match="column 'a' must hold numbers, got 'oops' in row 1"):
        read_table(tmp_path / "x.csv")


@pytest.mark.parametrize(
    ("rows", "rule", "borders"),
    [
        (17420, "8640/2880/2880", [(0, 8640), (8640, 11520), (11520, 14400)]),
        (69680, "34560/11520/11520", [(0, 34560), (34560, 46080), (46080, 57600)]),
        (52696, "0.7/0.1/0.2", [(0, 36887), (36887, 42157), (42157, 52696)]),
        (966, "0.7/0.1/0.2", [(0, 676), (676, 773), (773, 966)]),
    ],
)
def test_splits_are_those_of_tslib(rows, rule, borders):
    assert list(split_borders(rows, rule).values()) == borders


def test_a_split_that_the_rows_do_not_hold_says_that_it_is_a_slice():
    with pytest.raises(ValueError, match="needs 14400 rows, got 1000; the data is a slice"):
        split_borders(1000, "8640/2880/2880")


def rows_of_ett(n: int = 400, c: int = 3) -> np.ndarray:
    return RNG.normal(size=(n, c)) * [1, 10, 100] + [5, 0, -7]


def reference(values: np.ndarray, part: str, seq_len: int, token: int, out: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Each window by hand: int(.7 n) training rows, test int(.2 n), scaled by the training rows."""
    n = len(values)
    train, test = int(n * 0.7), int(n * 0.2)
    scaled = (values - values[:train].mean(0)) / values[:train].std(0)
    rows = {"train": scaled[:train], "val": scaled[train - seq_len : n - test], "test": scaled[n - test - seq_len :]}[
        part
    ]
    windows = []
    for s in range(len(rows) - seq_len - out + 1):
        tokens = [rows[s + t + token : s + t + token + out] for t in range(0, seq_len, token)]
        windows.append((rows[s : s + seq_len], np.concatenate(tokens)))
    return windows


@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_multivariate_windows_equal_those_made_by_hand(part):
    values = rows_of_ett()
    data = MultivariateDatasetBenchmark(values, part, seq_len=12, input_token_len=4, output_token_len=6)
    expected = reference(values, part, 12, 4, 6)
    assert len(data) == len(expected)
    for i in (0, 1, len(data) // 2, -1):
        for got, want in zip(data[i], expected[i], strict=True):
            np.testing.assert_allclose(got, want, atol=1e-5)  # float32 of values of order 1


def test_univariate_windows_go_through_one_variate_after_the_other():
    values = rows_of_ett()
    sizes = {"seq_len": 12, "input_token_len": 4, "output_token_len": 4}
    together = MultivariateDatasetBenchmark(values, "test", **sizes)
    apart = UnivariateDatasetBenchmark(values, "test", **sizes)
    assert len(apart) == 3 * len(together)
    for variate, i in ((0, 0), (1, 5), (2, len(together) - 1)):
        x, y = apart[variate * len(together) + i]
        np.testing.assert_array_equal(x[:, 0], together[i][0][:, variate])
        np.testing.assert_array_equal(y[:, 0], together[i][1][:, variate])


def test_the_plain_form_gives_only_the_rows_after_the_input():
    sizes = {"seq_len": 10, "input_token_len": 10, "output_token_len": 5, "autoregressive": False}
    data = MultivariateDatasetBenchmark(rows_of_ett(), "train", **sizes)
    np.testing.assert_array_equal(data[3][1], data.rows[13:18])
    assert len(MultivariateDatasetBenchmark(rows_of_ett(), "train", fraction=0.5, **sizes)) == len(data) // 2


def test_wrong_window_sizes_are_refused():
    with pytest.raises(ValueError, match="multiple of input_token_len=5, got 12"):
        MultivariateDatasetBenchmark(rows_of_ett(), "train", seq_len=12, input_token_len=5, output_token_len=5)
    with pytest.raises(ValueError, match="the test part has 140 rows with its context, a window needs 180"):
        MultivariateDatasetBenchmark(rows_of_ett(), "test", seq_len=60, input_token_len=60, output_token_len=120)
    with pytest.raises(IndexError):
        MultivariateDatasetBenchmark(rows_of_ett(), "test", seq_len=8, input_token_len=8, output_token_len=8)[10_000]


def test_scaling_ignores_missing_values_leaves_constants_and_goes_back():
    values = np.array([[1.0, 5], [3, 5], [np.nan, 5]])
    scaler = Standardiser.fit(values)
    np.testing.assert_allclose(scaler.transform(values), [[-1, 0], [1, 0], [np.nan, 0]])
    np.testing.assert_allclose(scaler.inverse(scaler.transform(values)), values)


@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_a_utsd_folder_gives_the_windows_of_all_its_files(tmp_path, part):
    (tmp_path / "deep").mkdir()
    a, b = RNG.normal(size=(200, 2)), RNG.normal(size=(300, 1))
    np.save(tmp_path / "a.npy", a)
    pd.DataFrame(b, columns=["x"]).to_csv(tmp_path / "deep" / "b.csv", index=False)
    np.save(tmp_path / "short.npy", RNG.normal(size=(20, 1)))
    data = UTSD(tmp_path, part, seq_len=24, input_token_len=8, output_token_len=8, stride=2)
    expected = []
    for values in (a, b):
        n = len(values)
        train, test = int(n * 0.9), int(n * (1 - 0.9) / 2)
        scaled = (values - values[:train].mean(0)) / values[:train].std(0)
        borders = {"train": (0, train), "val": (train - 24, n - test), "test": (n - test - 24, n)}
        rows = scaled[slice(*borders[part])]
        for v in range(values.shape[1]):
            for s in range(0, len(rows) - 32 + 1, 2):
                expected.append((rows[s : s + 24, v], rows[s + 8 : s + 32, v]))
    assert len(data) == len(expected)
    for i in (0, len(expected) // 2, len(expected) - 1):
        np.testing.assert_allclose(data[i][0][:, 0], expected[i][0], atol=1e-5)
        np.testing.assert_allclose(data[i][1][:, 0], expected[i][1], atol=1e-5)
    assert data.notes == ["left out: short.npy has 18 training rows, fewer than a window"]
