"""A refresh stores a notebook's outputs, the same each time, and a failing one changes nothing."""

import nbformat
import pytest

from tsfm_lab import paths
from tsfm_lab.runs.notebooks import find_notebook, refresh

nbclient = pytest.importorskip("nbclient", reason="refreshing notebooks needs the `lab` extra")
HEADER = """\
# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

"""


@pytest.fixture
def script(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "NOTEBOOKS", tmp_path)
    path = tmp_path / "00_try.py"
    path.write_text(HEADER + "# %% [markdown]\n# Words.\n\n# %%\nprint('a')\nprint('b')\n")
    return path


def test_two_refreshes_are_equal_byte_for_byte(script):
    first = refresh(script).read_bytes()
    assert refresh(script).read_bytes() == first
    (output,) = nbformat.reads(first.decode(), as_version=4).cells[-1].outputs
    assert output.text == "a\nb\n"


def test_a_failing_cell_leaves_the_stored_notebook(script):
    before = refresh(script).read_bytes()
    script.write_text(HEADER + "# %%\n1 / 0\n")
    with pytest.raises(nbclient.exceptions.CellExecutionError):
        refresh(script)
    assert script.with_suffix(".ipynb").read_bytes() == before


def test_an_unknown_notebook_lists_those_there_are(script):
    with pytest.raises(ValueError, match=r"there are.*00_try"):
        find_notebook("00_tri")
