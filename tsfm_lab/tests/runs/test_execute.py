"""An execution leaves its notebook and its state in the run directory, however it ends."""

import json
import signal
import subprocess
import sys
import time

import pytest

from tsfm_lab.runs.__main__ import main
from tsfm_lab.runs.cli import watch
from tsfm_lab.runs.cli.request import read_request
from tsfm_lab.runs.directory import is_finished, read_manifest

pytest.importorskip("papermill", reason="executing notebooks needs the `lab` extra")


def status(run):
    return json.loads((run / "status.json").read_text())


def wait_until(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


@pytest.fixture
def waiting(tiny):
    """A launched notebook that trains until it is asked to stop: (process, run directory)."""
    run = read_request("00_tiny", None, [("OUTCOME", "wait")]).path
    code = (
        "import sys; from tiny_presets import TINY; from tsfm_lab import paths; from pathlib import Path;"
        f"paths.NOTEBOOKS = Path({str(tiny / 'notebooks')!r});"
        "from tsfm_lab.training.presets import PRESETS; PRESETS['00_tiny'] = TINY;"
        "from tsfm_lab.runs.__main__ import main; sys.exit(main(['execute', '00_tiny', '-p', 'OUTCOME', 'wait']))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: (run / "metrics.csv").exists() and len((run / "metrics.csv").read_text().splitlines()) == 4)
    yield process, run
    process.kill()
    process.wait()


def test_a_finished_run_has_its_notebook_report_and_record_and_is_not_run_again(tiny, capsys):
    run = read_request("00_tiny").path
    assert main(["execute", "00_tiny"]) == 0
    assert {"executed.ipynb", "report.html", "metrics.csv", "status.json"} <= {file.name for file in run.iterdir()}
    assert status(run)["state"] == "finished"
    assert is_finished(run)
    assert main(["execute", "00_tiny"]) == 0
    assert "is finished" in capsys.readouterr().out
    assert len(list((run / "attempts").iterdir())) == 1
    assert "finished  2/3   0.3333" in watch.list_runs()
    report = (run / "report.html").read_text()
    assert "<script" not in report
    assert "http-equiv" not in report


def test_a_failing_cell_is_named_and_exits_non_zero(tiny):
    run = read_request("00_tiny", None, [("OUTCOME", "fail")]).path
    assert main(["execute", "00_tiny", "-p", "OUTCOME", "fail"]) == 1
    failed = status(run)
    assert (failed["state"], failed["error"]) == ("failed", "RuntimeError: as asked")
    assert failed["cell"] == 3  # after the parameters and the injected parameters
    assert any("as asked" in line for line in failed["traceback"])
    assert (run / "executed.ipynb").exists()
    assert read_manifest(run)["attempts"][-1]["status"] == "failed"
    assert "RuntimeError: as asked" in watch.list_runs()


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_a_signal_ends_the_attempt_as_preempted(waiting, number):
    process, run = waiting
    process.send_signal(number)
    assert process.wait(timeout=120) == 75
    assert status(run)["state"] == "preempted"
    assert read_manifest(run)["attempts"][-1]["status"] == "preempted"


def test_a_second_launch_is_refused_and_a_killed_run_is_seen_as_dead(waiting, capsys):
    process, run = waiting
    assert main(["execute", "00_tiny", "-p", "OUTCOME", "wait"]) == 3
    holder = read_manifest(run)["attempts"][-1]["pid"]
    assert f"in use by process {holder}" in capsys.readouterr().err
    assert watch.summarise(run).state == "running"
    process.kill()
    subprocess.run(["kill", "-9", str(holder)], check=True)
    wait_until(lambda: watch.summarise(run).state == "dead")
