"""Real and synthetic time series: registry, download, loaders, transforms, batches.

Importing this package is light: pandas, pyarrow, datasets, GluonTS and statsmodels are imported by the loaders that
need them.
"""

from tsfm_lab.data.archives import CorruptFileError
from tsfm_lab.data.catalog import load, load_pool, load_table
from tsfm_lab.data.dirt import clean, find_problems, screen
from tsfm_lab.data.download import fetch
from tsfm_lab.data.frames import from_frame, read_csv
from tsfm_lab.data.frequency import infer_frequency, mase_season, parse_frequency, season_length, stamps
from tsfm_lab.data.leakage import Leak, find_leaks
from tsfm_lab.data.lotsa import ArrowCollection
from tsfm_lab.data.lotsa_writer import Layout, write_lotsa
from tsfm_lab.data.parquet import ParquetCollection
from tsfm_lab.data.registry import Entry, entries, find, gift_eval_configurations, in_domain, lotsa_weights, pools
from tsfm_lab.data.series import Concatenation, Series, SeriesCollection, SeriesList, Subset
from tsfm_lab.data.transfer import DownloadError
from tsfm_lab.data.tslib import UTSD, MultivariateDatasetBenchmark, UnivariateDatasetBenchmark, split_borders

__all__ = [
    "UTSD",
    "ArrowCollection",
    "Concatenation",
    "CorruptFileError",
    "DownloadError",
    "Entry",
    "Layout",
    "Leak",
    "MultivariateDatasetBenchmark",
    "ParquetCollection",
    "Series",
    "SeriesCollection",
    "SeriesList",
    "Subset",
    "UnivariateDatasetBenchmark",
    "clean",
    "entries",
    "fetch",
    "find",
    "find_leaks",
    "find_problems",
    "from_frame",
    "gift_eval_configurations",
    "in_domain",
    "infer_frequency",
    "load",
    "load_pool",
    "load_table",
    "lotsa_weights",
    "mase_season",
    "parse_frequency",
    "pools",
    "read_csv",
    "screen",
    "season_length",
    "split_borders",
    "stamps",
    "write_lotsa",
]
