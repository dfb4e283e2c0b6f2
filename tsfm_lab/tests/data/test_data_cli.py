"""`python -m tsfm_lab.data` list, info, get, check."""

import pytest

from tsfm_lab.data.__main__ import main
from tsfm_lab.data.download import cached_path
from tsfm_lab.data.registry import find


def test_list_prints_every_set_or_those_of_a_pool(cache, capsys):
    assert main(["list"]) == 0
    assert "336 sets; GIFT-Eval has 97 configurations" in (said := capsys.readouterr()).err
    assert {"ETTh1", "lotsa/hospital", "gift_eval/ett1/H"} <= {line.split()[0] for line in said.out.splitlines()}
    assert main(["list", "--pool", "heldout_builtin"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["co2", "nile"]


def test_info_tells_origin_checksum_split_and_dirt(cache, capsys):
    assert main(["info", "weather"]) == 0
    said = capsys.readouterr().out
    for word in ("heldout_lsf", "0.7/0.1/0.2", "-9999", "sha256 c2459c2a", "raw.githubusercontent.com", "not fetched"):
        assert word in said
    assert main(["info", "PEMS08"]) == 0
    assert "git blob f5f3e84a" in capsys.readouterr().out
    assert main(["info", "monash_covid_deaths"]) == 0
    assert "checksum unknown: it cannot be verified" in capsys.readouterr().out
    assert main(["info", "lotsa/PEMS08"]) == 0
    assert "PEMS08 (equal)" in capsys.readouterr().out


def test_an_unknown_name_is_said_and_the_status_tells(cache, capsys):
    for command in ("info", "get", "check"):
        assert main([command, "ETH1"]) == 1
        assert "did you mean ETTh1" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["PEMS08", "monash_covid_deaths"])
def test_get_says_what_to_put_where_when_there_is_no_network(cache, capsys, monkeypatch, name):
    monkeypatch.setattr("urllib.request.urlopen", _no_network)
    assert main(["get", name]) == 1
    assert str(cached_path(find(name).files[0])) in capsys.readouterr().err


def _no_network(*_, **__):
    import urllib.error

    raise urllib.error.URLError("Name or service not known")


def test_get_says_when_it_cannot_verify(cache, capsys, tmp_path, monkeypatch):
    file = find("monash_covid_deaths").files[0]
    raw = tmp_path / "mirror" / "raw" / file.path
    raw.parent.mkdir(parents=True)
    raw.write_bytes(b"anything")
    monkeypatch.setenv("TSFM_DATA_MIRROR", str(tmp_path / "mirror"))
    assert main(["get", "monash_covid_deaths", "co2"]) == 0
    said = capsys.readouterr().out
    assert "1 unverified, no checksum is known" in said
    assert "co2: built in, nothing to fetch" in said


def test_check_finds_a_damaged_file_and_goes_on(cache, capsys):
    place = cached_path(find("ETTh1").files[0])
    place.parent.mkdir(parents=True)
    place.write_bytes(b"date,HUFL\n")
    assert main(["check", "ETTh1", "nile"]) == 1
    said = capsys.readouterr()
    assert "ETTh1.csv is not the published file: 10 bytes, expected 2589657" in said.err
    assert "nile: 1 series, 100 steps, ok" in said.out


def test_check_compares_the_contents_with_the_registry(cache, capsys, monkeypatch):
    from dataclasses import replace

    real = find("nile")
    monkeypatch.setattr("tsfm_lab.data.__main__.find", lambda name: replace(real, steps=(99, 99)))
    assert main(["check", "nile"]) == 1
    assert "steps (100, 100), expected (99, 99)" in capsys.readouterr().err
