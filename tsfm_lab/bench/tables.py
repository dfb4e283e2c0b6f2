"""Rows of a benchmark, and the table that a terminal shows of them."""

from __future__ import annotations

from typing import Any

Row = dict[str, Any]
Rows = list[Row]


def format_rows(rows: Rows) -> str:
    """A table, one line per row; of a timing its median in milliseconds."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[_format_cell(row.get(name)) for name in names] for row in rows]
    widths = [max(map(len, column)) for column in zip(names, *cells, strict=True)]
    lines = [names, *cells]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def _format_cell(value: Any) -> str:
    return "—" if value is None else f"{value['ms']:.1f} ms" if isinstance(value, dict) else str(value)
