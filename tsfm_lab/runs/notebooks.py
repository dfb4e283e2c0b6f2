"""Notebook pairs: the .py that is edited and the .ipynb that carries the outputs."""

import base64
import io
import os
import tempfile
from pathlib import Path

from tsfm_lab import paths


def find_notebook(name: str | Path) -> Path:
    """Return the .py of a notebook given by name or by the path of either file.

    Raises ValueError, listing the notebooks there are, when there is none of that name.
    """
    stem = Path(name).stem
    script = paths.NOTEBOOKS / f"{stem}.py"
    if not script.exists():
        raise ValueError(f"no notebook {stem!r} in {paths.NOTEBOOKS}; there are {notebook_names()}")
    return script


def notebook_names() -> list[str]:
    """The notebooks of this workbook, in reading order."""
    return sorted(script.stem for script in paths.NOTEBOOKS.glob("[0-9]*.py"))


def refresh(script: Path) -> Path:
    """Execute the cells of notebooks/<name>.py in a fresh kernel and store them with their outputs in <name>.ipynb.

    The runs of the execution go to a temporary directory, so that the outputs are those of a first run. Cell numbers
    serve as cell ids and no times are stored: two refreshes differ only in what the cells print. Figures are stored
    with a palette, at a third of their size.
    Raises nbclient's CellExecutionError, leaving the earlier .ipynb as it was, when a cell fails.
    """
    import jupytext
    import nbformat
    from nbclient import NotebookClient
    from nbconvert.preprocessors import CoalesceStreamsPreprocessor

    notebook = jupytext.read(script)
    with tempfile.TemporaryDirectory() as runs:
        client = NotebookClient(notebook, record_timing=False, resources={"metadata": {"path": str(script.parent)}})
        client.execute(env={**os.environ, "TSFM_RUNS": runs})
    notebook, _ = CoalesceStreamsPreprocessor().preprocess(notebook, {})
    notebook.metadata["language_info"] = {"name": "python"}  # without the version of this machine's Python
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number:02d}"
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = _with_palette(output.data["image/png"])
    target = script.with_suffix(".ipynb")
    temporary = target.with_suffix(".ipynb.tmp")
    nbformat.write(notebook, temporary)
    temporary.replace(target)
    return target


def _with_palette(png: str) -> str:
    """A PNG (base64) with at most 256 colours: those of a line plot differ by a few hundredths and look the same."""
    from PIL import Image

    image = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    buffer = io.BytesIO()
    image.quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()
