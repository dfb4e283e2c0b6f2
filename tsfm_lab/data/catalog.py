"""One call opens any data: a name of the registry, a folder or file, or a DataFrame."""

import logging
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tsfm_lab.data.archives import inner_suffix, list_members
from tsfm_lab.data.dirt import Skips, clean_collection
from tsfm_lab.data.download import fetch
from tsfm_lab.data.frames import from_frame, read_csv, read_table_file
from tsfm_lab.data.hub import fetch_folder
from tsfm_lab.data.lotsa import ArrowCollection
from tsfm_lab.data.monash import read_m4, read_tsf
from tsfm_lab.data.parquet import ParquetCollection
from tsfm_lab.data.registry import Entry, entries, find, gift_eval_configurations, pools
from tsfm_lab.data.regular import regularise
from tsfm_lab.data.series import Series, SeriesCollection, SeriesList, variate_name
from tsfm_lab.data.statsmodels_series import load_statsmodels
from tsfm_lab.data.tables import Table, join_columns, read_table, series_of, stack_rows

if TYPE_CHECKING:
    import pandas

logger = logging.getLogger(__name__)


def load(
    source: "str | Path | pandas.DataFrame", *, repair: bool = False, progress: bool = True, **options: Any
) -> SeriesCollection:
    """The series of a data set, lazily where the format allows it.

    source: a name of the registry (`python -m tsfm_lab.data list`); a folder of arrow files (LOTSA, GIFT-Eval,
    `save_to_disk`); a .parquet, .tsf, .csv, .txt, .npz or .npy file, also gzipped or zipped; a DataFrame.
    repair: mend the dirt that the registry knows of (weather's -9999, repeated stamps, gaps); the collection's `notes`
    say what is there and what was mended. progress: show a bar while fetching.
    options: for files and frames, passed to their reader: `from_frame`, `read_csv`, `read_tsf`, `series_of`.
    Raises: ValueError with the nearest names for an unknown one, and what the readers and `fetch` raise.
    """
    if not isinstance(source, str | Path):
        return _noted(from_frame(source, **options))
    if isinstance(source, Path) or (str(source) not in _names() and Path(source).exists()):
        return _noted(_open_path(Path(source), **options))
    entry = find(source)
    if options:
        raise ValueError(f"{entry.name} is a registered set, whose options are fixed; got {', '.join(options)}")
    collection = READERS[entry.loader](entry, repair, progress)
    collection.name, collection.pool = entry.name, entry.pool
    if entry.dirt and not repair:
        collection.notes = (f"known dirt: {entry.dirt}", *collection.notes)
    return _noted(collection)


def load_pool(pool: str, progress: bool = True) -> list[SeriesCollection]:
    """The sets of one pool, without the items and variates that share values with a held-out set (`notes` name them).

    Raises: ValueError for an unknown pool, and what `load` raises.
    """
    if pool not in pools():
        raise ValueError(f"pool must be one of {', '.join(pools())}, got {pool!r}")
    chosen = [entry for entry in entries().values() if entry.pool == pool]
    return [without_shared(load(entry.name, progress=progress), entry.shared) for entry in chosen]


def without_shared(collection: SeriesCollection, shared: tuple[str, ...]) -> SeriesCollection:
    """The collection without its items, or variates `item[variate]`, in `shared`: a registry entry's."""
    if not shared:
        return collection
    kept = []
    for series in collection:
        rows = [v for v in range(series.num_variates) if not {series.item_id, variate_name(series, v)} & set(shared)]
        if rows:
            kept.append(replace(series, target=series.target[rows]))
    note = f"left out, for they share values with held-out sets: {', '.join(shared)}"
    return SeriesList(kept, collection.name, collection.pool, notes=[*collection.notes, note])


def _names() -> set[str]:
    return {*entries(), *gift_eval_configurations()}


def _noted(collection: SeriesCollection) -> SeriesCollection:
    for note in collection.notes:
        logger.info("%s: %s", collection.name, note)
    return collection


def _open_path(path: Path, **options: Any) -> SeriesCollection:
    if path.is_dir():
        if any(path.glob("*.parquet")):
            return ParquetCollection(path, **options)
        return ArrowCollection(path, **options)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is neither a file nor a folder")
    if path.suffix == ".parquet":
        return ParquetCollection(path, **options)
    suffix = inner_suffix(path, options.get("member", ""))
    if suffix == ".tsf":
        return read_tsf(path, **options)
    if suffix == ".csv":
        return read_csv(path, **options)
    if suffix in (".txt", ".npz", ".npy"):
        keys = {key: options.pop(key) for key in ("member", "columns", "header", "key") if key in options}
        return series_of(read_table(path, **keys), **({"name": path.name.split(".")[0]} | options))
    raise ValueError(f"{path} must be a folder, .parquet, .tsf, .csv, .txt, .npz or .npy, got {suffix or 'no suffix'}")


def load_table(name: str, progress: bool = True) -> Table:
    """The rows of a registered table as written, float64 (t c), for benchmarks that scale in float64."""
    entry = find(name)
    if entry.loader != "table":
        raise ValueError(f"{name} is no table of consecutive rows but read as {entry.loader}; use load")
    return _read_tables(entry, progress)


def _read_tables(entry: Entry, progress: bool) -> Table:
    options, tables = entry.options, []
    keys = {key: options[key] for key in ("key", "names") if key in options}
    if options.get("join") != "columns" and "columns" in options:
        keys["columns"] = options["columns"]
    for file in entry.files:
        path = fetch(file, progress)
        for member in sorted(list_members(path, options.get("members", "*")), key=_natural):
            tables.append(read_table(path, member, **keys))
    if len(tables) > 1:
        tables = [join_columns(tables) if options.get("join") == "columns" else stack_rows(tables, options["columns"])]
    table = tables[0].select(options["columns"]) if "columns" in options else tables[0]
    if options.get("drop_leading_missing"):
        begin = int(np.flatnonzero(~np.isnan(table.values).all(axis=1))[0])
        table = replace(table, values=table.values[begin:], when=None if table.when is None else table.when[begin:])
    return table


def _natural(name: str) -> list[int | str]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _load_table(entry: Entry, repair: bool, progress: bool) -> SeriesCollection:
    table, options = _read_tables(entry, progress), entry.options
    multivariate, start = options.get("multivariate", True), options.get("start")
    if not repair or not entry.repair:
        return series_of(table, name=entry.name, freq=entry.frequency, start=start, multivariate=multivariate)
    mending = {key: entry.repair[key] for key in ("duplicates", "gaps") if key in entry.repair}
    regular = regularise(table.when, table.values, freq=entry.frequency, item=entry.name, **mending)
    skips = Skips()
    skips.mend(entry.name, regular.mended)
    series = Series(entry.name, regular.start, regular.freq, regular.values)
    return clean_collection(SeriesList([series], notes=skips.notes(1)), entry.repair.get("sentinels", ()))


def _load_frame(entry: Entry, repair: bool, progress: bool) -> SeriesCollection:
    (file,) = entry.files
    return read_csv(fetch(file, progress), name=entry.name, **({"freq": entry.frequency} | entry.options))


def _load_csv_files(entry: Entry, repair: bool, progress: bool) -> SeriesCollection:
    import pandas as pd

    frames = [read_table_file(fetch(file, progress)) for file in entry.files]
    for file, frame in zip(entry.files, frames, strict=True):
        frame["item_id"] = Path(file.path).stem
    return from_frame(pd.concat(frames, ignore_index=True), **entry.options)


def _load_tsf(entry: Entry, repair: bool, progress: bool) -> SeriesCollection:
    (file,) = entry.files
    return read_tsf(fetch(file, progress), name=entry.name, freq=entry.frequency)


def _load_m4(entry: Entry, repair: bool, progress: bool) -> SeriesCollection:
    train, test = (fetch(file, progress) for file in entry.files)
    return read_m4(train, test, freq=entry.frequency, name=entry.name)


def _load_statsmodels(entry: Entry, repair: bool, progress: bool) -> SeriesCollection:
    return load_statsmodels(entry.name)


def _load_arrow(entry: Entry, repair: bool, progress: bool) -> SeriesCollection:
    return ArrowCollection(fetch_folder(entry))


READERS: dict[str, Callable[[Entry, bool, bool], SeriesCollection]] = {
    "table": _load_table,
    "frame": _load_frame,
    "csv_files": _load_csv_files,
    "tsf": _load_tsf,
    "m4": _load_m4,
    "statsmodels": _load_statsmodels,
    "arrow": _load_arrow,
}
