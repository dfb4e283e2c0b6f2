"""Every notebook turns its parameters into a configuration at once, and refuses one that it does not have."""

import os
import subprocess
import sys

import jupytext
import nbformat
import pytest
import yaml

from tsfm_lab import paths
from tsfm_lab.runs import resolve_config
from tsfm_lab.training.presets import PRESETS

papermill = pytest.importorskip("papermill", reason="notebooks with other parameters need the `lab` extra")
SCRIPTS = sorted(paths.NOTEBOOKS.glob("[0-9]*.py"))


def opening(script):
    """The notebook up to the cell that calls resolve_config."""
    notebook = jupytext.read(script)
    last = next(number for number, cell in enumerate(notebook.cells) if "resolve_config(" in cell.source)
    notebook.cells = notebook.cells[: last + 1]
    return notebook


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_parameters_are_fields_of_the_preset(script):
    parameters = next(cell for cell in jupytext.read(script).cells if "parameters" in cell.metadata.get("tags", []))
    namespace = {}
    exec(parameters.source, namespace)
    assert namespace["SCALE"] == "smoke"
    for scale in PRESETS[script.stem]:
        config = resolve_config(PRESETS[script.stem], {**namespace, "SCALE": scale})
        assert config == PRESETS[script.stem][scale], "the parameters cell must leave every value to the preset"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_the_opening_of_a_notebook_resolves_its_own_preset(script):
    assert f'resolve_config(PRESETS["{script.stem}"], globals())' in opening(script).cells[-1].source


@pytest.mark.parametrize("file", sorted((paths.ROOT / "runs" / "params").glob("*.yaml")), ids=lambda file: file.name)
def test_a_parameter_file_fits_its_notebook(file):
    notebook, *_, scale, _ = file.name.split(".")
    assert resolve_config(PRESETS[notebook], yaml.safe_load(file.read_text())).scale == scale


def test_papermill_with_a_misspelt_parameter_fails_with_our_error(tmp_path):
    source = tmp_path / "02_opening.ipynb"
    nbformat.write(opening(paths.NOTEBOOKS / "02_ministu_on_lds.py"), source)
    with pytest.raises(
        papermill.PapermillExecutionError, match="unknown parameter NUM_FILTER; did you mean NUM_FILTERS"
    ):
        papermill.execute_notebook(source, tmp_path / "out.ipynb", {"NUM_FILTER": 16}, progress_bar=False)


def test_a_notebook_runs_as_a_plain_script_from_anywhere(tmp_path):
    script = tmp_path / "02_opening.py"
    jupytext.write(opening(paths.NOTEBOOKS / "02_ministu_on_lds.py"), script, fmt="py:percent")
    environment = {**os.environ, "TSFM_RUNS": str(tmp_path / "runs"), "MPLBACKEND": "agg"}
    subprocess.run([sys.executable, script], cwd=tmp_path, env=environment, check=True, capture_output=True)
    (run,) = (tmp_path / "runs" / "02_ministu_on_lds").iterdir()
    assert run.name.startswith("smoke-")
    assert (run / "config.json").exists()
