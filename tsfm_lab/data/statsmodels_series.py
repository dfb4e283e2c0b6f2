"""The classic real series that statsmodels carries (public domain): there without a network."""

from collections.abc import Callable

import numpy as np

from tsfm_lab.data.series import Series, SeriesList


def load_statsmodels(name: str) -> SeriesList:
    """One of the series that come with statsmodels, as a collection of one item.

    co2: weekly, ppm, 59 missing values. sunspots: yearly numbers. elnino: monthly sea surface temperature, °C.
    nile: yearly flow, 10^8 m³. macrodata: 12 quarterly US series, one item of 12 variates.
    Raises: ValueError with the known names, ImportError with the install line.
    """
    if name not in READERS:
        raise ValueError(f"statsmodels carries no series {name!r} here; known are {', '.join(READERS)}")
    try:
        import statsmodels.datasets as datasets
    except ImportError as error:
        raise ImportError("the built-in real series need statsmodels: pip install statsmodels") from error
    return SeriesList([READERS[name](datasets)], name)


def _co2(datasets) -> Series:
    frame = datasets.co2.load_pandas().data
    return Series("co2", frame.index[0].to_datetime64(), "W-SAT", frame["co2"].to_numpy())


def _sunspots(datasets) -> Series:
    frame = datasets.sunspots.load_pandas().data
    return Series("sunspots", f"{int(frame['YEAR'].iloc[0])}-01-01", "Y", frame["SUNACTIVITY"].to_numpy())


def _elnino(datasets) -> Series:
    frame = datasets.elnino.load_pandas().data
    months = frame.drop(columns="YEAR").to_numpy(np.float64)
    return Series("elnino", f"{int(frame['YEAR'].iloc[0])}-01-01", "M", months.reshape(-1))


def _nile(datasets) -> Series:
    frame = datasets.nile.load_pandas().data
    return Series("nile", f"{int(frame['year'].iloc[0])}-01-01", "Y", frame["volume"].to_numpy())


def _macrodata(datasets) -> Series:
    frame = datasets.macrodata.load_pandas().data
    values = frame.drop(columns=["year", "quarter"]).to_numpy(np.float64)
    return Series("macrodata", f"{int(frame['year'].iloc[0])}-01-01", "Q", values.T)


READERS: dict[str, Callable[..., Series]] = {
    "co2": _co2,
    "elnino": _elnino,
    "macrodata": _macrodata,
    "nile": _nile,
    "sunspots": _sunspots,
}
