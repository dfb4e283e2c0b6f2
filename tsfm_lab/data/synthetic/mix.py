"""The synthetic mix: series i of seed s, from one of the families, at a random scale."""

from dataclasses import dataclass, field

import numpy as np

from tsfm_lab.data.series import Series, SeriesCollection
from tsfm_lab.data.synthetic.arma import ARMA
from tsfm_lab.data.synthetic.calendar import Calendar
from tsfm_lab.data.synthetic.events import Events
from tsfm_lab.data.synthetic.family import Family, log_uniform
from tsfm_lab.data.synthetic.intermittent import IntermittentCounts
from tsfm_lab.data.synthetic.kernel_synth import KernelSynth
from tsfm_lab.data.synthetic.lds import LinearSystem
from tsfm_lab.data.synthetic.mixup import TSMixup
from tsfm_lab.data.synthetic.seasonal import SeasonalTrend

START = np.datetime64("2000-01-01", "s")


@dataclass(frozen=True, eq=False)
class SyntheticMix:
    """Families with their weights; series i of a seed depends on (seed, i) alone, so any process makes the same one.

    Afterwards x -> loc + scale·x, except for counts, which stay counts. A weight of zero leaves a family out.
    """

    length: int = 1024  # steps; mixed-up series have lengths of their own
    kernelsynth: float = 0.25
    tsmixup: float = 0.25
    seasonal_trend: float = 0.2
    arma: float = 0.1
    lds: float = 0.1
    intermittent: float = 0.05
    events: float = 0.05
    calendar: float = 0.0
    scale: tuple[float, float] = (1e-2, 1e4)  # log-uniform
    shifted: float = 0.5  # share with loc ≠ 0
    shift: float = 10.0  # standard deviation of loc, in units of scale
    mixup_pool: SeriesCollection | None = None  # series to mix up; None: fresh ones of the other families
    families: dict[str, Family] = field(init=False, repr=False)

    def __post_init__(self):
        if self.length < 16:
            raise ValueError(f"length must be at least 16 steps, two patches of the smallest size, got {self.length}")
        plain: dict[str, Family] = {
            "kernelsynth": KernelSynth(),
            "seasonal_trend": SeasonalTrend(),
            "arma": ARMA(),
            "lds": LinearSystem(),
            "intermittent": IntermittentCounts(),
            "events": Events(),
            "calendar": Calendar(),
        }
        weights = {name: getattr(self, name) for name in (*plain, "tsmixup")}
        if min(weights.values()) < 0 or not sum(weights.values()) > 0:
            raise ValueError(f"weights of the families must not be negative, nor all zero, got {weights}")
        pieces = [weights[name] for name in plain]
        if not any(pieces):  # nothing but mixed-up series is wanted: of the default families, all alike
            pieces = [float(getattr(SyntheticMix, name) > 0) for name in plain]
        mixup = TSMixup(tuple(plain.values()), tuple(pieces), self.mixup_pool)
        object.__setattr__(self, "families", {**plain, "tsmixup": mixup})

    def shape(self, seed: int, i: int) -> tuple[int, int]:
        """(c, t) of series i, without making it."""
        return self._begin(seed, i)[2]

    def series(self, seed: int, i: int) -> Series:
        """Series i of the seed: the same bits in any process of a machine, the same draws on any machine."""
        rng, name, shape = self._begin(seed, i)
        values, freq = self.families[name].draw(rng, shape)
        if name != "intermittent":
            scale = log_uniform(rng, *self.scale)
            loc = scale * self.shift * rng.standard_normal() * (rng.random() < self.shifted)
            values = loc + scale * values
        return Series(f"{name}-{seed}-{i}", START, freq, values)

    def _begin(self, seed: int, i: int) -> tuple[np.random.Generator, str, tuple[int, int]]:
        rng = np.random.default_rng((seed, i))
        weights = np.array([getattr(self, name) for name in self.families])
        name = list(self.families)[np.searchsorted(np.cumsum(weights), rng.random() * weights.sum(), side="right")]
        return rng, name, self.families[name].draw_shape(rng, self.length)
