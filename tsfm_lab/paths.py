"""Where things lie: the checkout, its data, its cache and its runs.

Each path follows from this file's place, or from an environment variable, never from the working directory
(papermill keeps the caller's, nbval changes to the notebook's):

========  ==============  =====================
constant  variable        default
========  ==============  =====================
ROOT      TSFM_ROOT       the checkout
DATA      TSFM_DATA       ROOT/data
CACHE     TSFM_CACHE      DATA/cache
RUNS      TSFM_RUNS       ROOT/runs
========  ==============  =====================

Read them as ``paths.RUNS``, so that a test can point them elsewhere. An installed copy without a checkout needs
TSFM_ROOT.
"""

import os
from pathlib import Path


def _path(variable: str, default: Path) -> Path:
    value = os.environ.get(variable)
    return Path(value).expanduser().resolve() if value else default


ROOT = _path("TSFM_ROOT", Path(__file__).resolve().parent.parent)
DATA = _path("TSFM_DATA", ROOT / "data")
CACHE = _path("TSFM_CACHE", DATA / "cache")
RUNS = _path("TSFM_RUNS", ROOT / "runs")
NOTEBOOKS = ROOT / "notebooks"
