"""The registry: what it covers, what it says, and that nothing in it is made up or stands in for something else."""

import json
import re
import subprocess
import sys

import pytest

from tsfm_lab.data.frequency import parse_frequency
from tsfm_lab.data.registry import (
    TERMS,
    UNKNOWN,
    entries,
    find,
    gift_eval_configurations,
    in_domain,
    lotsa_groups,
    lotsa_stacked,
    lotsa_weights,
    overlaps,
    pools,
)

LSF = ["ETTh1", "ETTh2", "ETTm1", "ETTm2", "weather", "electricity", "traffic", "solar", "exchange_rate"]
LSF += ["national_illness", "PEMS03", "PEMS04", "PEMS07", "PEMS08"]


def test_it_covers_the_benchmarks_the_archives_and_the_built_in_series():
    known = entries()
    assert set(LSF) <= known.keys()
    assert sum(name.startswith("monash_") for name in known) >= 55
    assert {f"m4_{step}" for step in ("yearly", "quarterly", "monthly", "weekly", "daily", "hourly")} <= known.keys()
    assert {"co2", "elnino", "macrodata", "nile", "sunspots"} <= known.keys()
    assert sum(name.startswith("lotsa/") for name in known) == 170
    assert sum(name.startswith("gift_eval/") for name in known) == 55


def test_lotsa_has_its_170_sets_in_eleven_groups_and_both_mixtures():
    weighted, unweighted = lotsa_weights(True), lotsa_weights(False)
    assert len(weighted) == len(unweighted) == 170
    assert set(unweighted.values()) == {1.0}
    assert min(weighted.values()) == pytest.approx(0.014186655115280208)  # each cmip6 set
    assert max(weighted.values()) == pytest.approx(33835.5661423233)  # solar_power, one series of 7.4 M steps
    sizes = {name: len(sets) for name, sets in lotsa_groups().items()}
    assert sizes == {
        "buildings_900k": 1,
        "buildings_bench": 9,
        "cloudops_tsf": 3,
        "cmip6": 33,
        "era5": 30,
        "gluonts": 51,
        "largest": 5,
        "lib_city": 13,
        "others": 13,
        "proenfo": 10,
        "subseasonal": 2,
    }
    assert set(lotsa_stacked()) <= set(weighted)


def test_gift_eval_has_97_configurations_with_their_horizons():
    names = gift_eval_configurations()
    assert len(names) == len(set(names)) == 97
    assert [sum(name.endswith(f"/{term}") for name in names) for term in TERMS] == [55, 21, 21]
    assert find("gift_eval/electricity/15T").horizons == (48, 480, 720)
    assert find("gift_eval/electricity/15T/long").horizons == (720,)
    assert find("gift_eval/bizitobs_service/medium").horizons == (600,)
    assert find("gift_eval/m4_yearly/short").horizons == (6,)
    assert find("gift_eval/saugeenday/M").horizons == (12,)
    assert find("gift_eval/jena_weather/10T").variates == 21


def test_every_entry_is_complete():
    for name, entry in entries().items():
        assert entry.pool in pools(), name
        assert parse_frequency(entry.frequency) == entry.frequency, name
        assert entry.licence, name
        assert min(entry.season_length, entry.mase_season) >= 1, name
        assert entry.files or entry.hub or entry.loader == "statsmodels", name
        assert entry.horizons or entry.split == "none", name


def test_every_file_has_its_origin_at_a_commit_or_record_and_a_checksum_or_none():
    for file in {file for entry in entries().values() for file in entry.files}:
        assert re.match(r"https://.*(/[0-9a-f]{40}/|zenodo\.org/record/\d+/)", file.url), file.url
        assert file.sha256 == UNKNOWN or re.fullmatch(r"[0-9a-f]{64}", file.sha256), file.path
        assert not file.git_blob or re.fullmatch(r"[0-9a-f]{40}", file.git_blob), file.path
        assert file.checkable or "zenodo" in file.url, file.path


def test_a_slice_has_its_own_name_and_never_the_files_of_the_whole():
    slices = {name: entry for name, entry in entries().items() if entry.slice_of}
    assert set(slices) == {"electricity_7", "electricity_203x1000", "traffic_6", "solar_12"}
    for entry in slices.values():
        whole = find(entry.slice_of)
        assert not {file.path for file in entry.files} & {file.path for file in whole.files}
        assert entry.variates * entry.items < whole.variates


def test_it_says_of_the_mirrors_sets_what_their_manifest_says(mirror):
    manifest = json.loads((mirror / "MANIFEST.json").read_text())
    proposal = json.loads((mirror / "registry_proposal.json").read_text())
    for name, facts in manifest["datasets"].items():
        entry = find(name)
        assert entry.frequency == facts["frequency"]
        assert (entry.season_length, entry.mase_season) == (facts["season_length"], facts["mase_m"]), name
        assert (entry.items, entry.items * entry.variates) == (facts["n_items"], facts["n_series"]), name
        assert entry.steps == (facts["length_min"], facts["length_max"]), name
        assert (entry.missing or 0) == facts["missing"], name
        assert entry.pool == proposal[name]["pool"], name
    published = {file.sha256: file for entry in entries().values() for file in entry.files}
    for name, facts in manifest["raw"].items():
        if name not in ("ETT-small.zip", "nab_selected"):  # registered file by file
            file = published[facts["origin_sha256"]]
            assert (file.bytes, file.url) == (facts["origin_bytes"], facts["url"])


@pytest.mark.parametrize(
    ("wrong", "near"),
    [("ETH1", "ETTh1"), ("hospital", "monash_hospital"), ("electricty", "electricity"), ("Weather", "weather")],
)
def test_an_unknown_name_suggests_the_nearest(wrong, near):
    with pytest.raises(ValueError, match=f"unknown data set '{wrong}'; did you mean .*{near}"):
        find(wrong)


def test_a_hopeless_name_says_where_the_names_are():
    with pytest.raises(ValueError, match=r"see python -m tsfm_lab\.data list"):
        find("qqqqqqqqqqqq")


def test_overlaps_name_sets_that_exist():
    from fnmatch import fnmatchcase

    names = [*entries(), *gift_eval_configurations()]
    for overlap in overlaps():
        assert overlap.pretraining in entries()
        for pattern in overlap.touches:
            assert any(fnmatchcase(name, pattern) for name in names), (overlap.pretraining, pattern)


def test_rows_that_pretraining_touched_are_in_domain():
    lotsa = list(lotsa_weights())
    assert [overlap.how for overlap in in_domain("PEMS08", lotsa)] == ["equal"]
    assert [overlap.pretraining for overlap in in_domain("monash_hospital", lotsa)] == ["lotsa/hospital"]
    assert {overlap.how for overlap in in_domain("monash_tourism_monthly", lotsa)} == {"train part", "aggregate"}
    assert in_domain("gift_eval/LOOP_SEATTLE/5T/long", lotsa)
    assert in_domain("gift_eval/m4_hourly/short", lotsa)
    for heldout in ("ETTh1", "ETTm2", "weather", "electricity", "gift_eval/ett1/H/short", "gift_eval/jena_weather/D"):
        assert in_domain(heldout, lotsa) == [], heldout
    assert in_domain("ETTh1", ["ETTh1"])
    assert in_domain("monash_sunspot", ["sunspots"])


def test_importing_the_package_is_light():
    heavy = ["pandas", "pyarrow", "datasets", "gluonts", "statsmodels", "huggingface_hub", "lightning"]
    code = f"import sys, tsfm_lab.data; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
