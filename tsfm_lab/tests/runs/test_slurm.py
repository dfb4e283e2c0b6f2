"""The batch path on a real SLURM, where one answers: two ranks, preemption, requeue, failure, arrays, locks."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tsfm_lab.runs.directory import read_manifest
from tsfm_lab.runs.files import read_json
from tsfm_lab.runs.metrics import read_rows


def _slurm_answers() -> bool:
    if shutil.which("sinfo") is None or os.environ.get("TSFM_TEST_SLURM") != "1":
        return False
    return subprocess.run(["sinfo", "-h"], capture_output=True, timeout=20).returncode == 0


pytestmark = pytest.mark.skipif(
    not _slurm_answers(), reason="set TSFM_TEST_SLURM=1 on a machine where SLURM answers to run the batch-path tests"
)

# one model, one seed, few steps: what is tested is the path, not the model
TRAINING = ["-p", "MODELS", "[moirai]", "-p", "SEEDS", "[0]", "-p", "VARIANTS", "[]", "-p", "MAX_STEPS", "60"]
LIMIT = 900  # seconds that a job may take on a busy machine


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.setenv("TSFM_RUNS", str(tmp_path))
    return tmp_path


def command(*arguments):
    return [sys.executable, "-W", "ignore", "-m", "tsfm_lab.runs", *arguments]


def submit(*arguments, sbatch=()):
    options = ["--slurm", "--sbatch", "time=60", *sbatch]
    output = subprocess.run(command("launch", *arguments, *options), capture_output=True, text=True, check=True).stdout
    return output.split()[-1]


def state_of(job):
    listed = subprocess.run(["squeue", "-h", "-j", job, "-o", "%T"], capture_output=True, text=True).stdout.split()
    return listed[0] if listed else "ENDED"


def wait_for(condition):
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end, "the job took too long"
        time.sleep(1)


def find(runs, name) -> Path | None:
    return next(runs.rglob(name), None)


def losses(runs):
    return [row["loss"] for row in read_rows(next(runs.rglob("moirai-s0/metrics.csv"))) if row["loss"]]


def test_a_preempted_job_of_two_ranks_goes_on_and_ends_with_the_losses_of_an_unbroken_one(runs, monkeypatch, tmp_path):
    """Bit for bit: on the CPU a resumed run repeats the steps of an unbroken one."""
    job = submit("04_pretrain_stu", *TRAINING, sbatch=["ntasks-per-node=2"])
    wait_for(lambda: (file := find(runs, "moirai-s0/metrics.csv")) and len(read_rows(file)) >= 10)
    subprocess.run(["scancel", "--signal=USR1", "--batch", job], check=True)
    wait_for(lambda: state_of(job) == "ENDED")
    run = find(runs, "status.json").parent
    assert read_json(run / "status.json")["state"] == "finished", (run / "status.json").read_text()
    assert [attempt["status"] for attempt in read_manifest(run)["attempts"]] == ["preempted", "finished"]
    assert len(list((run / "attempts").iterdir())) == 2
    assert (run / "ranks" / "rank1.ipynb").exists()
    assert (run / "report.html").exists()

    unbroken = tmp_path / "unbroken"
    monkeypatch.setenv("TSFM_RUNS", str(unbroken))
    job = submit("04_pretrain_stu", *TRAINING, sbatch=["ntasks-per-node=2"])
    wait_for(lambda: state_of(job) == "ENDED")
    assert losses(unbroken) == losses(run)


def test_a_failing_notebook_fails_the_job_and_says_where(runs):
    job = submit("04_pretrain_stu", *TRAINING, "-p", "LR", "1.0e+30")
    wait_for(lambda: state_of(job) == "ENDED")
    status = read_json(find(runs, "status.json"))
    assert status["state"] == "failed"
    assert status["cell"] > 0
    shown = subprocess.run(["scontrol", "show", "job", job], capture_output=True, text=True).stdout
    assert "ExitCode=1:0" in shown


def test_an_array_of_three_makes_three_runs(runs):
    job = submit("01_spectral_filters", "--grid", "NUM_FILTERS", "24", "25", "26")
    wait_for(lambda: state_of(job) == "ENDED")
    statuses = [json.loads(file.read_text())["state"] for file in runs.rglob("status.json")]
    assert statuses == ["finished"] * 3


def test_a_second_launch_into_a_running_job_is_refused(runs):
    job = submit("04_pretrain_stu", *TRAINING)
    wait_for(lambda: find(runs, "lock"))
    arguments = command("launch", "04_pretrain_stu", *TRAINING, "--slurm")
    second = subprocess.run(arguments, capture_output=True, text=True)
    subprocess.run(["scancel", job], check=True)
    wait_for(lambda: state_of(job) == "ENDED")
    assert second.returncode == 2
    assert "is in use by process" in second.stderr
