"""One process at a time works in a run directory; what a dead one left behind is recognised."""

import json
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

HEARTBEAT = 30.0  # seconds between two signs of life of the holder
SILENCE = 300.0  # seconds without a sign of life after which a holder on another host counts as dead


class RunLocked(RuntimeError):
    """The run directory is in use by another process."""


class RunLock:
    """The file `lock` in a run directory: who works there; its modification time is the sign of life."""

    def __init__(self, run: Path) -> None:
        self.path = Path(run) / "lock"
        self._stop = threading.Event()

    def acquire(self) -> None:
        """Take the lock, over a dead holder's if need be; raises RunLocked naming a living holder."""
        while True:
            try:
                file = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
                break
            except FileExistsError:
                holder = living_holder(self.path.parent)
                if holder and not _is_me(holder):
                    raise RunLocked(
                        f"{self.path.parent} is in use by process {holder['pid']} on {holder['host']}; "
                        f"wait for it or stop it, or remove {self.path} if it is gone"
                    ) from None
                self.path.unlink(missing_ok=True)
        with os.fdopen(file, "w") as stream:
            json.dump(_identity(), stream)
        self._stop.clear()
        threading.Thread(target=self._beat, daemon=True).start()

    def release(self) -> None:
        """Give the lock back."""
        self._stop.set()
        self.path.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT):
            try:
                os.utime(self.path)
            except FileNotFoundError:
                return


def living_holder(run: Path) -> dict[str, Any] | None:
    """Who works in this run directory (host, pid, job_id), or None when nobody does or the holder is dead.

    On this host a holder is dead when its process is gone. Elsewhere it is when it has been silent for five minutes,
    or when it was an earlier start of this very SLURM job.
    """
    path = Path(run) / "lock"
    try:
        holder, silent = json.loads(path.read_text()), time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return None
    except json.JSONDecodeError:  # killed between making the file and writing it
        return None if time.time() - path.stat().st_mtime > 1.0 else {"host": "unknown", "pid": -1, "job_id": None}
    if holder["host"] == socket.gethostname():
        return holder if _started(holder["pid"]) == holder["started"] else None
    requeued = holder["job_id"] is not None and holder["job_id"] == os.environ.get("SLURM_JOB_ID")
    return None if requeued or silent > SILENCE else holder


def _identity() -> dict[str, Any]:
    pid = os.getpid()
    return {
        "host": socket.gethostname(),
        "pid": pid,
        "started": _started(pid),
        "job_id": os.environ.get("SLURM_JOB_ID"),
    }


def _is_me(holder: dict[str, Any]) -> bool:
    return (holder["host"], holder["pid"]) == (socket.gethostname(), os.getpid())


def _started(pid: int) -> str | None:
    """When a process of this host started (kernel ticks), so that a reused pid is not taken for the holder."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        if not Path("/proc").exists() and _answers(pid):
            return "unknown"
        return None
    return stat.rpartition(")")[2].split()[19]


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True
