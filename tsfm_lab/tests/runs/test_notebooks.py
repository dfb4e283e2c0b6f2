"""A refresh stores a notebook's outputs, the same each time, and a failing one changes nothing."""

import base64
import io

import nbformat
import pytest
from PIL import Image

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


def test_figures_are_stored_with_a_palette_and_keep_their_colours(script):
    code = "import matplotlib.pyplot as plt\n_ = plt.plot([0, 1], color=(0.8, 0.1, 0.3), linewidth=9)\nplt.show()\n"
    script.write_text(HEADER + "# %%\n%matplotlib inline\n" + code)
    (output,) = nbformat.read(refresh(script), as_version=4).cells[-1].outputs
    image = Image.open(io.BytesIO(base64.b64decode(output.data["image/png"])))
    assert image.mode == "P"
    colours = {colour for _, colour in image.convert("RGB").getcolors(256)}
    wanted = (204, 26, 76)
    # a hundredth of the range: what a palette of 256 may cost a colour that fills a large part of the figure
    assert min(max(abs(a - b) for a, b in zip(colour, wanted, strict=True)) for colour in colours) <= 3
