"""What a user asks to run: a notebook, a parameter file, parameters; read and checked before anything starts."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tsfm_lab.runs.config import resolve_config
from tsfm_lab.runs.directory import run_path
from tsfm_lab.runs.notebooks import find_notebook, notebook_names
from tsfm_lab.training.presets import PRESETS


@dataclass(frozen=True)
class Request:
    """A notebook with its parameters.

    notebook: path of the .ipynb. parameters: NAME → value as papermill gets them. config: what the notebook makes of
    them. path: the run directory.
    """

    notebook: Path
    parameters: dict[str, Any]
    config: Any
    path: Path


def read_request(
    notebook: str, parameter_file: str | None = None, parameters: list[tuple[str, str]] | None = None
) -> Request:
    """Check a request: the notebook has a parameters cell, and each parameter a known name and a fitting type.

    parameter_file: YAML of NAME: value. parameters: (NAME, text) pairs, read as YAML; they win over the file.
    Raises ValueError naming what does not fit.
    """
    script = find_notebook(notebook)
    name = script.stem
    if name not in PRESETS:
        raise ValueError(f"notebook {name!r} has no presets; those that have are {sorted(PRESETS)}")
    target = script.with_suffix(".ipynb")
    require_parameters_cell(target)
    values = {**(_read_file(Path(parameter_file), name) if parameter_file else {})}
    values |= {key: yaml.safe_load(text) for key, text in parameters or []}
    config = resolve_config(PRESETS[name], values)
    return Request(target, values, config, run_path(name, config))


def require_parameters_cell(notebook: Path) -> None:
    """Raise ValueError unless exactly one cell of the .ipynb is tagged `parameters`; papermill would not mind."""
    import nbformat

    if not notebook.exists():
        raise ValueError(f"{notebook} is missing; make it: python -m tsfm_lab.runs refresh {notebook.stem}")
    cells = nbformat.read(notebook, as_version=4).cells
    tagged = sum("parameters" in cell.metadata.get("tags", []) for cell in cells)
    if tagged != 1:
        raise ValueError(f"{notebook} must have exactly one cell tagged 'parameters', got {tagged}")


def read_cell(grid_file: Path, index: str | None) -> list[tuple[str, str]]:
    """The (NAME, text) pairs of one cell of a grid file written by `launch`; `index` is the array task's number."""
    if index is None:
        raise ValueError(f"{grid_file} is the grid of a job array; run it with sbatch --array")
    return [(name, text) for name, text in json.loads(grid_file.read_text())[int(index)]]


def _read_file(file: Path, notebook: str) -> dict[str, Any]:
    if not file.exists():
        raise ValueError(f"no parameter file {file}")
    owner = file.name.partition(".")[0]
    if owner != notebook and owner in notebook_names():
        raise ValueError(f"{file} holds parameters of notebook {owner}, not of {notebook}")
    try:
        values = yaml.safe_load(file.read_text()) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"{file} is not YAML: {error}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{file} must hold lines NAME: value, got a {type(values).__name__}")
    return values
