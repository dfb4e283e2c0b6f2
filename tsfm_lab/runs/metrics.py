"""metrics.csv: one wide table a run, appended as training goes, readable while it runs."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from tsfm_lab.runs.files import atomic_write


def read_rows(path: Path) -> list[dict[str, str]]:
    """The complete rows of a metrics.csv, as text; none where there is no file."""
    if not Path(path).exists():
        return []
    text = Path(path).read_text()
    complete = text[: text.rfind("\n") + 1]  # a writer may be in the middle of the last line
    return list(csv.DictReader(io.StringIO(complete)))


class MetricsLog:
    """A CSV file with a fixed header whose first column is `step`.

    Opening an existing file drops a last line that a kill cut short; `drop_after` forgets the steps that a resumed
    run will do again. Floats are written with `repr`, so that two runs can be compared bit for bit.

    Raises ValueError when an existing file has another header.
    """

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self.path = Path(path)
        self.columns = ("step", *(column for column in columns if column != "step"))
        if not self.path.exists():
            self._rewrite([])
            return
        text = self.path.read_text()
        header = tuple(text.partition("\n")[0].split(","))
        if header != self.columns:
            raise ValueError(
                f"{self.path} has the columns {header}, expected {self.columns}; move it away to start anew"
            )
        if not text.endswith("\n"):
            self._rewrite(self.rows())

    def append(self, step: int, **values: float | int | str) -> None:
        """Add one row; a column without a value stays empty. Raises ValueError for an unknown column."""
        unknown = values.keys() - set(self.columns)
        if unknown:
            raise ValueError(f"unknown metric {sorted(unknown)}; the columns are {self.columns}")
        with self.path.open("a", newline="") as file:
            file.write(self._line({"step": step, **values}))

    def rows(self) -> list[dict[str, str]]:
        """All complete rows, as text (an empty string where a row has no value)."""
        return read_rows(self.path)

    def column(self, name: str) -> list[float]:
        """The values of one column in the order written, skipping rows without one."""
        return [float(row[name]) for row in self.rows() if row[name] != ""]

    def drop_after(self, step: int) -> None:
        """Keep only the rows up to and including `step`."""
        self._rewrite([row for row in self.rows() if int(row["step"]) <= step])

    def _line(self, row: dict) -> str:
        buffer = io.StringIO()
        csv.DictWriter(buffer, self.columns, restval="", lineterminator="\n").writerow(row)
        return buffer.getvalue()

    def _rewrite(self, rows: list[dict[str, str]]) -> None:
        with atomic_write(self.path) as file:
            file.write(",".join(self.columns) + "\n")
            file.writelines(self._line(row) for row in rows)
