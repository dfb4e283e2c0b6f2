"""Series into the LOTSA layout: the arrow files and JSON descriptions of `datasets.save_to_disk`."""

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tsfm_lab.data.lotsa import COVARIATES
from tsfm_lab.data.series import Series, SeriesCollection

if TYPE_CHECKING:
    import pyarrow

SHARD_BYTES = 500 * 2**20
BATCH_ROWS = 1000  # rows of a record batch, as `datasets` writes them
BATCH_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Layout:
    """What the columns hold. variates: 0 for a 1-d target (t), c for (c t) with c fixed, -1 for (c t) of any c."""

    variates: int
    covariates: tuple[str, ...] = ()

    @classmethod
    def of(cls, collection: Sequence[Series]) -> "Layout":
        """The narrowest layout that holds a collection; reads it once."""
        variates, covariates = set(), set()
        for series in collection:
            variates.add(series.num_variates)
            covariates.update(name for name in COVARIATES if getattr(series, name) is not None)
        c = variates.pop() if len(variates) == 1 else -1
        return cls(0 if c == 1 else c, tuple(name for name in COVARIATES if name in covariates))

    def schema(self) -> "pyarrow.Schema":
        import pyarrow as pa

        rows = pa.list_(pa.list_(pa.float32()))
        target = rows if self.variates == -1 else pa.list_(pa.list_(pa.float32()), self.variates)
        fields = {"item_id": pa.string(), "start": pa.timestamp("s"), "freq": pa.string()}
        fields["target"] = target if self.variates else pa.list_(pa.float32())
        fields |= dict.fromkeys(self.covariates, rows)
        described = json.dumps({"info": {"features": self.features()}})
        return pa.schema(list(fields.items()), metadata={"huggingface": described})

    def features(self) -> dict[str, Any]:
        """The columns in the words of `datasets`; "Sequence" is what its versions 2 to 5 all read."""

        def value(dtype: str) -> dict[str, Any]:
            return {"dtype": dtype, "_type": "Value"}

        def sequence(feature: dict[str, Any], length: int = -1) -> dict[str, Any]:
            return {"feature": feature, "length": length, "_type": "Sequence"}

        steps = sequence(value("float32"))
        found = {"item_id": value("string"), "start": value("timestamp[s]"), "freq": value("string")}
        found["target"] = sequence(steps, self.variates) if self.variates else steps
        return found | {name: sequence(steps) for name in self.covariates}

    def row(self, series: Series) -> dict[str, Any]:
        """The cells of one row. Raises: ValueError where the series does not fit the layout."""
        c = series.num_variates
        expected = self.variates or 1
        if c != expected and expected > 0:
            raise ValueError(f"series {series.item_id!r} has {c} variates, the layout expects {expected}; pass another")
        extra = [name for name in COVARIATES if name not in self.covariates and getattr(series, name) is not None]
        if extra:
            raise ValueError(f"series {series.item_id!r} has {', '.join(extra)}, which the layout lacks; pass another")
        cells = {"item_id": series.item_id, "start": series.start, "freq": series.freq}
        cells["target"] = list(series.target) if self.variates else series.target[0]
        for name in self.covariates:
            rows = getattr(series, name)
            cells[name] = None if rows is None else list(rows)
        return cells


def write_lotsa(
    collection: Iterable[Series],
    folder: Path,
    *,
    layout: Layout | None = None,
    shard_bytes: int = SHARD_BYTES,
    progress: bool = False,
) -> Path:
    """Write series to `folder` so that `ArrowCollection`, `datasets.load_from_disk` and uni2ts read them.

    layout: None finds the narrowest one by reading a collection once more; a generator needs one.
    At most a record batch is in memory at a time. The folder appears when it is complete; an existing one is never
    touched. progress: show a bar.
    Raises: FileExistsError; ValueError for no series, or one that does not fit the layout.
    """
    folder = Path(folder)
    if folder.exists():
        raise FileExistsError(f"{folder} exists; remove it, or write to another folder")
    if layout is None:
        if isinstance(collection, Iterator):
            raise ValueError("a generator can be read only once; pass layout=Layout(variates, covariates)")
        layout = Layout.of(collection)
    temporary = folder.with_name(f".{folder.name}.incomplete")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        _write_shards(_with_bar(collection, folder.name) if progress else collection, layout, temporary, shard_bytes)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _write_shards(collection: Iterable[Series], layout: Layout, folder: Path, shard_bytes: int) -> None:
    shards, rows, size, digest = [], 0, 0, sha256()
    batches = _in_batches(collection, layout)
    batch = next(batches, None)
    if batch is None:
        raise ValueError("there is no series to write")
    while batch is not None:
        shards.append(folder / f"data-{len(shards):05d}.arrow")
        written = 0
        with _new_stream(shards[-1], layout) as writer:
            while batch is not None and (written == 0 or written + batch.nbytes <= shard_bytes):
                writer.write_batch(batch)
                digest.update(batch.serialize())
                written, rows = written + batch.nbytes, rows + batch.num_rows
                batch = next(batches, None)
        size += written
    names = [f"data-{i:05d}-of-{len(shards):05d}.arrow" for i in range(len(shards))]
    for shard, name in zip(shards, names, strict=True):
        shard.rename(folder / name)
    _write_description(folder, layout, names, rows, size, digest.hexdigest()[:16])


def _in_batches(collection: Iterable[Series], layout: Layout) -> Iterator["pyarrow.RecordBatch"]:
    import pyarrow as pa

    schema, rows, size = layout.schema(), [], 0
    for series in collection:
        rows.append(layout.row(series))
        size += series.target.nbytes
        if len(rows) == BATCH_ROWS or size >= BATCH_BYTES:
            yield pa.RecordBatch.from_pylist(rows, schema=schema)
            rows, size = [], 0
    if rows:
        yield pa.RecordBatch.from_pylist(rows, schema=schema)


@contextmanager
def _new_stream(path: Path, layout: Layout) -> Iterator["pyarrow.RecordBatchWriter"]:
    import pyarrow as pa

    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, layout.schema()) as writer:
        yield writer


def _write_description(folder: Path, layout: Layout, names: list[str], rows: int, size: int, fingerprint: str) -> None:
    info = {"features": layout.features(), "dataset_name": folder.name, "dataset_size": size}
    info["splits"] = {"train": {"name": "train", "num_bytes": size, "num_examples": rows}}
    state = {"_data_files": [{"filename": name} for name in names], "_fingerprint": fingerprint, "_split": "train"}
    state |= {"_format_columns": None, "_format_kwargs": {}, "_format_type": None, "_output_all_columns": False}
    (folder / "dataset_info.json").write_text(json.dumps(info, indent=2))
    (folder / "state.json").write_text(json.dumps(state, indent=2))


def _with_bar(collection: Iterable[Series], name: str) -> Iterable[Series]:
    from tqdm.auto import tqdm

    total = len(collection) if isinstance(collection, SeriesCollection | list | tuple) else None
    return tqdm(collection, desc=name, total=total, unit="series")
