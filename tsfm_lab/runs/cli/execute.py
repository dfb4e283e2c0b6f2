"""Execute a notebook into its run directory, as one rank of a job: locked, interruptible, leaving a record.

The run directory then holds executed.ipynb (the latest attempt), attempts/N.ipynb (every one) and status.json.
Ranks other than 0 write their notebooks under ranks/.
"""

import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tsfm_lab.runs.cli.request import Request
from tsfm_lab.runs.directory import close_attempt, global_rank, is_finished, utc_now
from tsfm_lab.runs.files import write_json
from tsfm_lab.runs.lock import RunLocked, living_holder
from tsfm_lab.runs.preemption import Preempted

EXIT_CODES = {"finished": 0, "failed": 1, "refused": 3, "preempted": 75}  # 75 is EX_TEMPFAIL: try again


def execute(request: Request) -> str:
    """Run the notebook and return its state: "finished", "failed", "refused" (somebody works there) or "preempted".

    A finished run is left alone. SIGUSR1 and SIGTERM reach the kernel as SIGUSR1, which training answers with a
    checkpoint; the attempt then counts as preempted.
    """
    rank, run = global_rank(), request.path
    if rank == 0 and (holder := living_holder(run)):
        print(f"{run} is in use by process {holder['pid']} on {holder['host']}", file=sys.stderr)
        return "refused"
    if is_finished(run):
        print(f"{run} is finished; move it away, or launch with --again, to run it anew")
        return "finished"
    output = _output(run, rank)
    if rank:
        return _run(request, output)["state"]
    write_json(run / "status.json", {"state": "running", "time": utc_now(), "notebook": output.name})
    outcome = _run(request, output)
    if outcome["state"] != "refused":
        if output.exists():
            shutil.copyfile(output, run / "executed.ipynb")
        write_json(run / "status.json", {**outcome, "time": utc_now(), "notebook": output.name})
        close_attempt(run, outcome["state"])
    print(f"{run}: {outcome['state']} {outcome.get('error', '')}".rstrip())
    return outcome["state"]


def _output(run: Path, rank: int) -> Path:
    """Where this attempt's notebook goes: attempts/N.ipynb, or ranks/rank<r>.ipynb."""
    directory = run / ("ranks" if rank else "attempts")
    directory.mkdir(parents=True, exist_ok=True)
    return directory / (f"rank{rank}.ipynb" if rank else f"{len(list(directory.iterdir())) + 1}.ipynb")


def _run(request: Request, output: Path) -> dict[str, Any]:
    """Execute with papermill; returns the state and, for a failure, its cell, error and traceback."""
    from papermill import execute_notebook
    from papermill.exceptions import PapermillExecutionError

    with _signals_to_kernel() as signalled:
        try:
            execute_notebook(request.notebook, output, request.parameters, progress_bar=False, log_output=True)
        except PapermillExecutionError as error:
            if error.ename == RunLocked.__name__:
                return {"state": "refused", "error": error.evalue}
            if signalled() or error.ename == Preempted.__name__:
                return {"state": "preempted"}
            details = {"cell": error.exec_count, "error": f"{error.ename}: {error.evalue}"}
            return {"state": "failed", **details, "traceback": error.traceback}
        except Exception as error:  # a kernel that died, a full disk: whatever ends the attempt is recorded
            if signalled():
                return {"state": "preempted"}
            return {"state": "failed", "error": repr(error), "traceback": traceback.format_exc().splitlines()}
    return {"state": "finished"}


@contextmanager
def _signals_to_kernel() -> Iterator[Callable[[], bool]]:
    """Within the block SIGUSR1 and SIGTERM go to the kernel, our child, as SIGUSR1; yields whether one came."""
    import psutil

    received = []

    def forward(number: int, frame: object) -> None:
        received.append(number)
        for child in psutil.Process().children():
            child.send_signal(signal.SIGUSR1)

    earlier = {number: signal.signal(number, forward) for number in (signal.SIGUSR1, signal.SIGTERM)}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
