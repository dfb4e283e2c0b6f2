"""The directory of a run: what was asked (config.json), where and with what it ran (manifest.json), what came out.

runs/<notebook>/<scale>-<config hash>/ is a function of the configuration alone, so a requeued job finds its own work
and a changed option gets a directory of its own. One execution that trains several models gives each a child directory.
"""

import datetime
import functools
import importlib.metadata
import json
import os
import platform
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tsfm_lab import paths
from tsfm_lab.runs.config import config_hash, hashed_fields
from tsfm_lab.runs.files import read_json, write_json
from tsfm_lab.runs.lock import RunLock
from tsfm_lab.runs.metrics import MetricsLog

_PACKAGES = ("torch", "lightning", "numpy", "scipy", "pandas", "gluonts", "tsfm-lab")


class RunDirectory:
    """One run's directory, made or reopened.

    path: the directory. config: plain values, written as config.json.
    Raises ValueError when the directory belongs to another configuration.
    """

    def __init__(self, path: Path, config: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.path.mkdir(parents=True, exist_ok=True)
        config = json.loads(json.dumps(config))  # tuples as the lists that the file will hold
        config_file = self.path / "config.json"
        if not config_file.exists():
            if global_rank() == 0:
                write_json(config_file, config)
        elif json.loads(config_file.read_text()) != config:
            raise ValueError(f"{self.path} holds a run of another configuration; compare {config_file} or move it away")
        self.config = config
        self._lock = RunLock(self.path)

    @property
    def checkpoints(self) -> Path:
        """Directory of the run's checkpoints, made on first use."""
        path = self.path / "checkpoints"
        path.mkdir(exist_ok=True)
        return path

    def child(self, name: str, **config: Any) -> "RunDirectory":
        """The directory of one of several models of this run, e.g. `child("moirai-s0", model="moirai", seed=0)`."""
        return RunDirectory(self.path / name, {**self.config, **config})

    def metrics(self, columns: Sequence[str]) -> MetricsLog:
        """Open metrics.csv with these columns (new, or to go on with)."""
        return MetricsLog(self.path / "metrics.csv", columns)

    def manifest(self) -> dict[str, Any]:
        """What manifest.json says; an empty dict before the first attempt."""
        return read_manifest(self.path)

    def start(self, *, device: str = "cpu", data_checksums: Mapping[str, str] | None = None) -> None:
        """Lock the directory and record an attempt in manifest.json, beside the earlier ones.

        An attempt has commit, versions, device, host, pid, job id, start, end and status. Raises RunLocked, naming the
        other's host and pid, while another process works here. Of several ranks only rank 0 does anything.
        """
        if global_rank() > 0:
            return
        self._lock.acquire()
        attempt = {
            "status": "running",
            "start": utc_now(),
            "end": None,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "job_id": os.environ.get("SLURM_JOB_ID"),
            "device": device,
            "commit": git_commit(),
            "versions": versions(),
        }
        manifest = self.manifest()
        manifest["seed"] = self.config.get("seed", self.config.get("seeds"))
        manifest["data_checksums"] = dict(data_checksums or {})
        manifest["attempts"] = [*manifest.get("attempts", []), attempt]
        write_json(self.path / "manifest.json", manifest)

    def finish(self, status: str = "finished") -> None:
        """Close the attempt that `start` opened, with its `status` ("finished", "failed", "preempted"), and unlock."""
        if global_rank() > 0:
            return
        if not self.manifest().get("attempts"):
            raise ValueError(f"{self.path} has no attempt to finish; call start() first")
        close_attempt(self.path, status)
        self._lock.release()

    @property
    def finished(self) -> bool:
        """Whether the last attempt ended with status "finished"."""
        return is_finished(self.path)


def read_manifest(run: Path) -> dict[str, Any]:
    """What manifest.json of a run directory says; an empty dict where there is none."""
    return read_json(Path(run) / "manifest.json")


def is_finished(run: Path) -> bool:
    """Whether the last attempt recorded in a run directory ended with status "finished"."""
    attempts = read_manifest(run).get("attempts", [])
    return bool(attempts) and attempts[-1]["status"] == "finished"


def close_attempt(run: Path, status: str) -> None:
    """Give the last attempt of a run directory its end and status, unless it has them already or there is none."""
    manifest = read_manifest(run)
    attempts = manifest.get("attempts", [])
    if attempts and attempts[-1]["end"] is None:
        attempts[-1].update(status=status, end=utc_now())
        write_json(Path(run) / "manifest.json", manifest)


def run_path(notebook: str, config: Any) -> Path:
    """runs/<notebook>/<scale>-<first 8 of the configuration's hash>."""
    return paths.RUNS / notebook / f"{config.scale}-{config_hash(config)}"


def open_run(notebook: str, config: Any) -> RunDirectory:
    """Make or reopen the directory of this notebook's run with this configuration (a dataclass with a `scale`)."""
    return RunDirectory(run_path(notebook, config), hashed_fields(config))


def global_rank() -> int:
    """This process's rank in a job started by srun or torchrun; 0 outside one."""
    return int(os.environ.get("SLURM_PROCID", os.environ.get("RANK", "0")))


@functools.cache
def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on (those installed)."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def git_commit() -> str | None:
    """The checkout's commit, with "+changes" where tracked files differ from it; None outside a git checkout."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(paths.ROOT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        commit, changes = git("rev-parse", "HEAD"), git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{commit}+changes" if changes else commit


def utc_now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
