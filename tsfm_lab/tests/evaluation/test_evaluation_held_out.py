"""Held-out windows, the seasonal naive forecast and the scores relative to it."""

import numpy as np
import pytest
import torch

from tsfm_lab.data import load
from tsfm_lab.evaluation import HeldOutScore, open_held_out
from tsfm_lab.forecast import LEVELS, ArrayForecast
from tsfm_lab.forecast.naive import seasonal_naive
from tsfm_lab.metrics import mase, seasonal_error
from tsfm_lab.models import MoiraiModule


def test_seasonal_naive_repeats_the_last_season():
    history = np.array([9.0, 1, 2, 3, 4, 5, 6])
    np.testing.assert_array_equal(seasonal_naive(history, 5, season=3), [4, 5, 6, 4, 5])


def test_seasonal_naive_takes_the_last_observed_value_of_a_phase_and_then_of_all():
    nan = np.nan
    np.testing.assert_array_equal(seasonal_naive(np.array([1.0, nan, 3, 4, nan, 6]), 3, season=3), [4, 6, 6])
    np.testing.assert_array_equal(seasonal_naive(np.array([1.0, 2, nan]), 2, season=12), [2, 2])
    with pytest.raises(ValueError, match="observed"):
        seasonal_naive(np.full(4, nan), 2, season=2)


def test_windows_lie_side_by_side_at_the_end_and_histories_end_where_they_begin():
    nile = load("nile")[0].target[0]
    held_out = open_held_out("nile", num_series=5, num_windows=3)
    assert held_out.horizon == 6
    np.testing.assert_array_equal(held_out.labels.reshape(-1), nile[-18:])
    assert [len(history) for history in held_out.histories] == [82, 88, 94]
    np.testing.assert_array_equal(held_out.histories[-1], nile[:94])


def test_windows_without_two_horizons_of_history_are_left_out():
    assert len(open_held_out("nile", num_series=1, num_windows=40).labels) == 14  # 100 steps, horizon 6


def test_a_set_without_a_horizon_is_refused():
    with pytest.raises(ValueError, match="elnino has no horizon"):
        open_held_out("elnino", num_series=1, num_windows=1)


def test_naive_scores_are_those_of_its_point_forecast():
    held_out = open_held_out("nile", num_series=1, num_windows=2)
    point = np.stack([np.repeat(history[-1], 6) for history in held_out.histories])  # yearly: season 1
    scale = np.stack([seasonal_error(history, 1) for history in held_out.histories])
    assert held_out.naive_score()["mase"] == pytest.approx(mase(held_out.labels, point, scale))
    ratio = np.abs(held_out.labels - point).sum() / np.abs(held_out.labels).sum()
    assert held_out.naive_score()["wql"] == pytest.approx(ratio)


def test_a_perfect_forecast_scores_zero():
    held_out = open_held_out("nile", num_series=1, num_windows=2)
    perfect = ArrayForecast(held_out.labels, np.repeat(held_out.labels[:, None], len(LEVELS), axis=1), LEVELS)
    assert held_out.score(lambda histories, horizon: perfect) == {"mase": 0, "wql": 0}


def test_the_score_of_a_module_is_the_geometric_mean_over_the_sets_of_its_share_of_naive():
    sets = [open_held_out(name, num_series=1, num_windows=1) for name in ("nile", "co2")]
    score = HeldOutScore(sets, context_length=64, num_samples=5)
    torch.manual_seed(0)
    module = MoiraiModule.from_preset("small", d_model=64, num_layers=1, patch_sizes=(8, 16), max_seq_len=64)
    by_set = score.by_set(module)
    ratios = [by_set[name]["wql"] / score.naive[name]["wql"] for name in ("nile", "co2")]
    assert score(module)["wql"] == pytest.approx(np.sqrt(np.prod(ratios)))
    assert score(module) == score(module)  # the draws follow a fixed seed
