"""Training on a system: it learns what it should, repeats itself, and survives being killed."""

import logging
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from tsfm_lab.spectral import LDS, MiniSTU, random_LDS, train_stu_on_lds

SETTINGS = {"seq_len": 16, "num_filters": 4, "batch_size": 4, "verbose": False}


def measure_relative_error(stu: MiniSTU, lds: LDS, seq_len: int) -> float:
    """Mean squared error over the mean square of the output, on input that training has not seen."""
    u = torch.randn(64, seq_len, lds.input_dim, generator=torch.Generator().manual_seed(123))
    with torch.no_grad():
        y = lds(u)
        return ((stu(u) - y).square().mean() / y.square().mean()).item()


@pytest.fixture
def one_thread():
    """The order of float sums depends on the number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_a_symmetric_system_is_learnt_to_four_orders_of_magnitude():
    lds = random_LDS(16, 3, 2, spectral_radius=0.9)
    untrained = MiniSTU(64, 24, 3, 2)
    stu, losses = train_stu_on_lds(lds, 64, 24, num_steps=800, learning_rate=1e-2, verbose=False)
    assert len(losses) == 800
    assert measure_relative_error(stu, lds, 64) < 1e-4 * min(1.0, measure_relative_error(untrained, lds, 64))


def test_a_general_system_is_not_learnt():
    lds = random_LDS(16, 3, 2, spectral_radius=0.99, symmetric=False)
    stu, _ = train_stu_on_lds(lds, 64, 24, num_steps=300, learning_rate=1e-2, verbose=False)
    assert measure_relative_error(stu, lds, 64) > 0.05


def test_the_seed_decides_the_losses_and_the_global_random_state_stays(one_thread):
    lds = random_LDS(4, 2, 2)
    before = torch.get_rng_state()
    one = train_stu_on_lds(lds, num_steps=5, seed=1, **SETTINGS)[1]
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(99)
    assert train_stu_on_lds(lds, num_steps=5, seed=1, **SETTINGS)[1] == one
    assert train_stu_on_lds(lds, num_steps=5, seed=2, **SETTINGS)[1] != one


def test_the_result_is_on_the_dtype_of_the_system_and_in_evaluation_mode():
    lds = random_LDS(4, 2, 3, dtype=torch.float64)
    stu, losses = train_stu_on_lds(lds, num_steps=1, use_mlp=True, mlp_dropout=0.5, **SETTINGS)
    assert stu.M_phi_plus.dtype == torch.float64
    assert not stu.training
    assert isinstance(losses[0], float)


TRAINING = """
import sys
from tsfm_lab.spectral import random_LDS, train_stu_on_lds
train_stu_on_lds(random_LDS(4, 2, 2), seq_len=16, num_filters=4, batch_size=4, verbose=False, num_steps=100_000,
                 use_mlp=True, mlp_dropout=0.2, checkpoint_path=sys.argv[1], checkpoint_every=3)
"""


def test_a_killed_training_continues_to_the_losses_of_an_unbroken_one(tmp_path, one_thread):
    checkpoint = tmp_path / "training.pt"
    process = subprocess.Popen(
        [sys.executable, "-c", TRAINING, str(checkpoint)], env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    while not checkpoint.exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    num_done = len(torch.load(checkpoint, weights_only=True)["losses"])
    assert num_done % 3 == 0

    settings = {**SETTINGS, "use_mlp": True, "mlp_dropout": 0.2, "num_steps": num_done + 20}
    lds = random_LDS(4, 2, 2)
    stu, losses = train_stu_on_lds(lds, **settings)
    resumed_stu, resumed_losses = train_stu_on_lds(lds, checkpoint_path=checkpoint, **settings)
    assert resumed_losses == losses
    for name, value in stu.state_dict().items():
        assert torch.equal(value, resumed_stu.state_dict()[name])


def test_a_finished_training_is_read_from_its_checkpoint(tmp_path):
    lds, checkpoint = random_LDS(4, 2, 2), tmp_path / "training.pt"
    stu, losses = train_stu_on_lds(lds, num_steps=4, checkpoint_path=checkpoint, **SETTINGS)
    again, losses_again = train_stu_on_lds(lds, num_steps=4, checkpoint_path=checkpoint, **SETTINGS)
    assert losses_again == losses
    assert torch.equal(again.M_phi_plus, stu.M_phi_plus)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"learning_rate": 0.5}, r"learning_rate=0.001 \(asked: 0.5\)"),
        ({"batch_size": 5}, r"batch_size=4 \(asked: 5\)"),
        ({"seed": 7}, r"seed=0 \(asked: 7\)"),
        ({"backend": "lds"}, r"backend=spectral \(asked: lds\)"),
        ({"lds": random_LDS(4, 2, 2, seed=1)}, "was made with lds="),
        ({"num_steps": 3}, "holds 4 steps, num_steps is 3"),
    ],
)
def test_a_checkpoint_of_other_settings_is_refused(tmp_path, changed, message):
    settings = {"lds": random_LDS(4, 2, 2), "num_steps": 4, "checkpoint_path": tmp_path / "training.pt", **SETTINGS}
    train_stu_on_lds(**settings)
    with pytest.raises(ValueError, match=message):
        train_stu_on_lds(**{**settings, **changed})


def test_progress_is_a_few_log_lines_where_there_is_no_terminal(caplog):
    with caplog.at_level(logging.INFO):
        train_stu_on_lds(random_LDS(4, 2, 2), num_steps=50, **{**SETTINGS, "verbose": True})
    lines = [record.message for record in caplog.records]
    assert 4 <= len(lines) <= 7
    assert lines[-1].startswith("step 50 of 50: loss")


@pytest.mark.parametrize("name", ["num_steps", "batch_size", "checkpoint_every"])
def test_impossible_settings_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        train_stu_on_lds(random_LDS(4, 2, 2), **{**SETTINGS, name: 0})
