"""The Monash archive's .tsf files (Godahewa et al. 2021, arXiv:2105.06643) and the M4 competition's CSVs."""

from collections.abc import Iterator
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path

import numpy as np

from tsfm_lab.data.archives import CorruptFileError, open_data
from tsfm_lab.data.dirt import Skips
from tsfm_lab.data.series import Series, SeriesList

FREQUENCIES = {
    "4_seconds": "4s",
    "minutely": "min",
    "10_minutes": "10min",
    "15_minutes": "15min",
    "half_hourly": "30min",
    "hourly": "h",
    "daily": "D",
    "weekly": "W-SUN",
    "monthly": "M",
    "quarterly": "Q-DEC",
    "yearly": "Y-DEC",
}
UNDATED = "1970-01-01"  # some files (car parts, M3 other, CIF 2016) and all of M4 give no dates


@dataclass
class TsfHeader:
    """The @-lines of a file: attributes in order, with their types, and frequency and horizon where stated."""

    attributes: list[tuple[str, str]]
    frequency: str | None = None
    horizon: int | None = None


def read_tsf(path: Path, *, name: str = "", member: str = "", freq: str | None = None, bad: str = "skip") -> SeriesList:
    """The series of a .tsf file, plain, gzipped or zipped; "?" is a missing value.

    freq: for files that state none or a wrong one (default: the file's). bad: "skip" counts unreadable lines in the
    collection's notes, "raise" stops at the first.
    Raises: CorruptFileError where the header or the whole data part is missing.
    """
    skips, series = Skips(), []
    with open_data(path, member) as file:
        lines = enumerate(TextIOWrapper(file, encoding="utf-8", errors="replace"), start=1)
        header = _read_header(path, lines)
        freq = freq or _frequency(path, header)
        for number, line in lines:
            if not line.strip() or line.startswith("#"):
                continue
            try:
                series.append(_read_line(line.strip(), header, freq, len(series)))
            except ValueError as error:
                if bad == "raise":
                    raise ValueError(f"{path}, line {number}: {error}") from None
                skips.add(f"line {number}", error)
    if not series:
        raise CorruptFileError(f"{path} has no readable series after @data; get it again")
    return SeriesList(series, name or Path(path).name.split(".")[0], notes=skips.notes(len(series) + skips.total))


def _read_header(path: Path, lines: Iterator[tuple[int, str]]) -> TsfHeader:
    header = TsfHeader([])
    for _, line in lines:
        word, *rest = line.split() or [""]
        if word == "@attribute" and len(rest) == 2:
            header.attributes.append((rest[0], rest[1]))
        elif word == "@frequency" and rest:
            header.frequency = rest[0]
        elif word == "@horizon" and rest:
            header.horizon = int(rest[0])
        elif word == "@data":
            return header
    raise CorruptFileError(f"{path} has no @data line, so it is no .tsf file, or is truncated; get it again")


def _frequency(path: Path, header: TsfHeader) -> str:
    if header.frequency not in FREQUENCIES:
        known = ", ".join(FREQUENCIES)
        raise ValueError(f"{path} has the frequency {header.frequency!r}, expected one of {known}; pass freq=")
    return FREQUENCIES[header.frequency]


def _read_line(line: str, header: TsfHeader, freq: str, index: int) -> Series:
    *cells, values = line.split(":")
    if len(cells) != len(header.attributes):
        raise ValueError(f"expected {len(header.attributes)} attributes before the values, got {len(cells)}")
    attributes = {name: cell for (name, _), cell in zip(header.attributes, cells, strict=True)}
    dates = [attributes[name] for name, kind in header.attributes if kind == "date"]
    item_id = attributes.get("series_name", f"T{index + 1}")
    rest = [cell for name, cell in attributes.items() if name not in ("series_name", "start_timestamp")]
    target = np.array(values.replace("?", "nan").split(","), dtype=np.float64)
    return Series(":".join([item_id, *rest]), _as_stamp(dates[0]) if dates else UNDATED, freq, target)


def _as_stamp(text: str) -> np.datetime64:
    day, _, clock = text.partition(" ")  # the archive writes 1915-01-01 00-00-00
    return np.datetime64(f"{day}T{(clock or '00-00-00').replace('-', ':')}", "s")


def read_m4(train: Path, test: Path | None, *, freq: str, name: str) -> SeriesList:
    """The M4 competition's rows "V1, V2, …": train values followed by the test values of the same id.

    The published files carry no dates: every series starts at `UNDATED`.
    Raises: CorruptFileError where a row is no row of numbers, ValueError where train and test name other series.
    """
    past = _read_m4_rows(train)
    future = _read_m4_rows(test) if test is not None else {key: np.empty(0) for key in past}
    if past.keys() != future.keys():
        odd = sorted(past.keys() ^ future.keys())
        raise ValueError(
            f"{train} and {test} must hold the same series, but {len(odd)} are in one only, e.g. {odd[:3]}"
        )
    series = [Series(key, UNDATED, freq, np.concatenate([values, future[key]])) for key, values in past.items()]
    return SeriesList(series, name)


def _read_m4_rows(path: Path) -> dict[str, np.ndarray]:
    rows = {}
    with open_data(path) as file:
        lines = TextIOWrapper(file, encoding="utf-8")
        next(lines, None)
        for number, line in enumerate(lines, start=2):
            key, *cells = (cell.strip('"') for cell in line.rstrip("\r\n").split(","))
            try:
                rows[key] = np.array([cell for cell in cells if cell not in ("", "NA")], dtype=np.float64)
            except ValueError as error:
                raise CorruptFileError(f"{path}, line {number} ({key}): {error}; get it again") from None
    if not rows:
        raise CorruptFileError(f"{path} holds no series; get it again")
    return rows
