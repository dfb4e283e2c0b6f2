"""Paths follow from the file's place or the environment, never from the working directory."""

import os
import subprocess
import sys
from pathlib import Path

import tsfm_lab

CODE = "from tsfm_lab import paths; print(paths.ROOT, paths.DATA, paths.CACHE, paths.RUNS, sep='\\n')"


def printed(cwd, **variables):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TSFM_")}
    process = subprocess.run(
        [sys.executable, "-c", CODE], cwd=cwd, env={**clean, **variables}, capture_output=True, text=True, check=True
    )
    return [Path(line) for line in process.stdout.split()]


def test_without_variables_everything_lies_in_the_checkout(tmp_path):
    root = Path(tsfm_lab.__file__).parent.parent
    assert printed(tmp_path) == [root, root / "data", root / "data" / "cache", root / "runs"]


def test_variables_move_them(tmp_path):
    data, runs = tmp_path / "d", tmp_path / "r"
    moved = printed("/", TSFM_DATA=str(data), TSFM_RUNS=str(runs))
    assert moved[1:] == [data, data / "cache", runs]
