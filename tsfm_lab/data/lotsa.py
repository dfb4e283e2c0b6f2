"""The LOTSA layout: folders of arrow files as `datasets.save_to_disk` writes them, and as GIFT-Eval uses them.

A row is one item: item_id, start, freq, target as list<float> (t) or list<list<float>> (c t), and the optional
covariates past_feat_dynamic_real and feat_dynamic_real in the same two forms. Only pyarrow is needed; files are
memory-mapped, so that a folder may be far larger than the memory.
"""

import json
from bisect import bisect_right
from collections.abc import Iterable
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tsfm_lab.data.archives import CorruptFileError
from tsfm_lab.data.arrow_rows import COVARIATES, ArrowRows, list_shapes
from tsfm_lab.data.series import Series, SeriesCollection

if TYPE_CHECKING:
    import pyarrow

END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"
FIELDS = ("item_id", "start", "freq", "target", *COVARIATES)


class ArrowCollection(SeriesCollection):
    """The series of a folder in the LOTSA layout, memory-mapped; the target of a series is a view of the file.

    Raises: FileNotFoundError, ValueError where the folder is no such folder; CorruptFileError where a file is broken.
    """

    def __init__(self, folder: Path, *, name: str = "", pool: str = "user", notes: Iterable[str] = ()):
        self.folder, self.name, self.pool = Path(folder), name or Path(folder).name, pool
        self.notes = tuple(notes)
        self.files = _data_files(self.folder)
        self._open()

    def _open(self) -> None:
        self._batches = [batch for file in self.files for batch in _map_batches(file)]
        self._rows = [ArrowRows(batch) for batch in self._batches]
        self._ends = list(accumulate(batch.num_rows for batch in self._batches))
        for batch in self._batches[:1]:
            missing = [field for field in FIELDS[:4] if field not in batch.schema.names]
            if missing:
                raise ValueError(f"{self.folder} lacks the columns {', '.join(missing)}; it has {batch.schema.names}")

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("_batches", "_rows")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def read(self, i: int) -> Series:
        k = bisect_right(self._ends, i)
        row = i - (self._ends[k - 1] if k else 0)
        return self._rows[k].series(row, fallback_id=f"{self.name}[{i}]")

    @cached_property
    def lengths(self) -> np.ndarray:
        return self._shapes[:, 1]

    @cached_property
    def num_variates(self) -> np.ndarray:
        return self._shapes[:, 0]

    @cached_property
    def _shapes(self) -> np.ndarray:
        shapes = [list_shapes(batch.column("target")) for batch in self._batches]
        return np.concatenate(shapes) if shapes else np.empty((0, 2), np.int64)


def _data_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder} is no folder; get the data set, or pass the folder that holds its .arrow files"
        )
    state = folder / "state.json"
    if state.is_file():
        try:
            names = [entry["filename"] for entry in json.loads(state.read_text())["_data_files"]]
        except (ValueError, KeyError, TypeError) as error:
            raise CorruptFileError(f"{state} is no save_to_disk state ({error}); get the folder again") from error
        files = [folder / name for name in names]
    else:
        files = sorted(folder.glob("*.arrow"))
    absent = [file.name for file in files if not file.is_file()]
    if absent or not files:
        what = f"lacks {', '.join(absent[:3])}" if absent else "holds no .arrow file"
        raise FileNotFoundError(f"{folder} {what}; get the data set again, or pass the folder of one data set")
    return files


def _map_batches(file: Path) -> list["pyarrow.RecordBatch"]:
    import pyarrow as pa

    source = pa.memory_map(str(file))
    try:
        try:
            batches = list(pa.ipc.open_stream(source))
        except pa.ArrowInvalid:
            source.seek(0)  # not the stream format of `datasets`, perhaps the file format of `feather`
            reader = pa.ipc.open_file(source)
            return [reader.get_batch(i) for i in range(reader.num_record_batches)]
    except (pa.ArrowInvalid, OSError) as error:
        raise CorruptFileError(f"{file} is truncated or corrupt ({error}); delete it and get it again") from error
    source.seek(source.size() - len(END_OF_STREAM))
    if source.read() != END_OF_STREAM:  # a cut between two batches reads as a shorter stream
        raise CorruptFileError(f"{file} is truncated (no end of stream); delete it and get it again")
    return batches
