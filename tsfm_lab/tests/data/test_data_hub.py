"""Hub sets: a local copy first, then the hub, and plain words where neither is."""

from pathlib import Path

import pytest

from tsfm_lab.data import DownloadError, Series, SeriesList, load, write_lotsa
from tsfm_lab.data.hub import fetch_folder
from tsfm_lab.data.registry import find

SOME = SeriesList([Series("a", "2020", "h", range(30))])


@pytest.fixture
def unset(cache, monkeypatch):
    """No variable names a folder, and the hub is out of reach."""
    for variable in ("LOTSA_V1_PATH", "GIFT_EVAL"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("huggingface_hub.snapshot_download", _unreachable)
    return cache


def _unreachable(*_, **__):
    raise ConnectionError("Name or service not known\nand more lines")


def test_a_local_copy_is_taken_from_the_fields_variable_the_cache_or_the_mirror(unset, monkeypatch, tmp_path):
    entry = find("lotsa/PEMS_BAY")
    expected = [write_lotsa(SOME, tmp_path / "mirror" / "lotsa" / "PEMS_BAY")]
    monkeypatch.setenv("TSFM_DATA_MIRROR", str(tmp_path / "mirror"))
    assert fetch_folder(entry) == expected[-1]
    expected.append(write_lotsa(SOME, unset / "lotsa" / "PEMS_BAY"))
    assert fetch_folder(entry) == expected[-1]
    expected.append(write_lotsa(SOME, tmp_path / "own" / "PEMS_BAY"))
    monkeypatch.setenv("LOTSA_V1_PATH", str(tmp_path / "own"))
    assert fetch_folder(entry) == expected[-1]
    assert load("lotsa/PEMS_BAY")[0].length == 30


def test_without_a_copy_or_a_network_the_message_names_the_folder_and_the_place(unset):
    with pytest.raises(DownloadError) as error:
        load("gift_eval/electricity/15T")
    said = str(error.value)
    assert "Name or service not known" in said
    assert "and more lines" not in said
    for words in (
        "electricity/15T",
        "Salesforce/GiftEval",
        str(unset / "gift_eval" / "electricity" / "15T"),
        "GIFT_EVAL",
    ):
        assert words in said


def test_the_hub_is_asked_for_the_one_folder_and_its_answer_is_kept(unset, monkeypatch):
    asked = []

    def snapshot(repository, repo_type, allow_patterns, local_dir):
        asked.append((repository, repo_type, allow_patterns))
        write_lotsa(SOME, Path(local_dir) / "hospital")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    assert len(load("lotsa/hospital")) == len(load("lotsa/hospital")) == 1
    assert asked == [("Salesforce/lotsa_data", "dataset", "hospital/*")]


def test_an_answer_without_files_is_an_error(unset, monkeypatch):
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: None)
    with pytest.raises(DownloadError, match="holds no arrow file under hospital"):
        load("lotsa/hospital")
