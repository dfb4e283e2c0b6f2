"""What a user's table may have wrong: every forecaster says what it is, or reports what it left out."""

import numpy as np
import pandas as pd
import pytest
import torch

import tsfm_lab
from tsfm_lab.data import from_frame
from tsfm_lab.forecast import MoiraiForecast, SeasonalNaive
from tsfm_lab.models import MoiraiHybridModule, MoiraiModule

DATES = pd.date_range("2020-01-01", periods=30, freq="D")


@pytest.fixture(params=["seasonal_naive", "moirai"])
def forecaster(request):
    if request.param == "seasonal_naive":
        return tsfm_lab.load("seasonal_naive", prediction_length=3)
    torch.manual_seed(0)
    module = MoiraiModule.from_preset("small", d_model=64, num_layers=1, patch_sizes=(8,))
    return MoiraiForecast(module, 3, context_length=16, patch_size=8, num_samples=5)


@pytest.mark.parametrize(
    ("frame", "options", "message"),
    [
        (pd.DataFrame({"date": DATES[[0, 1, 1, 2, 3]], "x": range(5)}), {}, "duplicate stamps"),
        (pd.DataFrame({"date": DATES[:5], "x": range(5)}), {"target": "y"}, "'y'"),
        (pd.DataFrame({"date": DATES[:5], "x": list("abcde")}), {}, "x"),
        (pd.DataFrame({"date": DATES[:1], "x": [1.0]}), {}, "freq"),
        (pd.DataFrame({"date": DATES[[0, 1, 5, 20]], "x": range(4)}), {}, "freq|gap|missing"),
        (pd.DataFrame({"x": range(5)}), {}, "time|stamp|date"),
    ],
    ids=["duplicate stamps", "unknown column", "text", "no frequency", "gaps", "no stamps"],
)
def test_a_table_that_cannot_be_used_is_an_error_that_names_the_trouble(forecaster, frame, options, message):
    with pytest.raises(ValueError, match=message):
        forecaster.forecast(frame, **options)


def test_unsorted_stamps_are_put_in_order(forecaster):
    frame = pd.DataFrame({"date": DATES, "x": np.arange(30.0)})
    shuffled = frame.sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(forecaster.forecast(shuffled), forecaster.forecast(frame))


def test_one_point_of_history_is_forecast(forecaster):
    frame = pd.DataFrame({"date": DATES[:1], "x": [5.0]})
    forecast = forecaster.forecast(frame, freq="D")
    assert np.isfinite(forecast["0.5"]).all()
    assert forecast["timestamp"].tolist() == DATES[1:4].tolist()


def test_a_bad_series_among_good_ones_can_be_left_out_and_is_reported(forecaster):
    good = pd.DataFrame({"item_id": "good", "date": DATES, "x": np.arange(30.0)})
    bad = pd.DataFrame({"item_id": "bad", "date": DATES[[0, 0, 1]], "x": 1.0})
    series = from_frame(pd.concat([good, bad]), bad="skip", freq="D")
    assert any("bad" in note for note in series.notes)
    assert set(forecaster.forecast(series)["item_id"]) == {"good"}


def test_all_missing_series_are_refused_by_a_classical_model_and_forecast_as_0_by_moirai(forecaster):
    frame = pd.DataFrame({"date": DATES, "x": np.nan})
    if isinstance(forecaster, SeasonalNaive):
        with pytest.raises(ValueError, match="has no observed value in its last 1024 steps"):
            forecaster.forecast(frame)
    else:
        assert np.isfinite(forecaster.forecast(frame)["mean"]).all()


@pytest.mark.parametrize("levels", [(0.0,), (1.0,), (-0.1, 0.5), (0.9, 0.1)])
def test_levels_outside_0_and_1_are_refused(forecaster, levels):
    with pytest.raises(ValueError, match="quantile_levels must be ascending and within"):
        forecaster.forecast(np.arange(20.0), quantile_levels=levels)


def test_a_horizon_beyond_the_filters_of_a_hybrid_names_what_would_do():
    module = MoiraiHybridModule.from_preset(
        "small", d_model=64, num_layers=2, patch_sizes=(8, 16), max_seq_len=8, num_eigh=4
    )
    with pytest.raises(ValueError, match=r"patch_size|max_seq_len"):
        MoiraiForecast(module, 100, context_length=32, patch_size=8).forecast(np.arange(40.0))
