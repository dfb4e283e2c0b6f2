"""Synthetic corpora: families of random series, their mix, and a lazy collection of it. Needs numpy and scipy only."""

from tsfm_lab.data.synthetic.arma import ARMA
from tsfm_lab.data.synthetic.calendar import Calendar
from tsfm_lab.data.synthetic.collection import SyntheticCollection
from tsfm_lab.data.synthetic.events import Events
from tsfm_lab.data.synthetic.family import FREQUENCIES, SEASONS, Family
from tsfm_lab.data.synthetic.intermittent import IntermittentCounts
from tsfm_lab.data.synthetic.kernel_synth import KernelSynth
from tsfm_lab.data.synthetic.lds import LinearSystem
from tsfm_lab.data.synthetic.mix import SyntheticMix
from tsfm_lab.data.synthetic.mixup import TSMixup
from tsfm_lab.data.synthetic.seasonal import SeasonalTrend

__all__ = [
    "ARMA",
    "FREQUENCIES",
    "SEASONS",
    "Calendar",
    "Events",
    "Family",
    "IntermittentCounts",
    "KernelSynth",
    "LinearSystem",
    "SeasonalTrend",
    "SyntheticCollection",
    "SyntheticMix",
    "TSMixup",
]
