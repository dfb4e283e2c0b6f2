"""What the synthetic families share: the interface, season lengths and the frequency that goes with each."""

from typing import Protocol

import numpy as np

# season in steps -> frequencies that have it; patch sizes follow from the frequency, so it has to fit the season
FREQUENCIES = {
    4: ("Q-DEC", "W-SUN"),
    6: ("M",),
    7: ("D",),
    10: ("Y-DEC",),
    12: ("M",),
    14: ("D",),
    24: ("h",),
    26: ("W-SUN",),
    30: ("D",),
    40: ("Q-DEC",),
    48: ("30min",),
    52: ("W-SUN",),
    60: ("D",),
    96: ("15min",),
    144: ("10min",),
    168: ("h",),
    288: ("5min",),
    336: ("30min",),
    365: ("D",),
    672: ("15min",),
    730: ("D",),
}
SEASONS = (4, 6, 7, 12, 14, 24, 30, 48, 52, 96, 144, 168, 288, 336, 365)  # steps


class Family(Protocol):
    """A kind of random series. `draw_shape` comes first and is cheap, so that a collection knows its lengths early."""

    def draw_shape(self, rng: np.random.Generator, length: int) -> tuple[int, int]:
        """(c, t): variates and steps of the next series of nominally `length` steps."""

    def draw(self, rng: np.random.Generator, shape: tuple[int, int]) -> tuple[np.ndarray, str]:
        """Values (c t) float64, NaN = missing, and the canonical frequency that fits their season."""


class Univariate:
    """The shape of a family with one variate and as many steps as asked for."""

    def draw_shape(self, rng: np.random.Generator, length: int) -> tuple[int, int]:
        return 1, length


def draw_frequency(rng: np.random.Generator, season: int | None) -> str:
    """A frequency with this dominant season (steps); yearly for none."""
    known = FREQUENCIES.get(season, ("Y-DEC",))
    return known[rng.integers(len(known))]


def draw_season(rng: np.random.Generator, seasons: tuple[int, ...], length: int) -> int:
    """One of `seasons` that a series of `length` steps shows at least twice; the shortest where none does."""
    visible = [m for m in seasons if 2 * m <= length] or [min(seasons)]
    return visible[rng.integers(len(visible))]


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """exp(U(log low, log high))."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))
