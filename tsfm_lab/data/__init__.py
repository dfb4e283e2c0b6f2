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
from tsfm_lab.data.mixture import Mixture, Source
from tsfm_lab.data.packing import PackedBatch, first_fit_decreasing, pack_rows, packing_waste
from tsfm_lab.data.parquet import ParquetCollection
from tsfm_lab.data.registry import Entry, entries, find, gift_eval_configurations, in_domain, lotsa_weights, pools
from tsfm_lab.data.series import Concatenation, Series, SeriesCollection, SeriesList, Subset
from tsfm_lab.data.skips import SkipReport
from tsfm_lab.data.stream import TrainingStream
from tsfm_lab.data.synthetic import SyntheticCollection, SyntheticMix
from tsfm_lab.data.transfer import DownloadError
from tsfm_lab.data.transforms import UnusableSeries, apply_chain, as_sample, pretraining_chain, trace_chain
from tsfm_lab.data.tslib import UTSD, MultivariateDatasetBenchmark, UnivariateDatasetBenchmark, split_borders
from tsfm_lab.data.workers import PackedLoader

__all__ = [
    "UTSD",
    "ArrowCollection",
    "Concatenation",
    "CorruptFileError",
    "DownloadError",
    "Entry",
    "Layout",
    "Leak",
    "Mixture",
    "MultivariateDatasetBenchmark",
    "PackedBatch",
    "PackedLoader",
    "ParquetCollection",
    "Series",
    "SeriesCollection",
    "SeriesList",
    "SkipReport",
    "Source",
    "Subset",
    "SyntheticCollection",
    "SyntheticMix",
    "TrainingStream",
    "UnivariateDatasetBenchmark",
    "UnusableSeries",
    "apply_chain",
    "as_sample",
    "clean",
    "entries",
    "fetch",
    "find",
    "find_leaks",
    "find_problems",
    "first_fit_decreasing",
    "from_frame",
    "gift_eval_configurations",
    "in_domain",
    "infer_frequency",
    "load",
    "load_pool",
    "load_table",
    "lotsa_weights",
    "mase_season",
    "pack_rows",
    "packing_waste",
    "parse_frequency",
    "pools",
    "pretraining_chain",
    "read_csv",
    "screen",
    "season_length",
    "split_borders",
    "stamps",
    "trace_chain",
    "write_lotsa",
]
