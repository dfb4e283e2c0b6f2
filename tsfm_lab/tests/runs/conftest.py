"""A tiny notebook with presets, in a workbook of its own."""

import sys

import nbformat
import pytest

from tsfm_lab import paths
from tsfm_lab.training.presets import PRESETS

PRESETS_MODULE = """
from dataclasses import dataclass
from tsfm_lab.runs.config import unhashed

@dataclass(frozen=True)
class Config:
    scale: str
    outcome: str = "finish"
    max_steps: int = 3
    data: tuple[str, ...] = ("synthetic", "co2")
    note: str = unhashed("")

TINY = {"smoke": Config("smoke")}
"""

PARAMETERS = 'SCALE = "smoke"  # smoke\nOUTCOME = None  # finish | fail | wait | die'

BODY = """
import time
from tiny_presets import TINY
from tsfm_lab.runs import Preempted, open_run, preemption_requests, resolve_config

run = open_run("00_tiny", resolve_config(TINY, globals()))
run.start()
log = run.metrics(["loss", "steps_per_s"])
with preemption_requests() as asked:
    for step in range(run.config["max_steps"]):
        log.append(step, loss=1.0 / (step + 1), steps_per_s=2.0)
    while run.config["outcome"] == "wait":
        time.sleep(0.05)
        if asked():
            raise Preempted("asked to stop")
if run.config["outcome"] == "fail":
    raise RuntimeError("as asked")
run.finish()
"""


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """Make notebook 00_tiny with presets and an empty runs directory; returns the directory of all of them."""
    notebooks, runs = tmp_path / "notebooks", tmp_path / "runs"
    notebooks.mkdir()
    (tmp_path / "tiny_presets.py").write_text(PRESETS_MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tiny_presets", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("TSFM_RUNS", str(runs))
    monkeypatch.setattr(paths, "RUNS", runs)
    monkeypatch.setattr(paths, "NOTEBOOKS", notebooks)
    from tiny_presets import TINY

    monkeypatch.setitem(PRESETS, "00_tiny", TINY)
    cells = [nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}), nbformat.v4.new_code_cell(BODY)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), notebooks / "00_tiny.ipynb")
    (notebooks / "00_tiny.py").touch()
    return tmp_path
