"""Errors of rolled forecasts: over every window, step and variate, on standardised values."""

import os

import numpy as np
import pytest
import torch

from tsfm_lab.forecast.rolling import forecast_errors
from tsfm_lab.models.timer_xl import TimerXL
from tsfm_lab.training.timer_data import make_windows


class Repeat:
    """Windows whose context and future are the rows themselves, to be counted by hand."""

    def __init__(self, rows, context, horizon):
        self.rows, self.context, self.horizon = rows, context, horizon

    def __len__(self):
        return len(self.rows) - self.context - self.horizon + 1

    def __getitem__(self, i):
        return self.rows[i : i + self.context], self.rows[i + self.context : i + self.context + self.horizon]


def last_value(model, context, horizon):
    return context[:, -1:].expand(-1, horizon, -1)


@pytest.fixture
def model():
    return TimerXL(4, 4, 16, 2, 16, 1).eval()


def test_errors_are_means_over_windows_steps_and_variates(model):
    rows = np.random.default_rng(0).standard_normal((50, 3)).astype(np.float32)
    errors = forecast_errors(model, Repeat(rows, 8, 6), roll_out=last_value, batch_size=7)
    differences = np.array([[rows[i + 8 + h] - rows[i + 7] for h in range(6)] for i in range(37)], dtype=np.float64)
    assert (errors.horizon, errors.windows) == (6, 37)
    assert errors.mse == pytest.approx(np.square(differences).mean(), rel=1e-6)
    assert errors.mae == pytest.approx(np.abs(differences).mean(), rel=1e-6)


def test_with_covariates_only_the_last_variate_counts():
    model = TimerXL(4, 4, 16, 2, 16, 1, covariate=True).eval()
    rows = np.random.default_rng(0).standard_normal((30, 3)).astype(np.float32)
    rows[:, :2] = 100 * np.arange(30)[:, None]
    assert forecast_errors(model, Repeat(rows, 8, 4), roll_out=last_value).mae < 10


def test_a_subset_of_windows_is_evenly_spaced(model):
    rows = np.arange(40, dtype=np.float32)[:, None]
    seen = []

    def watch(model, context, horizon):
        seen.append(context[:, 0, 0])
        return last_value(model, context, horizon)

    errors = forecast_errors(model, Repeat(rows, 8, 4), roll_out=watch, max_windows=3)
    assert errors.windows == 3
    assert torch.cat(seen).tolist() == [0, 14, 28]


def test_windows_of_etth1_are_as_many_as_published(model):
    if not os.environ.get("TSFM_DATA_MIRROR"):
        pytest.skip("TSFM_DATA_MIRROR names no mirror of the real data")
    sizes = {"seq_len": 672, "input_token_len": 96, "output_token_len": 96, "autoregressive": False}
    counts = [len(make_windows("ETTh1", part, multivariate=True, **sizes)) for part in ("train", "val", "test")]
    assert counts == [7873, 2785, 2785]
    assert len(make_windows("ETTh1", "test", multivariate=False, **sizes)) == 7 * 2785
