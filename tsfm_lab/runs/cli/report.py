"""Executed notebooks, and comparisons of runs, as single HTML files that need no network and no script."""

import base64
import io
import os
import re
from pathlib import Path
from typing import Any

from tsfm_lab import paths
from tsfm_lab.runs.cli.watch import comparison_rows
from tsfm_lab.runs.files import atomic_write
from tsfm_lab.runs.metrics import read_rows

MAX_BYTES = 5_000_000  # of a report: small enough to send
SMOOTHED_PART = 10  # of a run's steps, that a smoothed loss is the mean over
_DISPLAY = re.compile(r"\$\$(.+?)\$\$", re.DOTALL)
_INLINE = re.compile(r"(?<![\\$])\$((?:[^$\n]|\n(?!\s*\n))+?)\$(?!\$)")  # within one paragraph
_CODE = re.compile(r"(```.*?```|`[^`\n]*`)", re.DOTALL)
_MARK = re.compile(r"mathml-(\d+)-mathml")
_SCRIPT = re.compile(r"<script\b.*?</script>", re.DOTALL)
# tables and long lines scroll inside their cell instead of running out of a laptop's page
_STYLE = "<style>.jp-RenderedHTMLCommon {overflow-x: auto} pre {white-space: pre-wrap} img {max-width: 100%}</style>"


def write_report(run: Path) -> Path:
    """Write report.html beside a run's executed.ipynb and return its path.

    Raises ValueError when the run has no executed notebook, or its report would be over 5 MB.
    """
    import nbformat

    notebook = run / "executed.ipynb"
    if not notebook.exists():
        raise ValueError(f"{run} has no executed.ipynb; make it: python -m tsfm_lab.runs launch …")
    return _write(run / "report.html", to_html(nbformat.read(notebook, as_version=4), title=run.name))


def write_comparison(runs: list[Path], target: Path) -> Path:
    """Write a page that compares runs: the options in which they differ, last and best metrics, loss against step."""
    from nbformat import v4

    where = Path(os.path.commonpath([run.parent for run in runs]))
    names = [run.relative_to(where).as_posix() for run in runs]
    title = f"Comparison of runs in {where.relative_to(paths.RUNS.parent).as_posix()}"
    rows = [("", *names), ("---",) * (1 + len(runs)), *comparison_rows(runs)]
    text = "\n".join("| " + " | ".join(cells) + " |" for cells in rows)
    image = v4.new_output("display_data", {"image/png": _loss_curves(runs, names)})
    cells = [
        v4.new_markdown_cell(f"# {title}\n\n{text}"),
        v4.new_code_cell("", outputs=[image], metadata={"tags": ["hide-input"]}),
    ]
    return _write(target, to_html(v4.new_notebook(cells=cells), title=title))


def to_html(notebook: Any, title: str) -> str:
    """Render a notebook (nbformat) with its figures inside, its mathematics as MathML and without any script."""
    from nbconvert import HTMLExporter
    from nbconvert.preprocessors import CoalesceStreamsPreprocessor
    from traitlets.config import Config

    formulas: list[str] = []  # MathML by number; in the text stands a mark, as nbconvert would tear the tags apart
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = take_mathematics(cell.source, formulas)
    notebook, _ = CoalesceStreamsPreprocessor().preprocess(notebook, {})
    hidden = {"enabled": True, "remove_input_tags": {"hide-input"}}
    exporter = HTMLExporter(embed_images=True, config=Config(TagRemovePreprocessor=hidden))
    body, _ = exporter.from_notebook_node(notebook, {"metadata": {"name": title}})
    body = _MARK.sub(lambda match: formulas[int(match[1])], _SCRIPT.sub("", body))
    return body.replace("</head>", _STYLE + "</head>", 1)


def take_mathematics(markdown: str, formulas: list[str]) -> str:
    """Put a mark in place of each $…$ and $$…$$ outside code, and its MathML into `formulas`: no script draws it."""
    from latex2mathml.converter import convert

    def mark(formula: str, display: str) -> str:
        formulas.append(convert(formula.strip(), display=display))
        return f"mathml-{len(formulas) - 1}-mathml"

    def replace(text: str) -> str:
        text = _DISPLAY.sub(lambda match: mark(match[1], "block"), text)
        return _INLINE.sub(lambda match: mark(match[1], "inline"), text)

    pieces = _CODE.split(markdown)
    return "".join(piece if number % 2 else replace(piece) for number, piece in enumerate(pieces))


def _loss_curves(runs: list[Path], names: list[str]) -> str:
    """A PNG, base64, of each run's loss against its step, pale, and of its mean over the steps around each."""
    import matplotlib.pyplot as plt
    import pandas as pd

    from tsfm_lab.plotting import figure, use_theme

    use_theme()
    (axes,) = figure(height=3.5)
    for run, name in zip(runs, names, strict=True):
        rows = [row for row in read_rows(run / "metrics.csv") if row.get("loss")]
        loss = pd.Series([float(row["loss"]) for row in rows], index=[int(row["step"]) for row in rows])
        (line,) = axes.plot(loss, alpha=0.25, linewidth=0.8)
        width = max(1, len(loss) // SMOOTHED_PART)
        axes.plot(loss.rolling(width, center=True, min_periods=1).mean(), color=line.get_color(), label=name)
    axes.set(
        xlabel="step", ylabel="training loss", title=f"Training loss, and its mean over 1/{SMOOTHED_PART} of a run"
    )
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    buffer = io.BytesIO()
    axes.figure.savefig(buffer, format="png", dpi=120, bbox_inches="tight")
    plt.close(axes.figure)
    return base64.b64encode(buffer.getvalue()).decode()


def _write(target: Path, html: str) -> Path:
    if len(html.encode()) > MAX_BYTES:
        raise ValueError(f"{target} would have {len(html) / 1e6:.1f} MB, at most {MAX_BYTES / 1e6:.0f} are allowed")
    with atomic_write(target) as file:
        file.write(html)
    return target
