"""Many settings of a decoder, measured one by one and remembered: a table that a killed run goes on with."""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tsfm_lab.runs.files import atomic_write
from tsfm_lab.runs.metrics import read_rows

Cell = dict[str, Any]


def expand(grid: Mapping[str, Sequence[Any]]) -> list[Cell]:
    """Every combination of a grid, the last name fastest: {"k": [1, 2], "batch": [1]} → two cells."""
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def sweep(cells: Iterable[Cell], measure: Callable[[Cell], Mapping[str, Any]], file: Path) -> list[dict[str, Any]]:
    """Measure the cells that `file` does not hold yet, appending a row after each, and return the rows of all.

    A row is the cell and what was measured. All cells have the same names, all measurements too; the first row makes
    the header. Of a row that a kill cut short nothing is kept.

    Raises
    ------
    ValueError: when the file was made with other names.
    """
    cells = list(cells)
    known = {_key(row, cells[0]): row for row in read_table(file)} if cells else {}
    rows = []
    for cell in cells:
        key = _key(cell, cell)
        if key not in known:
            known[key] = {**cell, **measure(cell)}
            _append(file, known[key])
        rows.append(known[key])
    return rows


def read_table(file: Path) -> list[dict[str, Any]]:
    """The complete rows of a sweep's file, values as they were (numbers, text, None); none where there is no file."""
    return [{name: json.loads(text) for name, text in row.items()} for row in read_rows(file)]


def _append(file: Path, row: Mapping[str, Any]) -> None:
    """Add a row, after dropping what a kill left of the last one."""
    before = Path(file).read_text() if Path(file).exists() else ""
    complete = before[: before.rfind("\n") + 1]
    names = list(row)
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    if not complete:
        writer.writeheader()
    elif next(csv.reader([complete.partition("\n")[0]])) != names:
        raise ValueError(f"{file} has the columns {complete.partition(chr(10))[0]}, expected {','.join(names)}")
    writer.writerow({name: json.dumps(value) for name, value in row.items()})
    with atomic_write(file) as stream:
        stream.write(complete + text.getvalue())


def _key(row: Mapping[str, Any], names: Iterable[str]) -> str:
    missing = [name for name in names if name not in row]
    if missing:
        raise ValueError(f"the sweep's file lacks the columns {missing}; move it away to measure anew")
    return json.dumps([row[name] for name in names])


def pareto(rows: Sequence[Mapping[str, Any]], *, gain: str, loss: str) -> list[Mapping[str, Any]]:
    """The rows that no other beats: none has at least their gain at no more loss, and more of one. By rising loss."""
    best: list[Mapping[str, Any]] = []
    for row in sorted(rows, key=lambda row: (row[loss], -row[gain])):
        if not best or row[gain] > best[-1][gain]:
            best.append(row)
    return best


def best_setting(
    rows: Sequence[Mapping[str, Any]], *, most_loss: float, gain: str = "speedup_cached", loss: str = "mse_ratio"
) -> Mapping[str, Any]:
    """The row of the highest gain among those with at most this loss.

    Raises
    ------
    ValueError: when no row is as accurate, naming the smallest loss there is.
    """
    admissible = [row for row in rows if row[loss] <= most_loss]
    if not admissible:
        least = min((row[loss] for row in rows), default=None)
        raise ValueError(f"no setting has {loss} of at most {most_loss}; the smallest is {least}")
    return max(admissible, key=lambda row: row[gain])
