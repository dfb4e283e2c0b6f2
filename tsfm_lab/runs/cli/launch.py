"""Launch a notebook here or on SLURM, after checking whatever can be checked before it is queued."""

import itertools
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from tsfm_lab import paths
from tsfm_lab.data import Entry, find
from tsfm_lab.data.download import is_at_hand
from tsfm_lab.data.hub import VARIABLES, local_folders
from tsfm_lab.runs.cli.request import Request, read_request
from tsfm_lab.runs.directory import is_finished, utc_now
from tsfm_lab.runs.files import write_json
from tsfm_lab.runs.lock import living_holder
from tsfm_lab.training.corpora import registered_sets

MIN_FREE_GB = 2.0  # free disk below which nothing is launched
SHOWN = 3  # data sets that a message names
DATA_FIELDS = ("data", "pretrain_data", "held_out")  # of a configuration, that name data sets
BATCH_SCRIPT = paths.ROOT / "runs" / "slurm" / "notebook.sbatch"


def check(request: Request) -> None:
    """Raise ValueError, with the remedy, unless the run can be expected to start: directory, disk, lock."""
    run = request.path
    try:
        run.mkdir(parents=True, exist_ok=True)
        (run / ".writable").touch()
        (run / ".writable").unlink()
    except OSError as error:
        raise ValueError(f"cannot write to the run directory {run} ({error}); set TSFM_RUNS to one you may") from None
    free = shutil.disk_usage(run).free / 1e9
    if free < MIN_FREE_GB:
        raise ValueError(f"{run} has {free:.1f} GB of free disk, {MIN_FREE_GB} are needed; free some or set TSFM_RUNS")
    if holder := living_holder(run):
        raise ValueError(f"{run} is in use by process {holder['pid']} on {holder['host']}; wait for it or stop it")


def check_data(request: Request) -> None:
    """Raise ValueError naming the data sets that a node without a network could not open, and how to get them.

    Looks at the configuration's fields in DATA_FIELDS: names as of `pretraining_mixture`.
    """
    given = [getattr(request.config, field, ()) for field in DATA_FIELDS]
    names = [name for value in given for name in ([value] if isinstance(value, str) else value)]
    for name in names:
        if not (registered_sets([name]) or name.startswith("synthetic") or Path(name.partition("=")[0]).exists()):
            find(name.partition("=")[0])  # raises, with the nearest names
    absent = [name for name in registered_sets(names) if not _is_at_hand(find(name))]
    if absent:
        named = ", ".join(absent[:SHOWN]) + (f" and {len(absent) - SHOWN} more" if len(absent) > SHOWN else "")
        families = {name.partition("/")[0] for name in absent}
        variables = ["TSFM_DATA_MIRROR", *(VARIABLES[family] for family in sorted(families & VARIABLES.keys()))]
        raise ValueError(
            f"data sets {named} are not in {paths.CACHE} and compute nodes have no network; get them first, "
            f"python -m tsfm_lab.data get {absent[0]} …, or set {' or '.join(variables)}"
        )


def _is_at_hand(entry: Entry) -> bool:
    if entry.hub:
        return any(folder.is_dir() for folder in local_folders(entry))
    return all(is_at_hand(file) for file in entry.files)


def set_aside(run: Path) -> None:
    """Rename a finished run's directory, so that the same configuration can run anew."""
    if is_finished(run):
        run.rename(run.with_name(f"{run.name}.until-{utc_now()[:19].replace(':', '')}"))


def expand_grid(grid: Sequence[Sequence[str]]) -> list[list[tuple[str, str]]]:
    """[["SEED", "0", "1"], ["K", "2"]] → the (name, text) pairs of each combination, the last name fastest."""
    named = [[(name, value) for value in values] for name, *values in grid]
    return [list(combination) for combination in itertools.product(*named)]


def sbatch_command(arguments: Sequence[str], *, job_name: str, log: Path, options: Sequence[str] = ()) -> list[str]:
    """The sbatch line for notebook.sbatch with these arguments; site options come from runs/slurm/site.env."""
    return ["sbatch", f"--job-name={job_name}", f"--output={log}", *options, str(BATCH_SCRIPT), *arguments]


def launch(
    notebook: str,
    parameter_file: str | None,
    parameters: Sequence[tuple[str, str]],
    *,
    grid: Sequence[Sequence[str]] = (),
    slurm: bool = False,
    dry_run: bool = False,
    again: bool = False,
    sbatch_options: Sequence[str] = (),
) -> int:
    """Check every run asked for, then start them: one after the other here, or as one job (array) on SLURM.

    Returns the exit code: 0, or that of the first local run that failed. Raises ValueError before anything is started.
    """
    cells = expand_grid(grid)
    requests = [read_request(notebook, parameter_file, [*parameters, *cell]) for cell in cells]
    for request in requests:
        if again and not dry_run:
            set_aside(request.path)
        check(request)
        if slurm:
            check_data(request)
    commands = (_slurm_commands if slurm else _local_commands)(requests, sbatch_options)
    for command in commands:
        print(shlex.join(command))
    if dry_run:
        for request in requests:
            if not any(request.path.iterdir()):
                request.path.rmdir()
        return 0
    codes = [subprocess.run(command).returncode for command in commands]
    return next((code for code in codes if code), 0)


def _pairs(request: Request) -> list[tuple[str, str]]:
    return [(name, _yaml(value)) for name, value in request.parameters.items()]


def _arguments(request: Request) -> list[str]:
    return [str(request.notebook), *itertools.chain.from_iterable(("-p", *pair) for pair in _pairs(request))]


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=10**9).removesuffix("\n...\n").strip()


def _local_commands(requests: Sequence[Request], options: Sequence[str]) -> list[list[str]]:
    return [[sys.executable, "-m", "tsfm_lab.runs", "execute", *_arguments(request)] for request in requests]


def _slurm_commands(requests: Sequence[Request], options: Sequence[str]) -> list[list[str]]:
    first = requests[0]
    if shutil.which("sbatch") is None:
        raise ValueError("there is no sbatch on this machine; launch with --local, or log in to the cluster")
    options = [*site_options(), *options]
    name = first.notebook.stem
    if len(requests) == 1:
        log = first.path / "slurm-%j.out"
        return [sbatch_command(_arguments(first), job_name=name, log=log, options=options)]
    cells = first.path.parent / f"grid-{utc_now()[:19].replace(':', '')}-{os.getpid()}.json"
    write_json(cells, [_pairs(request) for request in requests])
    log = cells.with_name(f"{cells.stem}-%A_%a.out")
    options = [*options, f"--array=0-{len(requests) - 1}"]
    return [sbatch_command([str(first.notebook), "--cells", str(cells)], job_name=name, log=log, options=options)]


def site_options() -> list[str]:
    """The cluster's own sbatch options: SBATCH_OPTIONS="--account=… --partition=…" in runs/slurm/site.env, if there."""
    site = BATCH_SCRIPT.with_name("site.env")
    if not site.exists():
        return []
    shell = f'. {shlex.quote(str(site))}; printf %s "${{SBATCH_OPTIONS:-}}"'
    return shlex.split(subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True).stdout)
