"""Fixtures of the data tests: a cache of their own, and the mirror of real files where there is one."""

import os
from pathlib import Path

import pytest

from tsfm_lab import paths


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache and no mirror."""
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    monkeypatch.delenv("TSFM_DATA_MIRROR", raising=False)
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def mirror() -> Path:
    """The folder that TSFM_DATA_MIRROR names."""
    place = os.environ.get("TSFM_DATA_MIRROR", "")
    if not Path(place or "-", "raw").is_dir():
        pytest.skip("real files: set TSFM_DATA_MIRROR to a folder that holds raw/ and lotsa_mini/")
    return Path(place)


@pytest.fixture(scope="session")
def mirror_cache(mirror, tmp_path_factory) -> Path:
    """One cache for all tests on real files."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def real(mirror, mirror_cache, monkeypatch) -> Path:
    """The mirror, used through the session's cache."""
    monkeypatch.setattr(paths, "CACHE", mirror_cache)
    return mirror
