"""Runs: a notebook's configuration, its directory, its record; refreshing and launching notebooks."""

from tsfm_lab.runs.config import config_hash, resolve_config
from tsfm_lab.runs.directory import RunDirectory, open_run
from tsfm_lab.runs.files import atomic_write, write_json
from tsfm_lab.runs.lock import RunLocked
from tsfm_lab.runs.metrics import MetricsLog
from tsfm_lab.runs.preemption import Preempted, preemption_requests

__all__ = [
    "MetricsLog",
    "Preempted",
    "RunDirectory",
    "RunLocked",
    "atomic_write",
    "config_hash",
    "open_run",
    "preemption_requests",
    "resolve_config",
    "write_json",
]
