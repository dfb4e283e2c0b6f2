"""Training the Timer family: windows and steps, losses, early stopping, distillation, resuming."""

import itertools

import numpy as np
import pytest
import torch
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR

from tsfm_lab.models.patch_forecaster import TokenLaw
from tsfm_lab.models.timer_xl import TimerXL
from tsfm_lab.models.timer_xl_draft import TimerXLDraft
from tsfm_lab.models.ttm import TinyTimeMixer
from tsfm_lab.runs import RunDirectory
from tsfm_lab.training.timer_data import (
    StepBatches,
    WindowData,
    interpolated,
    make_windows,
    some_windows,
    window_source,
)
from tsfm_lab.training.timer_losses import distillation_loss, gaussian_nll, variance_penalty
from tsfm_lab.training.timer_task import DrawnDistillation, Optimisation, TimerDistillation, TimerTraining, train_timer

P = 4
SIZES = {"input_token_len": P, "output_token_len": P, "d_model": 16, "n_heads": 2, "d_ff": 16, "e_layers": 1}
COLUMNS = ("step", "time_s", "tokens", "loss", "lr", "grad_norm", "steps_per_s", "val_loss")
WINDOW = {"seq_len": 3 * P, "input_token_len": P, "output_token_len": P}


@pytest.fixture
def table(tmp_path):
    """A CSV of 300 hourly rows and two variates: waves with noise."""
    t = np.arange(300)
    rows = np.stack([np.sin(t / 3), np.cos(t / 5)], axis=1) + 0.1 * np.random.default_rng(0).standard_normal((300, 2))
    stamps = np.datetime64("2020-01-01T00") + t
    lines = [f"{str(when).replace('T', ' ')}:00,{a},{b}" for when, (a, b) in zip(stamps, rows, strict=True)]
    path = tmp_path / "waves.csv"
    path.write_text("date,a,b\n" + "\n".join(lines) + "\n")
    return str(path)


def small(cls=TimerXL, **options):
    torch.manual_seed(0)
    return cls(**{**SIZES, **options})


def batch(variates=1):
    generator = torch.Generator().manual_seed(1)
    series = torch.randn(2, 4 * P, variates, generator=generator)
    return series[:, : 3 * P], series[:, P:]


TEACHING = ("teacher", "teacher_noise", "var_reg", "target")


def task(module=None, kind=TimerTraining, validation=(), **options):
    teaching = {key: options.pop(key) for key in TEACHING if key in options}
    return kind(module or small().eval(), Optimisation(**options), validation, 5, **teaching)


def train(run, table, module=None, teacher=None, **options):
    """A short training on the table's first variate and validation on 30 of its windows."""
    windows = make_windows(table, "train", multivariate=False, **WINDOW)
    validation = some_windows(make_windows(table, "val", multivariate=False, **WINDOW), 30, 15)
    optimisation = Optimisation(**{"epochs": 2, "epoch_steps": 4, "batch_size": 8, "learning_rate": 1e-2, **options})
    module = module or small()
    data = WindowData(windows, 8)
    return train_timer(module, data, validation, run, optimisation, teacher=teacher, teacher_noise=0.05, device="cpu")


# windows and steps


def test_a_batch_depends_on_the_seed_and_the_step_alone():
    def from_step(first, seed=3):
        return list(itertools.islice(StepBatches(10, 4, seed, first), 12 - first))

    assert from_step(0)[5:] == from_step(5)
    assert from_step(0) != from_step(0, seed=4)


def test_a_pass_takes_every_window_once_and_the_next_in_another_order():
    batches = list(itertools.islice(StepBatches(10, 4, 0), 6))
    passes = [[*itertools.chain(*batches[:3])], [*itertools.chain(*batches[3:])]]
    assert [len(b) for b in batches] == [4, 4, 2] * 2
    assert [sorted(order) for order in passes] == [list(range(10))] * 2
    assert passes[0] != passes[1]


def test_missing_values_lie_on_the_line_between_their_neighbours():
    rows = np.array([[np.nan, 1.0], [2.0, np.nan], [np.nan, np.nan], [8.0, 4.0]])
    assert interpolated(rows).tolist() == [[2, 1], [2, 2], [5, 3], [8, 4]]


def test_built_in_and_synthetic_series_become_rows_without_gaps():
    co2 = window_source("co2")
    assert co2.shape == (2284, 1)
    assert not np.isnan(co2).any()
    synthetic = window_source("synthetic:3", length=64)
    assert synthetic.shape == (64, 3)
    assert np.array_equal(synthetic, window_source("synthetic:3", length=64))


def test_windows_of_several_sources_follow_one_another(table):
    alone = make_windows(table, "train", multivariate=False, **WINDOW)
    both = make_windows((table, "co2"), "train", multivariate=False, **WINDOW)
    assert len(both) == len(alone) + 1598 - 16 + 1  # co2: 0.7 of 2284 rows are 1598
    assert np.array_equal(both[5][1], alone[5][1])


def test_some_windows_are_evenly_spaced_and_in_order(table):
    windows = make_windows(table, "val", multivariate=True, **WINDOW)
    x, _ = next(iter(some_windows(windows, 3, 8)))
    middle = np.linspace(0, len(windows) - 1, 3).astype(int)[1]
    assert torch.equal(x, torch.stack([torch.from_numpy(windows[i][0].copy()) for i in (0, middle, len(windows) - 1)]))


# losses


def test_training_compares_the_forecast_after_every_token():
    module, (x, y) = small().eval(), batch()
    forecast = module(x)
    tokens = [slice(i * P, (i + 1) * P) for i in range(3)]
    expected = torch.stack([(forecast[:, token] - y[:, token]).square().mean() for token in tokens])
    # float32 means in another order
    torch.testing.assert_close(task(module).loss(x, y, last_token=False), expected.mean(), rtol=1e-6, atol=0)
    torch.testing.assert_close(task(module).loss(x, y, last_token=True), expected[-1], rtol=1e-6, atol=0)


def test_with_covariates_only_the_last_variate_counts():
    module, (x, y) = small(covariate=True).eval(), batch(3)
    expected = (module(x) - y)[..., -1].square().mean()
    torch.testing.assert_close(task(module).loss(x, y, last_token=False), expected, rtol=1e-6, atol=0)


def test_a_target_with_a_learned_sigma_is_trained_by_its_likelihood():
    module, (x, y) = small(sigma="learned").eval(), batch()
    torch.testing.assert_close(task(module).loss(x, y, last_token=False), gaussian_nll(module.law(x), y))


def test_a_mixer_is_trained_on_the_steps_after_its_context():
    mixer, (x, y) = TinyTimeMixer(3 * P, P, P, d_model=16).eval(), batch()
    expected = (mixer(x) - y[:, -P:]).square().mean()
    torch.testing.assert_close(task(mixer).loss(x, y, last_token=False), expected)


def test_prefix_statistics_come_from_the_first_steps_only():
    module, (x, y) = small().eval(), batch()
    expected = (module(x, module.statistics(x[:, :P])) - y).square().mean()
    torch.testing.assert_close(task(module, norm_prefix_len=P).loss(x, y, last_token=False), expected)


def test_gaussian_nll_is_the_negative_log_density_up_to_its_constant():
    mean, logvar, target = torch.randn(3, 5, 2, 1)
    normal = torch.distributions.Normal(mean, torch.exp(logvar / 2))
    expected = -normal.log_prob(target).mean() - 0.5 * np.log(2 * np.pi)
    torch.testing.assert_close(gaussian_nll(TokenLaw(mean, logvar), target), expected)


def test_extra_variance_is_the_mean_over_noise_on_the_target():
    mean, logvar, target = torch.randn(3, 5, 2, 1, dtype=torch.float64)
    law = TokenLaw(mean, logvar)
    noise = 0.3 * torch.randn(10_000, 5, 2, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    sampled = torch.stack([gaussian_nll(law, target + draw) for draw in noise]).mean()
    # 10,000 draws of ten values: the standard error of the noise's share is below .5 %
    torch.testing.assert_close(gaussian_nll(law, target, extra_variance=0.09), sampled, rtol=5e-3, atol=5e-3)


def test_the_variance_penalty_acts_below_a_log_variance_of_minus_five_only():
    assert variance_penalty(torch.tensor([-4.0, 0.0, 3.0])) == 0
    assert variance_penalty(torch.tensor([-7.0, -5.0])) == 1
    law, teacher = TokenLaw(torch.zeros(2), torch.full((2,), -7.0)), torch.zeros(2)
    difference = distillation_loss(law, teacher, var_reg=0.5) - distillation_loss(law, teacher, var_reg=0.0)
    assert difference == 1  # .5 · (7 − 5)


def test_a_stochastic_draft_learns_the_likelihood_and_a_point_draft_the_squared_error():
    teacher, (x, y) = small().eval(), batch()
    for stochastic in (True, False):
        draft = small(TimerXLDraft, d_model=64, draft_stochastic=stochastic).eval()
        loss = task(draft, TimerDistillation, teacher=teacher, teacher_noise=0.0, var_reg=0.0).loss(x, y, False)
        law, mean = draft.law(x), teacher(x)
        expected = gaussian_nll(law, mean) if stochastic else (law.mean - mean).square().mean()
        torch.testing.assert_close(loss, expected)


def correlated(module):
    """A module with the law of errors that go together: .6^|i−j|."""
    steps = torch.arange(module.output_token_len)
    module.set_sigma(torch.linspace(0.5, 1.0, len(steps)), 0.6 ** (steps[:, None] - steps).abs())
    return module


def test_a_target_with_a_covariance_is_trained_by_its_likelihood_and_the_squared_error():
    module, (x, y) = correlated(small()).eval(), batch()
    error = module(x) - y
    patches = (error / module.statistics(x).stdev).detach().view(2, 3, P)
    factor = module.sigma[:, None] * module.correlation_factor
    law = torch.distributions.MultivariateNormal(torch.zeros(P), scale_tril=factor)
    nll = (law.log_prob(torch.zeros(P)) - law.log_prob(patches)).mean()  # without its constant
    torch.testing.assert_close(task(module).loss(x, y, False), error.square().mean() + 2 * nll / P)


def test_a_draft_learns_the_distance_of_the_laws_behind_drawn_windows():
    target, draft, (x, y) = correlated(small()).eval(), small(TimerXLDraft, d_model=64).eval(), batch()
    loss = task(draft, DrawnDistillation, target=target, norm_prefix_len=P).loss(x, y[:, -2 * P :], False)
    gap = ((draft(x, draft.statistics(x[:, :P])) - y) / draft.statistics(x[:, :P]).stdev)[:, -2 * P :].view(2, 2, P)
    covariance = (target.sigma[:, None] * target.correlation_factor) @ (
        target.sigma[:, None] * target.correlation_factor
    ).T
    expected = (gap[..., None, :] @ covariance.inverse() @ gap[..., None]).sqrt().mean()
    torch.testing.assert_close(loss, expected)


def test_teacher_noise_is_drawn_in_training_and_averaged_in_validation():
    draft, (x, y) = small(TimerXLDraft, d_model=64, draft_stochastic=True, dropout=0.0), batch()
    distillation = task(draft, TimerDistillation, teacher=small().eval(), teacher_noise=0.2, var_reg=0.0)
    draft.train()
    torch.manual_seed(0)
    drawn = torch.stack([distillation.loss(x, y, False) for _ in range(500)])
    draft.eval()
    assert drawn.std() > 0
    error = drawn.std().item() / 500**0.5  # standard error of the mean
    torch.testing.assert_close(distillation.loss(x, y, False), drawn.mean(), rtol=0, atol=4 * error)


# optimisation


def test_learning_rates_are_those_of_cosine_annealing_also_past_tmax():
    optimizer = SGD([torch.zeros(1, requires_grad=True)], lr=1e-3)
    schedule = CosineAnnealingLR(optimizer, T_max=4, eta_min=1e-8)
    optimisation = Optimisation(learning_rate=1e-3, tmax=4)
    for epoch in range(8):
        # torch computes it by recursion
        assert 1e-3 * optimisation.lr_factor(epoch) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-6)
        optimizer.step()
        schedule.step()
    assert Optimisation(cosine=False, lr_decay=0.5).lr_factor(3) == 0.125


def test_training_lowers_the_loss_and_leaves_the_record_and_the_model(table, tmp_path):
    run = RunDirectory(tmp_path / "run", {})
    module = train(run, table, epochs=4)
    validation = run.metrics(COLUMNS).column("val_loss")
    assert len(validation) == 5  # before training and after each epoch
    assert min(validation[1:]) < 0.7 * validation[0]
    assert not module.training
    x, _ = batch()
    assert torch.equal(TimerXL.from_pretrained(run.path / "model")(x), module(x))


def test_a_model_that_comes_in_evaluation_mode_is_trained_with_dropout_all_the_same(table, tmp_path):
    losses = []
    for name in ("eval", "train"):
        module = small(dropout=0.5).train(name == "train")
        run = RunDirectory(tmp_path / name, {})
        train(run, table, module, epochs=1)
        losses.append(run.metrics(COLUMNS).column("loss"))
    assert losses[0] == losses[1]


def test_training_stops_after_patience_and_returns_the_best_weights(table, tmp_path):
    run, module = RunDirectory(tmp_path / "run", {}), small()
    begun = {key: value.clone() for key, value in module.state_dict().items()}
    trained = train(run, table, module, learning_rate=100.0, epochs=9, patience=2)
    metrics = run.metrics(COLUMNS)
    assert len(metrics.column("val_loss")) == 3
    assert all(torch.equal(value, begun[key]) for key, value in trained.state_dict().items())


def test_a_finished_run_is_not_repeated_and_returns_the_best_weights(table, tmp_path):
    run = RunDirectory(tmp_path / "run", {})
    first = train(run, table, epochs=9, patience=1, learning_rate=0.05)
    rows = (run.path / "metrics.csv").read_text()
    again = train(run, table, epochs=9, patience=1, learning_rate=0.05)
    assert (run.path / "metrics.csv").read_text() == rows
    assert all(torch.equal(value, first.state_dict()[key]) for key, value in again.state_dict().items())


@pytest.mark.parametrize("learning_rate", [1e-2, 100.0])  # the best weights come after the break, or before it
def test_a_killed_run_goes_on_and_repeats_the_losses_of_an_unbroken_one(table, tmp_path, monkeypatch, learning_rate):
    options = {"epochs": 3, "learning_rate": learning_rate}
    whole = RunDirectory(tmp_path / "whole", {})
    expected = train(whole, table, **options)
    broken = RunDirectory(tmp_path / "broken", {})
    step = TimerTraining.training_step

    def killed(self, batch, index):
        if self.trainer.global_step == 6:  # in the second epoch of four steps
            raise KeyboardInterrupt
        return step(self, batch, index)

    monkeypatch.setattr(TimerTraining, "training_step", killed)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        train(broken, table, **options)
    monkeypatch.undo()
    module = train(broken, table, **options)
    for column in ("step", "loss", "lr", "val_loss"):
        assert broken.metrics(COLUMNS).column(column) == whole.metrics(COLUMNS).column(column)
    assert all(torch.equal(value, expected.state_dict()[key]) for key, value in module.state_dict().items())


def test_distillation_brings_the_draft_to_its_teacher_and_leaves_the_teacher_alone(table, tmp_path):
    teacher = train(RunDirectory(tmp_path / "teacher", {}), table)
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    draft = small(TimerXLDraft, d_model=64, draft_stochastic=True)
    x = next(iter(some_windows(make_windows(table, "test", multivariate=False, **WINDOW), 64, 64)))[0]
    far = (draft.eval()(x) - teacher(x)).square().mean()
    run = RunDirectory(tmp_path / "draft", {})
    draft = train(run, table, draft, teacher, epochs=6, epoch_steps=10)
    assert (draft(x) - teacher(x)).square().mean() < 0.2 * far
    assert all(torch.equal(value, before[key]) for key, value in teacher.state_dict().items())
    saved = torch.load(next(iter(run.checkpoints.glob("*.ckpt"))), weights_only=True)["state_dict"]
    assert len(saved) == len(draft.state_dict())


# bad input


def test_a_loss_that_is_not_finite_names_the_step(table, tmp_path):
    module = small()
    with torch.no_grad():
        module.head.bias[0] = float("nan")
    with pytest.raises(ArithmeticError, match=r"at step 0; look for missing values"):
        train(RunDirectory(tmp_path / "run", {}), table, module)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output_token_len": 8}, "same output_token_len, got 8 and 4"),
        ({"input_token_len": 8}, "same input_token_len, got 8 and 4"),
        ({"use_norm": False}, "same use_norm, got False and True"),
    ],
)
def test_a_draft_that_cannot_stand_in_for_its_target_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        task(small(TimerXLDraft, d_model=64, **options), TimerDistillation, teacher=small())


def test_negative_noise_is_refused():
    with pytest.raises(ValueError, match=r"teacher_noise and var_reg must not be negative, got -1\.0"):
        task(small(TimerXLDraft, d_model=64), TimerDistillation, teacher=small(), teacher_noise=-1.0)


@pytest.mark.parametrize("name", ["epochs", "batch_size", "patience", "tmax"])
def test_counts_below_one_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        Optimisation(**{name: 0})


def test_an_unknown_source_is_refused():
    with pytest.raises(ValueError, match="unknown data set 'ETTh9'"):
        window_source("ETTh9")
