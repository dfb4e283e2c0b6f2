"""Each notebook is a pair that agrees: the .py that is edited and the .ipynb that carries the outputs."""

import jupytext
import nbformat
import pytest

from tsfm_lab import paths

NOTEBOOKS = sorted(paths.NOTEBOOKS.glob("*.ipynb"))
MAX_BYTES = 200_000


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request):
    return request.param


def cells(notebook):
    return [(cell.cell_type, cell.source, cell.metadata.get("tags", [])) for cell in notebook.cells]


def test_both_files_of_each_pair_are_there():
    scripts = {path.stem for path in paths.NOTEBOOKS.glob("*.py") if path.stem != "conftest"}
    assert scripts == {path.stem for path in NOTEBOOKS}


def test_cells_agree_in_type_source_and_tags(path):
    script, stored = jupytext.read(path.with_suffix(".py")), nbformat.read(path, as_version=4)
    for ours, theirs in zip(cells(script), cells(stored), strict=True):
        assert ours == theirs, f"refresh it: python -m tsfm_lab.runs refresh {path.stem}"


def test_kernelspec_is_python3(path):
    for notebook in (jupytext.read(path.with_suffix(".py")), nbformat.read(path, as_version=4)):
        assert notebook.metadata.kernelspec.name == "python3"


def test_there_is_exactly_one_parameters_cell(path):
    tags = [cell.metadata.get("tags", []) for cell in nbformat.read(path, as_version=4).cells]
    assert sum("parameters" in tag for tag in tags) == 1


def test_every_code_cell_was_executed_in_order(path):
    code = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert any(cell.outputs for cell in code)
    assert not [output for cell in code for output in cell.outputs if output.output_type == "error"]


def test_notebook_is_small(path):
    assert path.stat().st_size < MAX_BYTES


def test_stored_outputs_name_no_file_of_the_machine_that_made_them(path):
    outputs = [output for cell in nbformat.read(path, as_version=4).cells for output in cell.get("outputs", [])]
    printed = "\n".join(str(output.get("text", output.get("data", {}).get("text/plain", ""))) for output in outputs)
    for place in ("site-packages", "ipykernel_", str(paths.ROOT)):
        assert place not in printed, f"a warning or a path stands in the outputs: ...{place}..."
