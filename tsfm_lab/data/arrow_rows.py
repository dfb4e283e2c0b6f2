"""Rows of an arrow record batch in the LOTSA schema as series, each a view of the batch's buffers."""

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from tsfm_lab.data.series import Series

if TYPE_CHECKING:
    import pyarrow

COVARIATES = ("past_feat_dynamic_real", "feat_dynamic_real")


class ArrowRows:
    """The rows of one record batch; what all rows share is decoded when the first one is read.

    batch: with item_id, start, freq, target as list<float> (t) or list<list<float>> (c t), and the optional covariates
    in the same two forms.
    """

    def __init__(self, batch: "pyarrow.RecordBatch"):
        self.batch = batch

    def series(self, row: int, fallback_id: str) -> Series:
        """Row `row`; a target without nulls is a view of the file, (c t).

        Raises: ValueError naming the item where its target is missing or unusable, or its frequency is missing.
        """
        item_id = self.batch.column("item_id")[row].as_py()
        item_id = fallback_id if item_id is None else str(item_id)
        covariates = {name: column.read(row, item_id) for name, column in self._covariates.items()}
        target = self._target.read(row, item_id)
        if target is None:
            raise ValueError(f"series {item_id!r} has no target")
        return Series(item_id, self._starts[row], self._freqs[row], target, **covariates)

    @cached_property
    def _target(self) -> "ListColumn":
        return ListColumn(self.batch.column("target"), "target")

    @cached_property
    def _covariates(self) -> dict[str, "ListColumn"]:
        return {name: ListColumn(self.batch.column(name), name) for name in COVARIATES if name in self._names}

    @cached_property
    def _names(self) -> list[str]:
        return self.batch.schema.names

    @cached_property
    def _starts(self) -> "np.ndarray | list":
        import pyarrow as pa

        column = self.batch.column("start")
        if pa.types.is_timestamp(column.type) and column.type.tz is None:
            return column.to_numpy(zero_copy_only=False).astype("datetime64[s]")
        return column.to_pylist()

    @cached_property
    def _freqs(self) -> list:
        return self.batch.column("freq").to_pylist()


class ListColumn:
    """A column of lists, or of lists of lists, of numbers."""

    def __init__(self, column: "pyarrow.Array", name: str):
        import pyarrow as pa

        self.column, self.name, self.offsets = column, name, []
        self.is_valid = None if column.null_count == 0 else column.is_valid().to_numpy(zero_copy_only=False)
        values, inner_nulls = column, 0
        while pa.types.is_nested(values.type):
            self.offsets.append(_offsets(values))
            values = values.values
            inner_nulls += values.null_count
        # nulls within a target are rare and cost a copy, so only of the row that is read
        self.flat = values.to_numpy() if inner_nulls == 0 and pa.types.is_floating(values.type) else None

    def read(self, row: int, item_id: str) -> np.ndarray | None:
        """Row `row` (t) or (c t), nulls as NaN; None where it is null itself. Raises: ValueError naming the item."""
        if self.is_valid is not None and not self.is_valid[row]:
            return None
        if self.flat is None:
            return self._read_copy(row, item_id)
        outer = self.offsets[0]
        first, last = outer[row], outer[row + 1]
        if len(self.offsets) == 1:
            return self.flat[first:last]
        steps = self.offsets[1][first : last + 1]
        self._check_lengths(np.diff(steps), item_id)
        return self.flat[steps[0] : steps[-1]].reshape(last - first, -1)

    def _read_copy(self, row: int, item_id: str) -> np.ndarray:
        import pyarrow as pa

        values, rows = self.column[row].values, None
        if pa.types.is_nested(values.type):
            self._check_lengths(list_lengths(values), item_id)
            rows, values = len(values), values.flatten()
        flat = values.to_numpy(zero_copy_only=False)
        if flat.dtype.kind not in "fiub":
            raise ValueError(f"series {item_id!r}: {self.name} must hold numbers, got {values.type}")
        return flat if rows is None else flat.reshape(rows, -1)

    def _check_lengths(self, lengths: np.ndarray, item_id: str) -> None:
        if len(lengths) and (lengths != lengths[0]).any():
            steps = sorted(set(lengths.tolist()))[:4]
            raise ValueError(f"series {item_id!r}: the variates of {self.name} differ in length: {steps} steps")


def _offsets(column: "pyarrow.Array") -> np.ndarray:
    """Where each list begins among the values of the column, and where the last one ends: (n+1) ints."""
    import pyarrow as pa

    if pa.types.is_fixed_size_list(column.type):
        return column.type.list_size * np.arange(column.offset, column.offset + len(column) + 1)
    return column.offsets.to_numpy()


def list_lengths(column: "pyarrow.Array") -> np.ndarray:
    """Length of each list in a list column of any kind: (n) int64, 0 for nulls."""
    import pyarrow.compute as pc

    return pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False).astype(np.int64)


def list_shapes(column: "pyarrow.Array") -> np.ndarray:
    """(c, t) of each row of a target column, from the lists' offsets alone: (n 2) int64."""
    import pyarrow as pa

    outer = list_lengths(column)
    if not pa.types.is_nested(column.type.value_type):
        return np.stack([np.ones_like(outer), outer], axis=-1)
    inner = list_lengths(column.flatten())
    first = np.concatenate([[0], np.cumsum(outer)[:-1]])
    steps = np.where(outer > 0, inner[np.minimum(first, max(len(inner) - 1, 0))] if len(inner) else 0, 0)
    return np.stack([outer, steps], axis=-1)
