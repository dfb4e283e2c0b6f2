"""Parquet files in the LOTSA schema, one item a row, read a row group at a time."""

from collections import OrderedDict
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tsfm_lab.data.archives import CorruptFileError
from tsfm_lab.data.arrow_rows import ArrowRows, list_shapes
from tsfm_lab.data.lotsa import FIELDS
from tsfm_lab.data.series import Series, SeriesCollection

if TYPE_CHECKING:
    import pyarrow

CACHED_GROUPS = 4


class ParquetCollection(SeriesCollection):
    """The series of one parquet file or a folder of them; the last few row groups are kept in memory.

    Reading in a random order is slow where row groups are large: `write_lotsa` makes a memory-mapped folder of it.
    Raises: FileNotFoundError, CorruptFileError, ValueError where the columns are not those of the LOTSA schema.
    """

    def __init__(self, path: Path, *, name: str = "", pool: str = "user", notes: Iterable[str] = ()):
        self.path, self.name, self.pool = Path(path), name or Path(path).name.split(".")[0], pool
        self.notes = tuple(notes)
        self.files = sorted(self.path.glob("*.parquet")) if self.path.is_dir() else [self.path]
        if not self.files or not self.files[0].is_file():
            raise FileNotFoundError(f"{self.path} is no parquet file and no folder of them")
        self._groups = [(file, group) for file in self.files for group in range(_open(file).num_row_groups)]
        rows = [_open(file).metadata.row_group(group).num_rows for file, group in self._groups]
        self._ends = np.cumsum(rows, dtype=np.int64)
        self._columns = _columns_of(self.files[0])
        self._cache: OrderedDict[int, ArrowRows] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_cache": OrderedDict()}

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def read(self, i: int) -> Series:
        k = int(np.searchsorted(self._ends, i, side="right"))
        row = i - (int(self._ends[k - 1]) if k else 0)
        return self._group(k).series(row, fallback_id=f"{self.name}[{i}]")

    def _group(self, k: int) -> ArrowRows:
        if k not in self._cache:
            self._cache[k] = ArrowRows(self._read_group(k, self._columns))
            if len(self._cache) > CACHED_GROUPS:
                self._cache.popitem(last=False)
        self._cache.move_to_end(k)
        return self._cache[k]

    def _read_group(self, k: int, columns: list[str]) -> "pyarrow.RecordBatch":
        import pyarrow as pa

        file, group = self._groups[k]
        try:
            batches = _open(file).read_row_group(group, columns=columns).combine_chunks().to_batches()
        except (pa.ArrowInvalid, OSError) as error:
            raise CorruptFileError(f"{file} is truncated or corrupt ({error}); delete it and get it again") from error
        return batches[0]

    @cached_property
    def _shapes(self) -> np.ndarray:
        groups = (self._read_group(k, ["target"]) for k in range(len(self._groups)))
        shapes = [list_shapes(group.column("target")) for group in groups]
        return np.concatenate(shapes) if shapes else np.empty((0, 2), np.int64)

    @cached_property
    def lengths(self) -> np.ndarray:
        return self._shapes[:, 1]

    @cached_property
    def num_variates(self) -> np.ndarray:
        return self._shapes[:, 0]


def _open(file: Path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(file, memory_map=True)
    except (pa.ArrowInvalid, OSError) as error:
        raise CorruptFileError(f"{file} is truncated or corrupt ({error}); delete it and get it again") from error


def _columns_of(file: Path) -> list[str]:
    names = _open(file).schema_arrow.names
    missing = [field for field in FIELDS[:4] if field not in names]
    if missing:
        raise ValueError(
            f"{file} lacks the columns {', '.join(missing)} (it has {', '.join(names[:12])}); "
            "read a table of rows and stamps with pandas and from_frame"
        )
    return [field for field in FIELDS if field in names]
