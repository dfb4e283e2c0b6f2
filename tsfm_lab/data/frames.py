"""A user's own data: long or wide DataFrames and CSV files become series."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tsfm_lab.data.archives import CorruptFileError, open_data
from tsfm_lab.data.dirt import Skips
from tsfm_lab.data.regular import Regular, regularise
from tsfm_lab.data.series import Series, SeriesList

if TYPE_CHECKING:
    import pandas

ITEM_COLUMNS = ("item_id", "unique_id", "series_id")
TIME_COLUMNS = ("timestamp", "date", "ds", "time", "datetime")
BAD = ("raise", "skip")


def from_frame(
    frame: "pandas.DataFrame",
    *,
    item: str | None = None,
    time: str | None = None,
    target: str | Sequence[str] | None = None,
    past: Sequence[str] = (),
    known: Sequence[str] = (),
    multivariate: bool = False,
    freq: str | None = None,
    tz: str | None = None,
    duplicates: str = "error",
    gaps: str = "error",
    off_grid: str = "error",
    bad: str = "raise",
    name: str = "frame",
    pool: str = "user",
) -> SeriesList:
    """Series of a long frame (one row per item and stamp) or a wide one (one column per series).

    item: column of series names, makes the frame long; by default one of item_id, unique_id, series_id, if present.
    time: column of stamps; by default a date index, or one of timestamp, date, ds, time, datetime.
    target: column(s) to forecast; by default every column that has no other part, and then all must hold numbers.
    past, known: covariate columns up to the last target, and beyond it: rows at the end without any target, but with
    known covariates, are the future.
    multivariate: the target columns are variates of one item, not items of their own.
    freq, duplicates, gaps, off_grid: see `regularise`. tz: zone to convert stamps with a time zone to, e.g. "UTC".
    bad: "raise" stops at the first unusable series; "skip" leaves it out and counts it in the collection's notes.
    Raises: ValueError naming the column or series and the remedy.
    """
    if bad not in BAD:
        raise ValueError(f"bad must be one of {', '.join(BAD)}, got {bad!r}")
    item = item or next((column for column in ITEM_COLUMNS if column in frame.columns), None)
    frame, time = _with_time_column(frame, time)
    _require_columns(frame, [*([item] if item else []), *past, *known])
    targets = _target_columns(frame, target, {item, time, *past, *known})
    numbers = {column: _as_numbers(frame[column], column) for column in [*targets, *past, *known]}
    when = _as_stamps(frame[time], time, tz)
    groups = {name: np.arange(len(frame))} if item is None else _rows_by_item(frame[item], item)
    split = item is None and not multivariate and len(targets) > 1
    mending = {"freq": freq, "duplicates": duplicates, "gaps": gaps, "off_grid": off_grid}
    skips, series = Skips(), []
    for key, rows in groups.items():
        for variates in [[column] for column in targets] if split else [targets]:
            item_id = str(variates[0] if split else key)
            columns = [numbers[column][rows] for column in (*variates, *past, *known)]
            try:
                regular = regularise(when[rows], np.stack(columns, -1), item=item_id, **mending)
                series.append(_as_series(item_id, regular, len(variates), len(past)))
            except ValueError as error:
                if bad == "raise":
                    raise
                skips.add(item_id, error)
            else:
                skips.mend(item_id, regular.mended)
    return SeriesList(series, name, pool, notes=skips.notes(len(series) + skips.total))


def read_csv(
    path: Path, *, member: str = "", options: dict[str, Any] | None = None, name: str = "", **frame_options: Any
) -> SeriesList:
    """Series of one CSV file, plain, gzipped, or a member of a zip archive.

    options: for `pandas.read_csv`, e.g. {"sep": ";", "decimal": ","}. frame_options: see `from_frame`.
    Raises: CorruptFileError where it is no table; ValueError as `from_frame`.
    """
    frame = read_table_file(path, member, options)
    return from_frame(frame, name=name or Path(member or path).name.split(".")[0], **frame_options)


def read_table_file(path: Path, member: str = "", options: dict[str, Any] | None = None) -> "pandas.DataFrame":
    """The table of a CSV file. Raises: CorruptFileError naming the file and where it breaks."""
    import pandas as pd

    try:
        with open_data(path, member) as file:
            return pd.read_csv(file, **(options or {}))
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise CorruptFileError(f"{path} is not a readable table: {str(error).strip()}; mend or get it again") from error


def _with_time_column(frame: "pandas.DataFrame", time: str | None) -> tuple["pandas.DataFrame", str]:
    import pandas as pd

    if time is not None:
        _require_columns(frame, [time])
        return frame, time
    if isinstance(frame.index, pd.DatetimeIndex | pd.PeriodIndex):
        name = str(frame.index.name or "timestamp")
        return frame.rename_axis(name).reset_index(), name
    dated = [column for column in frame.columns if pd.api.types.is_datetime64_any_dtype(frame[column])]
    dated += [column for column in TIME_COLUMNS if column in frame.columns and column not in dated]
    if not dated:
        raise ValueError(f"no column of stamps among {list(frame.columns)[:12]}; pass time='<column>'")
    return frame, dated[0]


def _require_columns(frame: "pandas.DataFrame", columns: Sequence[str]) -> None:
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise ValueError(f"the frame has no column {', '.join(map(repr, missing))}; it has {list(frame.columns)[:12]}")


def _target_columns(frame: "pandas.DataFrame", target: str | Sequence[str] | None, taken: set) -> list[str]:
    if target is not None:
        columns = [target] if isinstance(target, str) else list(target)
        _require_columns(frame, columns)
        return columns
    columns = [column for column in frame.columns if column not in taken]
    if not columns:
        raise ValueError("the frame has no column left for the target; pass target='<column>'")
    return columns


def _as_numbers(column: "pandas.Series", name: str) -> np.ndarray:
    """The column as float64 (t). Raises: ValueError that shows the first cell which is no number."""
    import pandas as pd

    numbers = pd.to_numeric(column, errors="coerce")
    wrong = np.flatnonzero(numbers.isna().to_numpy() & column.notna().to_numpy())
    if len(wrong):
        raise ValueError(
            f"column {name!r} must hold numbers, but {len(wrong)} of its {len(column)} cells do not "
            f"(first: {column.iloc[wrong[0]]!r} in row {wrong[0]}); clean it, or name the target columns"
        )
    return numbers.to_numpy(dtype=np.float64, na_value=np.nan)


def _as_stamps(column: "pandas.Series", name: str, tz: str | None) -> np.ndarray:
    import pandas as pd

    if isinstance(column.dtype, pd.PeriodDtype):
        column = column.dt.start_time
    try:
        when = column if pd.api.types.is_datetime64_any_dtype(column) else pd.to_datetime(column)
    except (ValueError, TypeError) as error:
        raise ValueError(f"column {name!r} must hold stamps: {error}") from None
    zone = getattr(when.dt, "tz", None)
    if zone is not None:
        if tz is None:
            raise ValueError(f"column {name!r} has the time zone {zone}; pass tz='UTC' to convert it (or another zone)")
        when = when.dt.tz_convert(tz).dt.tz_localize(None)
    return when.to_numpy("datetime64[s]")


def _rows_by_item(column: "pandas.Series", name: str) -> dict[Any, np.ndarray]:
    if column.isna().any():
        raise ValueError(
            f"column {name!r} lacks the name of the series in {int(column.isna().sum())} rows; name or drop them"
        )
    return column.groupby(column, sort=False, observed=True).indices


def _as_series(item_id: str, regular: Regular, c: int, p: int) -> Series:
    target, past, known = np.split(regular.values, [c, c + p])
    t = target.shape[1]
    if len(known):  # rows at the end that lack every target are the future of the known covariates
        observed = np.flatnonzero(~np.isnan(target).all(axis=0))
        t = int(observed[-1]) + 1 if len(observed) else 0
        if np.isnan(known[:, t:]).any():
            raise ValueError(f"series {item_id!r} has missing known covariates beyond its last target; fill them")
    return Series(
        item_id,
        regular.start,
        regular.freq,
        target[:, :t],
        past_feat_dynamic_real=past[:, :t] if len(past) else None,
        feat_dynamic_real=known if len(known) else None,
    )
