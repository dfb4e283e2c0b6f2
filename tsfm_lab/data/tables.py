"""Tables whose rows are the steps: TSLib CSVs, PEMS .npz, solar and exchange .txt, .npy and JSON matrices.

Their stamps, where they have any, only give the start: rows are taken as consecutive steps, as the benchmarks do.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tsfm_lab.data.archives import CorruptFileError, inner_suffix, open_data
from tsfm_lab.data.frames import read_table_file
from tsfm_lab.data.frequency import infer_frequency, parse_frequency, stamps
from tsfm_lab.data.series import Series, SeriesList


@dataclass(frozen=True)
class Table:
    """values: (t c) float64, NaN missing. names: of the c columns. when: (t) datetime64[s] as written, or None."""

    values: np.ndarray
    names: tuple[str, ...]
    when: np.ndarray | None = None

    def select(self, columns: Sequence[str]) -> "Table":
        """The table with these columns, in this order."""
        missing = [name for name in columns if name not in self.names]
        if missing:
            raise ValueError(f"the table has no column {missing[0]!r}; it has {', '.join(self.names[:12])}")
        at = [self.names.index(name) for name in columns]
        return replace(self, values=self.values[:, at], names=tuple(columns))

    def irregular_steps(self, freq: str) -> tuple[int, int]:
        """(repeated, missing) stamps against the grid of `freq` from the first stamp on; (0, 0) without stamps."""
        if self.when is None:
            return 0, 0
        expected = stamps(self.when[0], freq, len(self.when))
        if (self.when == expected).all():
            return 0, 0
        unique = np.unique(self.when)
        span = int((unique[-1] - unique[0]) / (expected[1] - expected[0])) + 1
        return len(self.when) - len(unique), max(span - len(unique), 0)


def read_table(
    path: Path,
    member: str = "",
    *,
    columns: Sequence[str] | None = None,
    header: bool | None = None,
    key: str = "",
    names: str = "",
) -> Table:
    """The matrix in a file.

    .csv has a header; a first column of text holds stamps (as in TSLib's files). .txt has neither. `header` overrides.
    columns: the only ones of a .csv that are read; they need not include the stamps.
    .npz: the array `key` ("data" by default); of (t c feature), as in PEMS, feature 0 (flow). .npy: (t) or (t c).
    .json: `key` names a list (t c), or "<list>.<field>" the field of each object in a list, one column each; `names`
    says where the columns' names are: an entry that is an object by name, or another field of the objects.
    Raises: CorruptFileError, ValueError.
    """
    suffix = inner_suffix(path, member)
    if suffix in (".npz", ".npy"):
        return _unnamed(_read_numpy(path, member, suffix, key))
    if suffix == ".json":
        return _read_json(path, member, key, names)
    if suffix in (".csv", ".txt"):
        return _read_text(path, member, suffix == ".csv" if header is None else header, columns)
    raise ValueError(f"{path} must be a .csv, .txt, .npz, .npy or .json table, got {suffix or 'no suffix'}")


def join_columns(tables: Sequence[Table]) -> Table:
    """Tables of the same rows side by side; of columns with the same name the first stands. Raises: ValueError."""
    if len({len(table.values) for table in tables}) > 1:
        raise ValueError(f"tables side by side must have the same rows, got {[len(table.values) for table in tables]}")
    columns: dict[str, np.ndarray] = {}
    for table in tables:
        columns = dict(zip(table.names, table.values.T, strict=True)) | columns
    return Table(np.stack(list(columns.values()), axis=1), tuple(columns), tables[0].when)


def stack_rows(tables: Sequence[Table], columns: Sequence[str]) -> Table:
    """The given columns of tables one after the other in time."""
    parts = [table.select(columns) for table in tables]
    dated = all(table.when is not None for table in parts)
    when = np.concatenate([table.when for table in parts]) if dated else None
    return Table(np.concatenate([table.values for table in parts]), tuple(columns), when)


def series_of(
    table: Table, *, name: str, freq: str | None = None, start: str | None = None, multivariate: bool = True
) -> SeriesList:
    """The columns of a table as one series of c variates, or as c series.

    start: of the first row; by default its stamp. freq: by default inferred from the stamps.
    Raises: ValueError where neither the table nor the caller says when it starts and how it steps.
    """
    if start is None and table.when is None:
        raise ValueError(f"{name!r} has no stamps; pass start= and freq=")
    first = np.datetime64(start, "s") if start is not None else table.when[0]
    if freq is None and table.when is not None:
        freq = infer_frequency(table.when)
    freq = parse_frequency(freq, name)
    values = table.values.T.astype(np.float32)
    if multivariate:
        items = [Series(name, first, freq, values)]
    else:
        items = [Series(column, first, freq, row) for column, row in zip(table.names, values, strict=True)]
    return SeriesList(items, name, notes=_notes(table, freq))


def _notes(table: Table, freq: str) -> list[str]:
    repeated, missing = table.irregular_steps(freq)
    if not repeated and not missing:
        return []
    return [f"{repeated} repeated and {missing} missing stamps kept: rows are taken as consecutive steps of {freq}"]


def _unnamed(values: np.ndarray) -> Table:
    return Table(values, tuple(str(i) for i in range(values.shape[1])))


def _read_text(path: Path, member: str, header: bool, columns: Sequence[str] | None) -> Table:
    import pandas as pd

    options = {"header": 0 if header else None, "encoding_errors": "replace", "usecols": columns}
    frame = read_table_file(path, member, options)
    when = None
    first = frame.columns[0]
    if header and not pd.api.types.is_numeric_dtype(frame[first]):
        try:
            when = pd.to_datetime(frame[first]).to_numpy("datetime64[s]")
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}: column {first!r} holds neither numbers nor stamps: {error}") from None
        frame = frame.drop(columns=first)
    wrong = [column for column in frame.columns if not pd.api.types.is_numeric_dtype(frame[column])]
    if wrong:
        cells = pd.to_numeric(frame[wrong[0]], errors="coerce")
        row = int(np.flatnonzero(cells.isna() & frame[wrong[0]].notna())[0])
        raise ValueError(
            f"{path}: column {wrong[0]!r} must hold numbers, got {frame[wrong[0]].iloc[row]!r} in row {row}; "
            "choose the columns, or read it with from_frame"
        )
    return Table(frame.to_numpy(np.float64), tuple(map(str, frame.columns)), when)


def _read_numpy(path: Path, member: str, suffix: str, key: str) -> np.ndarray:
    try:
        with open_data(path, member) as file:
            loaded = np.load(file)
            values = loaded if suffix == ".npy" else loaded[key or "data"]
    except (ValueError, OSError, KeyError) as error:
        raise CorruptFileError(f"{path} holds no readable array {key or 'data'!r}: {error}; get it again") from error
    values = np.asarray(values, np.float64)
    if values.ndim == 3:
        values = values[:, :, 0]
    if values.ndim not in (1, 2):
        raise ValueError(f"{path} must hold an array (t), (t c) or (t c feature), got shape {values.shape}")
    return values[:, None] if values.ndim == 1 else values


def _read_json(path: Path, member: str, key: str, names: str) -> Table:
    try:
        with open_data(path, member) as file:
            content = json.load(file)
    except ValueError as error:
        raise CorruptFileError(f"{path} is no JSON: {error}; get it again") from error
    outer, _, field = key.partition(".")
    if outer not in content:
        raise ValueError(f"{path} has no entry {outer!r}; it has {', '.join(content)}")
    if not field:
        table = _unnamed(np.asarray(content[outer], np.float64))
        return replace(table, names=tuple(content[names])) if names else table
    table = _unnamed(np.asarray([node[field] for node in content[outer]], np.float64).T)
    return replace(table, names=tuple(str(node[names]) for node in content[outer])) if names else table
