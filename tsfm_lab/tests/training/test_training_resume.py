"""A run that was killed, or asked to stop, goes on and repeats the unbroken run's losses bit for bit."""

import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch

from tsfm_lab.runs import RunDirectory
from tsfm_lab.runs.preemption import Preempted
from tsfm_lab.tests.training import tiny_run
from tsfm_lab.training.checkpoints import latest_checkpoint
from tsfm_lab.training.recorder import Validation

STEPS = 30


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Sums in another order are other sums."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    return tiny_run.losses(tiny_run.train(tmp_path_factory.mktemp("unbroken"), STEPS))


def wait_for_step(metrics, step, child):
    while not (metrics.exists() and metrics.read_text().count("\n") > step):
        assert child.poll() is None, "the run ended before it could be killed"
        time.sleep(0.005)


def test_a_run_killed_at_a_random_step_and_resumed_has_the_losses_of_an_unbroken_one(tmp_path, unbroken):
    command = [sys.executable, tiny_run.__file__, str(tmp_path), str(STEPS), "0.1"]
    child = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
    wait_for_step(tmp_path / "metrics.csv", random.randint(5, STEPS // 2), child)
    child.send_signal(signal.SIGKILL)
    child.wait()
    _, step = latest_checkpoint(tmp_path / "checkpoints")
    assert 4 <= step < STEPS
    run = tiny_run.train(tmp_path, STEPS)
    assert tiny_run.losses(run) == unbroken
    assert [attempt["status"] for attempt in run.manifest()["attempts"]][-1] == "finished"


def test_a_signal_ends_the_run_with_a_checkpoint_and_it_goes_on_from_there(tmp_path, unbroken):
    calls = itertools.count()

    def score(module):
        if next(calls) == 1:  # the first call is before the first step
            os.kill(os.getpid(), signal.SIGUSR1)
        return {"x": 0.0}

    validation = Validation(score, ("x",), every=7)
    with pytest.raises(Preempted, match="step 7"):
        tiny_run.train(tmp_path, STEPS, validation=validation)
    run = RunDirectory(tmp_path, {"max_steps": STEPS})
    assert run.manifest()["attempts"][-1]["status"] == "preempted"
    assert latest_checkpoint(run.checkpoints)[1] == 7
    tiny_run.train(tmp_path, STEPS, validation=validation)
    assert tiny_run.losses(run)[1:] == unbroken


def test_a_finished_run_is_not_trained_again_and_gives_its_weights(tmp_path, monkeypatch):
    run = tiny_run.train(tmp_path, 3)
    before = (run.path / "metrics.csv").read_text()
    fresh = tiny_run.pretraining(3)
    untrained = fresh.module.in_proj.weight.clone()
    monkeypatch.setattr(tiny_run, "pretraining", lambda *_: fresh)
    tiny_run.train(tmp_path, 3)
    assert (run.path / "metrics.csv").read_text() == before
    assert len(run.manifest()["attempts"]) == 1
    saved = type(fresh.module).from_pretrained(run.path / "model")
    assert torch.equal(fresh.module.in_proj.weight, saved.in_proj.weight)
    assert not torch.equal(fresh.module.in_proj.weight, untrained)


def test_a_run_killed_after_its_last_checkpoint_only_has_to_finish(tmp_path):
    run = tiny_run.train(tmp_path, 3)
    before = (run.path / "metrics.csv").read_text()
    (run.path / "manifest.json").unlink()
    shutil.rmtree(run.path / "model")
    assert tiny_run.train(tmp_path, 3).finished
    assert (run.path / "metrics.csv").read_text() == before
    assert (run.path / "model" / "model.safetensors").exists()


def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path, caplog):
    run = tiny_run.train(tmp_path, 8)
    newest, step = latest_checkpoint(run.checkpoints)
    newest.write_bytes(newest.read_bytes()[:1000])
    assert step == 8
    assert latest_checkpoint(run.checkpoints)[1] == 4
    assert "cannot be read" in caplog.text


class RunsCode:
    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return (open, (str(self.file), "w"))


def test_a_checkpoint_that_would_run_code_is_not_opened(tmp_path):
    torch.save({"state_dict": RunsCode(tmp_path / "written")}, tmp_path / "step-0000001.ckpt")
    assert latest_checkpoint(tmp_path) is None
    assert not (tmp_path / "written").exists()
