"""Frequencies: one canonical string for old and new pandas aliases, offsets and time deltas; seasons; stamps.

A canonical frequency is `<n><unit>[-<anchor>]` with units s, min, h, D, B, W, M, Q, Y (pandas' Period aliases):
"15min", "h", "D", "W-SUN", "M", "Q-DEC", "Y-DEC". Start-stamped and end-stamped variants (MS and ME, QS-OCT and QE-DEC)
are the same periods and have the same name. Nothing here imports pandas.
"""

import re
from datetime import timedelta
from functools import lru_cache
from math import gcd

import numpy as np

MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
WEEKDAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
SECONDS = {"s": 1, "min": 60, "h": 3600, "D": 86400}
MONTHS_PER_STEP = {"M": 1, "Q": 3, "Y": 12}

_ALIASES = {
    "s": "s S sec second seconds",
    "min": "min T t MIN Min minute minutes",
    "h": "h H hour hours hr",
    "D": "D d day days",
    "B": "B b",
    "W": "W w week weeks",
    "M": "M ME MS BM BME BMS CBM CBME CBMS month months",
    "Q": "Q QE QS BQ BQE BQS quarter quarters q",
    "Y": "Y YE YS A AE AS BA BAS BY BYE BYS year years y",
}
_UNIT = {alias: unit for unit, aliases in _ALIASES.items() for alias in aliases.split()}
_STARTS = {"QS", "BQS", "YS", "AS", "BAS", "BYS"}  # their anchor is the first month of a period, not the last
_TOKEN = re.compile(r"(\d*)([A-Za-z]+)")


def parse_frequency(freq, item: str | None = None) -> str:
    """The canonical name of a frequency.

    freq: a pandas alias of any version ("H", "5T", "ME", "AS-JAN", "1h30min"), a pandas offset, period dtype or index
    (anything with `freqstr`), a `timedelta` or a `numpy.timedelta64`. item: the series' name, for the message.
    Raises: ValueError where freq is None, unknown, or finer than a second.
    """
    if isinstance(freq, timedelta | np.timedelta64):
        return _from_seconds(freq / (timedelta(seconds=1) if isinstance(freq, timedelta) else np.timedelta64(1, "s")))
    if not isinstance(freq, str):
        freq = getattr(freq, "freqstr", getattr(freq, "freq", freq))
        freq = getattr(freq, "freqstr", freq)  # a period dtype carries its offset
    if freq is None:
        raise ValueError(f"{_of(item)}has no frequency; pass freq=, e.g. 'h', '15min', 'D', 'W-SUN' or 'M'")
    if not isinstance(freq, str):
        raise ValueError(
            f"{_of(item)}has the frequency {freq!r} of type {type(freq).__name__}; pass a string such as 'h'"
        )
    try:
        return _parse(freq)
    except ValueError as error:
        raise ValueError(f"{_of(item)}{error}") from None


def _of(item: str | None) -> str:
    return "the series " if item is None else f"series {item!r} "


@lru_cache(maxsize=4096)
def _parse(freq: str) -> str:
    body, _, anchor = freq.strip().partition("-")
    tokens = _TOKEN.findall(body)
    if not tokens or "".join(n + name for n, name in tokens) != body:
        raise ValueError(
            f"has the unreadable frequency {freq!r}; expected e.g. 'h', '15min', 'D', 'W-SUN', 'M', 'Q-DEC'"
        )
    unknown = [name for _, name in tokens if name not in _UNIT]
    if unknown:
        hint = "; write 'min' for minutes or 'M' for months" if unknown == ["m"] else ""
        raise ValueError(
            f"has the unknown frequency {freq!r}{hint}; units are {', '.join(_ALIASES)} and pandas' aliases"
        )
    steps = [(int(n or 1), _UNIT[name]) for n, name in tokens]
    if any(n < 1 for n, _ in steps):
        raise ValueError(f"has the frequency {freq!r}, whose step is zero; it must be at least 1")
    if all(unit in SECONDS for _, unit in steps):
        if anchor:
            raise ValueError(
                f"has the frequency {freq!r}, whose anchor means nothing for a fixed step; drop '-{anchor}'"
            )
        return _from_seconds(sum(n * SECONDS[unit] for n, unit in steps))
    if len(steps) > 1:
        raise ValueError(f"has the frequency {freq!r}, which mixes units; only fixed units add up (e.g. '1h30min')")
    (n, unit), (_, name) = steps[0], tokens[0]
    return f"{n if n > 1 else ''}{unit}{_anchor(unit, name, anchor.upper(), freq)}"


def _anchor(unit: str, name: str, anchor: str, freq: str) -> str:
    known = {"W": WEEKDAYS, "Q": MONTHS, "Y": MONTHS}.get(unit, ())
    if anchor and anchor not in known:
        raise ValueError(
            f"has the frequency {freq!r} with the unknown anchor {anchor!r}; {unit} takes {known or 'none'}"
        )
    if unit == "W":
        return f"-{anchor or 'SUN'}"
    if unit not in ("Q", "Y"):
        return ""
    month = MONTHS.index(anchor or ("JAN" if name in _STARTS else "DEC"))
    last = (month - 1) % 12 if unit == "Y" else (month + 2) % 12
    month = last if name in _STARTS else month
    if unit == "Q":  # quarters ending in Mar, Jun, Sep, Dec are one partition of time, whichever month names it
        month = 9 + month % 3
    return f"-{MONTHS[month]}"


def _from_seconds(seconds: float) -> str:
    if seconds <= 0 or seconds != int(seconds):
        raise ValueError(
            f"has a step of {seconds} s; steps must be whole seconds, at least 1: resample, or rescale time"
        )
    unit = next(unit for unit in ("D", "h", "min", "s") if seconds % SECONDS[unit] == 0)
    n = int(seconds) // SECONDS[unit]
    return f"{n if n > 1 else ''}{unit}"


def split_frequency(freq: str) -> tuple[int, str, str]:
    """(multiple, unit, anchor or "") of a frequency: "15min" -> (15, "min", ""), "W" -> (1, "W", "SUN")."""
    body, _, anchor = parse_frequency(freq).partition("-")
    ((n, unit),) = _TOKEN.findall(body)
    return int(n or 1), unit, anchor


def mase_season(freq: str) -> int:
    """Season of the MASE denominator in steps, as GluonTS has it: h 24, 15min 96, B 5, M 12, Q 4, else 1."""
    n, unit, _ = split_frequency(freq)
    base = {"s": 3600, "min": 1440, "h": 24, "B": 5, "M": 12, "Q": 4}.get(unit, 1)
    return base // n if base % n == 0 else 1


def season_length(freq: str) -> int:
    """Season of the seasonal-naive forecast in steps: as the MASE season, but D 7 and W 52.

    A step that does not divide the cycle of its unit takes the next longer one: 7h divides the week (24 steps), not the
    day. 1 where no cycle fits.
    """
    n, unit, _ = split_frequency(freq)
    cycles = {"D": (7, 364), "W": (52,), "B": (5,), "M": (12,), "Q": (4,), "s": (3600, 86400), "min": (1440, 10080)}
    cycles["h"] = (24, 168)
    return next((cycle // n for cycle in cycles.get(unit, ()) if cycle % n == 0 and cycle > n), 1)


def stamps(start: np.datetime64, freq: str, n: int) -> np.ndarray:
    """The stamps of n steps: start + i · freq for i < n, datetime64[s] (t).

    Months, quarters and years keep the day of the month of `start` (the last day stays the last day: a month-end series
    stays one), business days skip weekends.
    """
    return stamps_at(start, freq, np.arange(n))


def stamps_at(start: np.datetime64, freq: str, steps: np.ndarray) -> np.ndarray:
    """The stamps of the given steps after start, of any order: steps (m) -> (m) datetime64[s]; see `stamps`."""
    start = np.datetime64(start, "s")
    multiple, unit, _ = split_frequency(freq)
    i = multiple * np.asarray(steps)
    if unit in SECONDS:
        return start + i * np.timedelta64(SECONDS[unit], "s")
    if unit == "W":
        return start + i * np.timedelta64(7 * 86400, "s")
    day, clock = start.astype("datetime64[D]"), start - start.astype("datetime64[D]")
    if unit == "B":
        return np.busday_offset(day, i, roll="forward").astype("datetime64[s]") + clock
    month = day.astype("datetime64[M]")
    months = month + (i * MONTHS_PER_STEP[unit]).astype("timedelta64[M]")
    first = months.astype("datetime64[D]")
    last = (months + 1).astype("datetime64[D]") - 1
    if day == (month + 1).astype("datetime64[D]") - 1:
        days = last
    else:
        days = np.minimum(first + (day - month.astype("datetime64[D]")), last)
    return days.astype("datetime64[s]") + clock


def step_index(values: np.ndarray, start: np.datetime64, freq: str) -> np.ndarray:
    """How many steps of `freq` each stamp lies after `start`: (t) int64; the inverse of `stamps` on its grid.

    A stamp off the grid belongs to the period that holds it (month, quarter, year) or to the step that it follows.
    """
    values, start = np.asarray(values, "datetime64[s]"), np.datetime64(start, "s")
    n, unit, _ = split_frequency(freq)
    if unit in MONTHS_PER_STEP:
        months = (values.astype("datetime64[M]") - start.astype("datetime64[M]")).astype(np.int64)
        return months // (n * MONTHS_PER_STEP[unit])
    if unit == "B":
        first = np.busday_offset(start.astype("datetime64[D]"), 0, roll="forward")
        return np.busday_count(first, values.astype("datetime64[D]")) // n
    step = n * (7 * 86400 if unit == "W" else SECONDS[unit])
    return (values - start).astype(np.int64) // step


def infer_frequency(values: np.ndarray) -> str | None:
    """The canonical frequency on whose grid the stamps (t) lie, gaps and repeats allowed; None where there is none.

    The step is the greatest common divisor of the differences, accepted where it also is the commonest difference:
    irregular stamps have a divisor too, but do not step by it.
    """
    values = np.unique(np.asarray(values, "datetime64[s]"))
    if len(values) < 3:
        return None
    delta = np.diff(values).astype(np.int64)
    day, month = values.astype("datetime64[D]"), values.astype("datetime64[M]")
    same_clock = (values - day == values[0] - day[0]).all()
    of_month = (day - month.astype("datetime64[D]")).astype(int)
    to_end = ((month + 1).astype("datetime64[D]") - day).astype(int)
    at_month_end = bool((to_end == 1).all())
    if same_clock and delta.min() >= 28 * 86400 and (len(set(of_month.tolist())) == 1 or at_month_end):
        return _infer_months(month, at_month_end)
    crosses_weekend = np.busday_count(day[0], day[-1]) < (day[-1] - day[0]).astype(int)
    if same_clock and np.is_busday(day).all() and crosses_weekend and _commonest(delta) == 86400:
        return "B"
    step, commonest = gcd(*delta.tolist()), _commonest(delta)
    if step != commonest:
        return None
    if step % (7 * 86400) == 0:
        weekday = WEEKDAYS[(day[0].astype(int) + 3) % 7]  # 1970-01-01 is a Thursday
        weeks = step // (7 * 86400)
        return f"{weeks if weeks > 1 else ''}W-{weekday}"
    return _from_seconds(step)


def _infer_months(month: np.ndarray, at_month_end: bool) -> str | None:
    delta = np.diff(month).astype(np.int64)
    step, commonest = gcd(*delta.tolist()), _commonest(delta)
    if step != commonest:
        return None
    unit = next(unit for unit in ("Y", "Q", "M") if step % MONTHS_PER_STEP[unit] == 0)
    n = step // MONTHS_PER_STEP[unit]
    anchor = MONTHS[month[0].astype(int) % 12]
    side = "E" if at_month_end else "S"
    return parse_frequency(f"{n if n > 1 else ''}{unit}{side}" + (f"-{anchor}" if unit != "M" else ""))


def _commonest(delta: np.ndarray) -> int:
    found, counts = np.unique(delta, return_counts=True)
    return int(found[counts.argmax()])
