"""Fine-tuning in a run directory: every kind, early stopping, the best weights, resuming, bad options."""

from copy import deepcopy
from math import nan

import numpy as np
import pytest
import torch

from tsfm_lab.data import Series, SeriesList
from tsfm_lab.models import MoiraiModule, TimerXL, load_model
from tsfm_lab.runs import Preempted, RunDirectory
from tsfm_lab.runs.metrics import read_rows
from tsfm_lab.tests.training.test_training_adaptors import FAMILY, KINDS, TOKENS, make
from tsfm_lab.training import MoiraiFinetune, MoiraiFinetuneModule, Validation, fit
from tsfm_lab.training.finetune import FINETUNING, Finetuning, fit_finetuning, packed_task, packed_validation
from tsfm_lab.training.finetune_data import cut_in_time
from tsfm_lab.training.trainer import TrainerOptions

SHORT = {"max_steps": 6, "val_every": 2, "batch_size": 2, "device": "cpu"}


@pytest.fixture
def parts():
    """Two noisy waves."""
    rng, t = np.random.default_rng(0), np.arange(160)
    waves = [np.sin(t / 3 + i) + 0.1 * rng.normal(size=len(t)) for i in range(2)]
    series = SeriesList([Series(f"wave-{i}", "2020-01-01", "D", wave) for i, wave in enumerate(waves)])
    sizes = {"horizon": 8, "num_validation": 2, "num_test": 2, "context_length": 32, "least": 24}
    return lambda module: cut_in_time(series, **sizes, patch_sizes=getattr(module, "patch_sizes", ()))


def tune(module, parts, run, **options):
    return fit_finetuning(module, parts(module), Finetuning(**{**SHORT, **options}), run)


def column(run, name):
    return [float(row[name]) for row in read_rows(run.path / "metrics.csv") if row[name]]


@pytest.mark.parametrize("kind", KINDS)
def test_every_model_is_fine_tuned_and_saved_under_its_published_keys(tmp_path, parts, kind):
    base = make(kind)
    module, run = deepcopy(base), RunDirectory(tmp_path, {})
    loss = tune(module, parts, run, lr=3e-3, mode="low_rank", rank=2)
    assert column(run, "step") == [0, 1, 2, 3, 4, 5, 6]
    assert loss == min(column(run, "val_loss")) < column(run, "val_loss")[0]
    saved = load_model(run.path / "model").state_dict()
    assert saved.keys() == base.state_dict().keys()
    assert all(torch.equal(value, saved[name]) for name, value in module.state_dict().items())
    assert any(not torch.equal(value, saved[name]) for name, value in base.state_dict().items())
    assert all(parameter.requires_grad for parameter in module.parameters())


@pytest.mark.parametrize("kind", ["moirai", "timer_xl"])
def test_head_alone_changes_the_head_alone(tmp_path, parts, kind):
    base = make(kind)
    module = deepcopy(base)
    tune(module, parts, RunDirectory(tmp_path, {}), lr=1e-2, mode="head")
    changed = {n for n, value in base.state_dict().items() if not torch.equal(value, module.state_dict()[n])}
    assert changed
    assert all(name.startswith(("param_proj.", "head.")) for name in changed)


def test_validation_is_the_loss_of_training_over_the_validation_windows(parts):
    module = make("moirai")
    task, _ = packed_task(module, parts(module), Finetuning(**SHORT))
    task.consider = lambda loss: None
    batches = packed_validation(parts(module), module.patch_sizes, batch_rows=100)
    assert len(batches) == 1
    expected = task.loss(module.forward_predicted(**batches[0]), batches[0])
    assert task.validate(module)["loss"] == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("kind", ["moirai", "timer_xl"])
def test_a_run_that_makes_it_worse_stops_early_with_the_weights_of_the_beginning(tmp_path, parts, kind):
    base = make(kind)
    module, run = deepcopy(base), RunDirectory(tmp_path, {})
    torch.manual_seed(0)
    loss = tune(module, parts, run, lr=30.0, max_steps=40, patience=2)
    losses = column(run, "val_loss")
    assert len(losses) == 3
    assert loss == losses[0] == min(losses)
    assert all(torch.equal(value, module.state_dict()[name]) for name, value in base.state_dict().items())


def test_without_patience_it_goes_on_and_keeps_the_last_weights(tmp_path, parts):
    module, run = make("timer_xl"), RunDirectory(tmp_path, {})
    before = {name: value.clone() for name, value in module.state_dict().items()}
    loss = tune(module, parts, run, lr=30.0, patience=None)
    losses = column(run, "val_loss")
    assert loss == losses[-1] > losses[0]
    assert any(not torch.equal(value, module.state_dict()[name]) for name, value in before.items())


@pytest.mark.parametrize("mode", ["full", "low_rank"])
def test_a_stopped_run_goes_on_to_the_weights_of_an_unbroken_one(tmp_path, parts, mode):
    torch.set_num_threads(1)
    whole = make("moirai")
    tune(whole, parts, RunDirectory(tmp_path / "whole", {}), mode=mode, lr=1e-3)
    run, again = RunDirectory(tmp_path / "broken", {}), make("moirai")

    calls = []

    def stop_at_the_third(self, module):
        calls.append(1)
        if len(calls) == 3:
            raise Preempted("asked to stop")
        return MoiraiFinetune.validate(self, module)

    how = Finetuning(**SHORT, mode=mode, lr=1e-3)
    with pytest.MonkeyPatch.context() as patch:
        stopping = type("Stopping", (MoiraiFinetune,), {"validate": stop_at_the_third})
        patch.setitem(FINETUNING, "moirai", stopping)
        patch.setattr("tsfm_lab.training.finetune.TrainerOptions", lambda **o: TrainerOptions(**o, checkpoint_steps=1))
        with pytest.raises(Preempted):
            fit_finetuning(make("moirai"), parts(again), how, run)
    fit_finetuning(again, parts(again), how, run)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in whole.state_dict().items())


def test_a_finished_run_is_opened_and_not_done_again(tmp_path, parts):
    run, first, second = RunDirectory(tmp_path, {}), make("moirai"), make("moirai")
    loss = tune(first, parts, run, mode="low_rank", lr=1e-2)
    text = (run.path / "metrics.csv").read_text()
    assert tune(second, parts, run, mode="low_rank", lr=1e-2) == loss
    assert (run.path / "metrics.csv").read_text() == text
    assert all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())


@pytest.mark.parametrize("correlation", [None, torch.eye(4)])
def test_a_calibrated_law_is_taken_from_the_validation_windows_again(tmp_path, parts, correlation):
    torch.manual_seed(0)
    module = TimerXL(**TOKENS, d_model=16, n_heads=2, d_ff=16, e_layers=1)
    module.set_sigma(torch.full((4,), 50.0), correlation)
    tune(module, parts, RunDirectory(tmp_path, {}), lr=1e-2)
    assert module.sigma.max() < 5
    assert (correlation is None) == (module.config["sigma"] == "calibrated")


def test_a_base_model_whose_validation_loss_is_no_number_is_refused(tmp_path, parts, monkeypatch):
    module = make("moirai")
    monkeypatch.setattr(MoiraiFinetune, "validate", lambda self, module: self.consider(nan) or {"loss": nan})
    with pytest.raises(ValueError, match="base model's validation loss is nan, it must be finite"):
        tune(module, parts, RunDirectory(tmp_path, {}))


def test_the_lightning_modules_are_there_by_both_names():
    assert MoiraiFinetuneModule is MoiraiFinetune
    assert set(FINETUNING) == {make(kind).model_type for kind in FAMILY}


def test_the_lightning_module_trains_by_itself(tmp_path, parts):
    module = make("moirai").train()
    task, stream = packed_task(module, parts(module), Finetuning(**SHORT))
    run = RunDirectory(tmp_path, {})
    options = TrainerOptions(max_steps=2, device="cpu", log_lines=0)
    fit(task, stream, run, options, validation=Validation(task.validate, ("loss",), 1))
    assert isinstance(load_model(run.path / "model"), MoiraiModule)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "heads"}, "mode must be one of full, head, low_rank, got 'heads'"),
        ({"lr": 0.0}, "lr must be positive, got 0.0"),
        ({"lr": -1.0}, "lr must be positive"),
        ({"lr": float("nan")}, "lr must be positive, got nan"),
        ({"rank": 0}, "rank must be at least 1, got 0"),
        ({"max_steps": 0}, "max_steps must be at least 1"),
        ({"val_every": 0}, "val_every must be at least 1"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"patience": 0}, "patience must be at least 1 validation, or None, got 0"),
        ({"alpha": 0.0}, "alpha must be positive"),
        ({"weight_decay": -1.0}, "weight_decay not negative"),
    ],
)
def test_an_option_out_of_range_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Finetuning(**options)
