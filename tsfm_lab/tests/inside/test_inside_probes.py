"""Probes find what is linear and nothing else, with the penalty that leaving one out chooses; series are as drawn."""

import numpy as np
import pytest
import torch

from tsfm_lab.inside import (
    draw_known_series,
    layer_representations,
    mean_representations,
    pack_rows,
    probe_layers,
    ridge_probe,
)
from tsfm_lab.inside.probes import PENALTIES, leave_one_out_errors
from tsfm_lab.tests.inside.tiny_models import make_model


def make_items(n=120, d=10, noise=0.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=generator)
    y = 3 + x @ torch.randn(d, 2, generator=generator) + noise * torch.randn(n, 2, generator=generator)
    return x, y, torch.arange(n) % 3 > 0


def test_a_linear_property_is_told_exactly_and_a_shuffled_one_not_at_all():
    x, y, train = make_items()
    assert ridge_probe(x, y, train).min() > 0.9999
    shuffled = y[torch.randperm(len(y), generator=torch.Generator().manual_seed(1))]
    assert ridge_probe(x, shuffled, train).max() < 0.1


def test_a_quadratic_property_is_not_linear():
    x, _, train = make_items(400)
    assert ridge_probe(x, x[:, :1].square(), train).max() < 0.2


def solve(x, y, weight):
    """Ridge with an intercept that is not penalised, by its normal equations: w, b."""
    center, mean = x.mean(0), y.mean(0)
    gram = (x - center).T @ (x - center) + weight * torch.eye(x.shape[1], dtype=x.dtype)
    w = torch.linalg.solve(gram, (x - center).T @ (y - mean))
    return w, mean - center @ w


def test_errors_without_each_item_are_those_of_refitting_without_it():
    x, y, _ = make_items(12, 5, 2.0)
    x, y, penalties = x.double(), y.double(), (1e-3, 0.1, 10.0)
    slow = torch.zeros(3, 2, dtype=x.dtype)
    for row, penalty in enumerate(penalties):
        for i in range(12):
            rest = torch.arange(12) != i
            w, b = solve(x[rest], y[rest], 12 * penalty)
            slow[row] += (y[i] - x[i] @ w - b).square() / 12
    torch.testing.assert_close(leave_one_out_errors(x, y, penalties), slow)


@pytest.mark.parametrize("noise", [0.1, 3.0, 30.0])
def test_the_probe_is_the_ridge_of_the_penalty_that_they_choose(noise):
    x, y, train = make_items(60, 30, noise)
    fitted = x[train].double()
    z = (x.double() - fitted.mean(0)) / fitted.std(0)
    for column in range(2):
        u = y[:, column : column + 1].double()
        best = min(range(len(PENALTIES)), key=leave_one_out_errors(z[train], u[train]).flatten().tolist().__getitem__)
        w, b = solve(z[train], u[train], int(train.sum()) * PENALTIES[best])
        truth = u[~train]
        expected = 1 - (truth - z[~train] @ w - b).square().sum() / (truth - truth.mean()).square().sum()
        torch.testing.assert_close(ridge_probe(x, y, train)[column], expected)


def test_layers_are_probed_one_by_one():
    x, y, train = make_items(noise=1.0)
    both = probe_layers([x, x[:, :2]], y, train)
    assert torch.equal(both[1], ridge_probe(x[:, :2], y, train))
    assert (both[0] > both[1]).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y, train: (x[1:], y, train), "x, y and train must be"),
        (lambda x, y, train: (x, y[:, 0], train), "x, y and train must be"),
        (lambda x, y, train: (x, y, torch.ones_like(train)), "needs 3 items"),
        (lambda x, y, train: (x, torch.ones_like(y), train), "the same for all held-out items"),
    ],
)
def test_what_cannot_be_probed_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        ridge_probe(*change(*make_items()))


def test_known_series_have_their_period_and_rise():
    known = draw_known_series(40, 1024, noise=0.05, seed=1)
    t = np.arange(1024)
    for values, period, rise in zip(known.values, known.period, known.rise, strict=True):
        angle = 2 * np.pi * t / period
        waves = [f(k * angle) for k in (1, 2) for f in (np.cos, np.sin)]
        design = np.stack([np.ones(1024), t / 1023, *waves], axis=1)
        coefficients, residual, *_ = np.linalg.lstsq(design, values, rcond=None)
        assert residual[0] / 1024 < 0.01  # nothing but the noise is left
        assert np.hypot(coefficients[2], coefficients[3]) == pytest.approx(1, abs=0.05)
        assert coefficients[1] / values.std() == pytest.approx(rise, abs=0.02)


@pytest.mark.parametrize("periods", [(1, 8), (8, 8), (8, 200)])
def test_periods_that_do_not_fit_are_refused(periods):
    with pytest.raises(ValueError, match="periods must be"):
        draw_known_series(3, 100, shortest=periods[0], longest=periods[1])


def test_a_row_is_a_series_cut_into_patches_with_the_end_hidden():
    values = np.arange(2 * 96, dtype=np.float32).reshape(2, 96)
    batch = pack_rows(values, make_model("moirai"), patch_size=8, horizon=32)
    assert batch["sample_id"].tolist() == [[1] * 12] * 2
    assert batch["prediction_mask"].tolist() == [[False] * 8 + [True] * 4] * 2
    assert np.array_equal(batch["target"][..., :8].flatten(1).numpy(), values)
    assert batch["observed_mask"][..., :8].all()


@pytest.mark.parametrize(
    ("values", "patch_size", "horizon", "message"),
    [
        (np.ones((2, 96)), 12, 36, "patch_size must be one of"),
        (np.ones((2, 96)), 8, 20, "whole patches"),
        (np.ones((2, 84)), 8, 20, "whole patches"),
        (np.ones((2, 96)), 8, 96, "whole patches"),
        (np.full((2, 96), np.nan), 8, 32, "values must be finite"),
    ],
)
def test_rows_that_cannot_be_cut_are_refused(values, patch_size, horizon, message):
    with pytest.raises(ValueError, match=message):
        pack_rows(values, make_model("moirai"), patch_size, horizon)


def test_mean_representations_leave_out_what_is_hidden():
    module = make_model("moirai")
    values = np.random.default_rng(0).normal(size=(2, 96))
    batch = pack_rows(values, module, 8, 32)
    changed = {**batch, "target": batch["target"] + 5 * batch["prediction_mask"][..., None]}
    for x, y in zip(mean_representations(module, batch), mean_representations(module, changed), strict=True):
        assert x.shape == (2, 128)
        torch.testing.assert_close(x, y)
    for x, tokens in zip(mean_representations(module, batch), layer_representations(module, batch), strict=True):
        torch.testing.assert_close(x, tokens[:, :8].mean(1))
