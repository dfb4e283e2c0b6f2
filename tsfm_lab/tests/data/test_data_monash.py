"""The Monash archive's .tsf files, M4's CSVs and the series of statsmodels."""

import zipfile

import numpy as np
import pytest

from tsfm_lab.data import CorruptFileError, load
from tsfm_lab.data.monash import read_m4, read_tsf
from tsfm_lab.data.statsmodels_series import READERS, load_statsmodels

TSF = """# a comment
@relation Test
@attribute series_name string
@attribute state string
@attribute start_timestamp date
@frequency half_hourly
@horizon 4
@missing true
@equallength false
@data
T1:NSW:2002-01-01 00-30-00:1,2.5,?,4
T2:VIC:2003-06-01 00-00-00:5,6
"""


def test_a_tsf_file_gives_names_stamps_and_missing_values(tmp_path):
    (tmp_path / "demand_dataset.tsf").write_text(TSF)
    with zipfile.ZipFile(tmp_path / "demand.zip", "w") as archive:
        archive.writestr("demand_dataset.tsf", TSF)
    for name in ("demand_dataset.tsf", "demand.zip"):
        first, second = load(tmp_path / name)
        assert (first.item_id, first.start, first.freq) == ("T1:NSW", np.datetime64("2002-01-01T00:30"), "30min")
        np.testing.assert_array_equal(first.target, [[1, 2.5, np.nan, 4]])
        np.testing.assert_array_equal(second.target, [[5, 6]])


def test_series_without_names_dates_or_frequency_are_numbered_and_start_in_1970(tmp_path):
    (tmp_path / "other.tsf").write_text("@attribute series_name string\n@data\nT1:1,2\nT2:3\n")
    with pytest.raises(ValueError, match=r"has the frequency None, expected one of .*pass freq="):
        read_tsf(tmp_path / "other.tsf")
    series = read_tsf(tmp_path / "other.tsf", freq="Q")[0]
    assert (series.item_id, series.start, series.freq) == ("T1", np.datetime64("1970-01-01"), "Q-DEC")


def test_a_bad_line_is_skipped_and_counted_or_raised(tmp_path):
    (tmp_path / "x.tsf").write_text(TSF + "T3:NSW:2002-01-01 00-00-00:1,two,3\nT4:9\n")
    collection = read_tsf(tmp_path / "x.tsf")
    assert len(collection) == 2
    assert collection.notes[0] == "skipped 2 of 4 series"
    with pytest.raises(ValueError, match="line 13: could not convert"):
        read_tsf(tmp_path / "x.tsf", bad="raise")


@pytest.mark.parametrize("text", [TSF[:40], TSF[: TSF.index("T1:")], ""])
def test_a_tsf_file_cut_short_is_named_as_corrupt(tmp_path, text):
    (tmp_path / "x.tsf").write_text(text)
    with pytest.raises(CorruptFileError, match=r"x\.tsf"):
        read_tsf(tmp_path / "x.tsf", freq="h")


def test_m4_rows_are_training_values_followed_by_test_values(tmp_path):
    (tmp_path / "train.csv").write_text('"V1","V2","V3","V4"\n"D1","1","2",""\n"D2","3","4","5"\n')
    (tmp_path / "test.csv").write_text('"V1","V2"\n"D1","9"\n"D2","8"\n')
    series = read_m4(tmp_path / "train.csv", tmp_path / "test.csv", freq="D", name="m4")
    assert [s.target[0].tolist() for s in series] == [[1, 2, 9], [3, 4, 5, 8]]
    (tmp_path / "test.csv").write_text('"V1","V2"\n"D1","9"\n')
    with pytest.raises(ValueError, match=r"must hold the same series, but 1 are in one only, e\.g\. \['D2'\]"):
        read_m4(tmp_path / "train.csv", tmp_path / "test.csv", freq="D", name="m4")
    (tmp_path / "train.csv").write_text('"V1","V2"\n"D1","x"\n')
    with pytest.raises(CorruptFileError, match=r"train\.csv, line 2 \(D1\)"):
        read_m4(tmp_path / "train.csv", None, freq="D", name="m4")


def test_the_built_in_series_are_those_of_statsmodels():
    import statsmodels.datasets as datasets

    assert load_statsmodels("co2")[0].target.shape == (1, 2284)
    nile = load_statsmodels("nile")[0]
    np.testing.assert_array_equal(nile.target[0], datasets.nile.load_pandas().data["volume"])
    elnino, frame = load_statsmodels("elnino")[0], datasets.elnino.load_pandas().data
    assert elnino.target[0, 12 + 6] == np.float32(frame.loc[1, "JUL"])
    assert elnino.stamps()[12 + 6] == np.datetime64(f"{int(frame.loc[1, 'YEAR'])}-07-01")
    macro, frame = load_statsmodels("macrodata")[0], datasets.macrodata.load_pandas().data
    np.testing.assert_allclose(macro.target[8], frame["unemp"], rtol=1e-6)  # float32
    assert (load_statsmodels("sunspots")[0].freq, macro.freq) == ("Y-DEC", "Q-DEC")


def test_an_unknown_built_in_series_lists_the_known_ones():
    with pytest.raises(ValueError, match=", ".join(READERS)):
        load_statsmodels("moonspots")
