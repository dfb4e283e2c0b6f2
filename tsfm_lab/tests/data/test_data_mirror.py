"""Real files: every loader against the mirror's own reading, the benchmark's windows, and pools free of leaks."""

from dataclasses import replace

import numpy as np
import pytest

from tsfm_lab.data import (
    MultivariateDatasetBenchmark,
    UnivariateDatasetBenchmark,
    find_leaks,
    load,
    load_pool,
    write_lotsa,
)
from tsfm_lab.data.__main__ import main
from tsfm_lab.data.parquet import ParquetCollection
from tsfm_lab.data.registry import entries, find, pools


def sets_of(mirror) -> list[str]:
    return [name for name in entries() if (mirror / "lotsa_mini" / f"{name}.parquet").is_file()]


def test_every_set_read_from_its_origins_file_equals_the_mirrors_reading(real):
    names = sets_of(real)
    assert len(names) == 55
    for name in names:
        ours, theirs = load(name, progress=False), ParquetCollection(real / "lotsa_mini" / f"{name}.parquet")
        assert len(ours) == len(theirs), name
        for got, want in zip(ours, theirs, strict=True):
            assert (got.start, got.freq) == (want.start, want.freq), name
            np.testing.assert_array_equal(got.target, want.target, err_msg=name)


def test_check_finds_every_set_of_the_mirror_sound(real, capsys):
    assert main(["check", *sets_of(real)]) == 0
    assert "weather: 1 series, 52696 steps, ok" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "seq_len", "expected"),
    [("ETTh1", 672, (7873, 2785, 2785)), ("ETTm2", 672, (33793, 11425, 11425)), ("weather", 96, (36696, 5175, 10444))],
)
def test_window_counts_are_the_published_ones(real, name, seq_len, expected):
    sizes = {"seq_len": seq_len, "input_token_len": 96, "output_token_len": 96}
    c = find(name).variates
    for part, n in zip(("train", "val", "test"), expected, strict=True):
        assert len(MultivariateDatasetBenchmark(name, part, **sizes)) == n
        assert len(UnivariateDatasetBenchmark(name, part, **sizes)) == n * c


# means of the standardised rows of each part, computed from the CSV with pandas alone: they pin borders and scaling
ETTH1_MEANS = {
    "train": [0, 0, 0, 0, 0, 0, 0],
    "val": [-0.2503, -0.2371, -0.2983, -0.1955, 0.5834, -0.1875, -0.1689],
    "test": [0.0315, 0.4546, -0.0568, 0.3689, 0.4948, 0.2870, -1.3380],
}


@pytest.mark.parametrize(("part", "means"), ETTH1_MEANS.items())
def test_standardised_rows_of_etth1_have_their_known_means(real, part, means):
    data = MultivariateDatasetBenchmark("ETTh1", part, seq_len=96, input_token_len=96, output_token_len=96)
    rows = data.rows[0 if part == "train" else 96 :].astype(np.float64)
    assert len(rows) == (8640 if part == "train" else 2880)
    np.testing.assert_allclose(rows.mean(axis=0), means, atol=6e-5)  # means are given to four digits


def test_weathers_dirt_is_kept_and_named_or_mended_and_counted(real):
    kept, mended = load("weather"), load("weather", repair=True)
    assert (kept[0].target == -9999).sum() == 81
    assert kept.notes[0].startswith("known dirt: -9999 stands for missing")
    assert mended.notes == (
        "1 duplicate stamps merged (first) (weather)",
        "9 missing steps of 10min filled with NaN (weather)",
        "81 values -9999 made missing (weather)",
    )
    assert np.isnan(mended[0].target).sum() == 81 + 9 * 21
    assert mended[0].length == 52696 - 1 + 9


def test_a_real_set_goes_through_the_lotsa_layout(real, tmp_path):
    folder = write_lotsa(load("monash_hospital", progress=False), tmp_path / "hospital")
    for got, want in zip(load(folder), load("monash_hospital"), strict=True):
        np.testing.assert_array_equal(got.target, want.target)


def named(collections) -> list:
    return [
        replace(series, item_id=f"{collection.name}:{series.item_id}")
        for collection in collections
        for series in collection
    ]


@pytest.fixture(scope="module")
def heldout(mirror, mirror_cache):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tsfm_lab.paths.CACHE", mirror_cache)
        here = [name for name in sets_of(mirror) if pools()[find(name).pool] in ("heldout", "demo")]
        return named(load(name, progress=False) for name in [*here, "co2", "nile"])


def test_no_pretraining_series_shares_values_with_a_held_out_one(real, heldout):
    pretraining = named(
        collection
        for pool, role in pools().items()
        if role == "pretrain" and pool != "lotsa"
        for collection in load_pool(pool, progress=False)
    )
    assert len(pretraining) > 2000
    assert [str(leak) for leak in find_leaks(pretraining, heldout)] == []


def test_what_the_pools_leave_out_and_the_in_domain_sets_do_share_values(real, heldout):
    names = ["sunspots", "macrodata", "electricity_203x1000"]
    names += [f"monash_{name}" for name in ("m1_quarterly", "m3_quarterly", "m3_yearly", "tourism_yearly")]
    leaks = find_leaks(named(load(name, progress=False) for name in names), heldout, blocks=(1, 3, 4, 12))
    sharing = {leak.pretraining for leak in leaks}
    for name in ("macrodata", "monash_m1_quarterly", "monash_m3_quarterly"):
        assert {f"{name}:{item}" for item in find(name).shared} == {p for p in sharing if p.startswith(name)}
    pairs = {(leak.pretraining.split(":")[0], leak.heldout.split(":")[0], leak.relation, leak.k) for leak in leaks}
    assert pairs >= {
        ("monash_tourism_yearly", "monash_tourism_quarterly", "aggregates", 4),
        ("monash_tourism_yearly", "monash_tourism_monthly", "aggregates", 12),
        ("monash_m3_yearly", "monash_m3_monthly", "aggregates", 12),
        ("electricity_203x1000", "electricity_7", "is part of", 1),
        ("sunspots", "monash_sunspot", "follows", 1),
    }
