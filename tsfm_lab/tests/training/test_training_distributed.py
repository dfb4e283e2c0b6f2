"""Several ranks make the steps of one, each from its own rows."""

import os
import subprocess
import sys

import pytest
import torch
from lightning.pytorch.plugins.environments import LightningEnvironment, SLURMEnvironment
from safetensors.torch import load_file

from tsfm_lab.tests.training import tiny_run
from tsfm_lab.training.distributed import ExternalDDPStrategy, process_layout

STEPS = 6


def test_one_and_two_gloo_ranks_have_the_same_losses_gradients_and_weights(tmp_path):
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launch, tiny_run.__file__, str(tmp_path / "two"), str(STEPS), "0"]
    two = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
    one = tiny_run.train(tmp_path / "one", STEPS, dropout_p=0.0)
    assert two.wait(timeout=120) == 0
    rows = [run_rows(folder) for folder in (one.path, tmp_path / "two")]
    assert [row["tokens"] for row in rows[0]] == [row["tokens"] for row in rows[1]]
    # float32 sums in another order; at ten times this learning rate the mixture's steep places turn 1e-6 into 4e-3
    torch.testing.assert_close(*(numbers(run, "loss") for run in rows), rtol=5e-6, atol=0)
    torch.testing.assert_close(*(numbers(run, "grad_norm")[:2] for run in rows), rtol=1e-5, atol=0)
    weights = [load_file(folder / "model" / "model.safetensors") for folder in (one.path, tmp_path / "two")]
    assert all((weights[0][name] - weights[1][name]).abs().max() < 2e-5 for name in weights[0])


def run_rows(folder):
    lines = (folder / "metrics.csv").read_text().splitlines()
    return [dict(zip(lines[0].split(","), line.split(","), strict=True)) for line in lines[1:]]


def numbers(rows, name):
    return torch.tensor([float(row[name]) for row in rows])


@pytest.fixture
def slurm_step(monkeypatch):
    """What srun tells each of 2 × 4 tasks."""
    for name, value in {
        "SLURM_STEP_NUM_TASKS": "8",
        "SLURM_NTASKS": "8",
        "SLURM_NTASKS_PER_NODE": "4",
        "SLURM_NNODES": "2",
        "SLURM_PROCID": "5",
        "SLURM_LOCALID": "1",
        "SLURM_NODEID": "1",
    }.items():
        monkeypatch.setenv(name, value)


def test_tasks_of_srun_become_ranks_without_a_launcher_and_without_lightnings_requeueing(slurm_step):
    layout = process_layout()
    assert (layout["devices"], layout["num_nodes"]) == (4, 2)
    strategy = layout["strategy"]
    assert isinstance(strategy, ExternalDDPStrategy)
    assert isinstance(strategy.cluster_environment, SLURMEnvironment)
    assert not strategy.cluster_environment.auto_requeue
    strategy._configure_launcher()
    assert strategy.launcher is None


def test_a_single_process_within_an_allocation_trains_alone(slurm_step, monkeypatch):
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")
    layout = process_layout()
    assert layout["devices"] == 1
    assert isinstance(layout["plugins"][0], LightningEnvironment)
