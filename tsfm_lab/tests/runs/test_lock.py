"""A run directory has one worker at a time."""

import json
import os
import subprocess
import sys
import time

import pytest

from tsfm_lab.runs.lock import SILENCE, RunLock, RunLocked, living_holder

HOLD = """
import sys, time
from tsfm_lab.runs.lock import RunLock
RunLock(sys.argv[1]).acquire()
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_the_second_is_refused_with_the_pid_of_the_first(holder, tmp_path):
    with pytest.raises(RunLocked, match=f"in use by process {holder.pid} on"):
        RunLock(tmp_path).acquire()


def test_the_lock_of_a_killed_process_is_taken_over(holder, tmp_path):
    holder.kill()
    holder.wait()
    assert living_holder(tmp_path) is None
    RunLock(tmp_path).acquire()
    assert living_holder(tmp_path)["pid"] == os.getpid()


def test_a_pid_used_again_is_not_taken_for_the_holder(tmp_path):
    RunLock(tmp_path).acquire()
    held = json.loads((tmp_path / "lock").read_text())
    (tmp_path / "lock").write_text(json.dumps({**held, "started": "1"}))
    assert living_holder(tmp_path) is None


def test_a_silent_holder_on_another_host_counts_as_dead(tmp_path):
    lock = tmp_path / "lock"
    lock.write_text(json.dumps({"host": "elsewhere", "pid": 1, "started": "1", "job_id": None}))
    assert living_holder(tmp_path)["host"] == "elsewhere"
    long_ago = time.time() - SILENCE - 1
    os.utime(lock, (long_ago, long_ago))
    assert living_holder(tmp_path) is None


def test_an_earlier_start_of_the_same_job_counts_as_dead(tmp_path, monkeypatch):
    (tmp_path / "lock").write_text(json.dumps({"host": "elsewhere", "pid": 1, "started": "1", "job_id": "77"}))
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    assert living_holder(tmp_path) is None


def test_a_released_lock_is_free(tmp_path):
    lock = RunLock(tmp_path)
    lock.acquire()
    lock.release()
    assert living_holder(tmp_path) is None
