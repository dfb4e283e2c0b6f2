"""Real and synthetic time series: registry, download, loaders, transforms, batches.

Importing this package is light: pandas, pyarrow, datasets, GluonTS and statsmodels are imported by the loaders that
need them.
"""

from tsfm_lab.data.frequency import infer_frequency, mase_season, parse_frequency, season_length
from tsfm_lab.data.series import Concatenation, Series, SeriesCollection, SeriesList, Subset

__all__ = [
    "Concatenation",
    "Series",
    "SeriesCollection",
    "SeriesList",
    "Subset",
    "infer_frequency",
    "mase_season",
    "parse_frequency",
    "season_length",
]
