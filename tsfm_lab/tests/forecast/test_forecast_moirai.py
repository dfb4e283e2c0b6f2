"""MOIRAI's forecasts: the surface, the peer's conversions, the choice of the patch size."""

import numpy as np
import pandas as pd
import pytest
import torch

from tsfm_lab.data import Series
from tsfm_lab.forecast import MoiraiForecast
from tsfm_lab.forecast.tokens import pack_windows
from tsfm_lab.forecast.windows import cut_windows
from tsfm_lab.models import MoiraiHybridModule, MoiraiModule

SMALL = {"d_model": 64, "num_layers": 2, "patch_sizes": (8, 16, 32)}


@pytest.fixture(scope="module", params=[MoiraiModule, MoiraiHybridModule], ids=["baseline", "hybrid"])
def module(request):
    torch.manual_seed(0)
    return request.param.from_preset("small", **SMALL).eval()


@pytest.fixture
def waves():
    """Three histories of different lengths, one with a gap."""
    rng = np.random.default_rng(0)
    histories = [np.sin(np.arange(t) / 4) + 0.1 * rng.normal(size=t) for t in (90, 64, 31)]
    histories[0][20:25] = np.nan
    return [history.astype(np.float32) for history in histories]


def test_arrays_give_arrays(module, waves):
    forecaster = MoiraiForecast(module, 10, context_length=64, patch_size=8, num_samples=20)
    forecast = forecaster.forecast(waves, samples=True)
    assert (forecast.mean.shape, forecast.quantiles.shape) == ((3, 10), (3, 9, 10))
    assert forecast.samples.shape == (3, 20, 10)
    assert np.all(np.diff(forecast.quantiles, axis=1) >= 0)
    np.testing.assert_allclose(forecast.mean, forecast.samples.mean(axis=1), rtol=1e-6)


def test_a_table_gives_a_long_table_that_goes_on_after_it(module):
    dates = pd.date_range("2021-01-31", periods=40, freq="ME")
    frame = pd.DataFrame({"date": dates, "x": np.arange(40.0), "y": np.ones(40)})
    forecast = MoiraiForecast(module, context_length=40, patch_size=8).forecast(frame, 3, quantile_levels=(0.1, 0.5))
    assert list(forecast.columns) == ["item_id", "timestamp", "mean", "0.1", "0.5"]
    assert forecast.item_id.tolist() == ["x"] * 3 + ["y"] * 3
    expected = pd.date_range(dates[-1], periods=4, freq="ME")[1:]
    assert forecast.timestamp[:3].tolist() == expected.tolist()


def test_variates_are_forecast_together(module, waves):
    pairs = [np.stack([wave, -wave]) for wave in waves]
    forecaster = MoiraiForecast(module, 12, context_length=64, patch_size=16, target_dim=2, num_samples=7)
    forecast = forecaster.forecast(pairs, samples=True)
    assert (forecast.quantiles.shape, forecast.samples.shape) == ((3, 2, 9, 12), (3, 2, 7, 12))


def test_the_same_seed_gives_the_same_samples_and_leaves_the_callers_generator(module, waves):
    forecaster = MoiraiForecast(module, 5, context_length=64)
    torch.manual_seed(3)
    state = torch.get_rng_state()
    first, again, other = (forecaster.forecast(waves, samples=True, seed=seed).samples for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert torch.equal(state, torch.get_rng_state())


def test_a_series_is_forecast_the_same_alone_and_in_a_batch(module, waves):
    """The law of each value; 1e-4 for sums in another order."""
    items = [Series(str(i), np.datetime64("2020-01-01"), "D", wave) for i, wave in enumerate(waves)]
    value = torch.full((1, 12, 32), 0.3)
    packed = pack_windows(cut_windows(items, 64, 10), 10, 8, 32)
    together = module.forward_predicted(**packed).log_prob(value.expand(3, -1, -1)[:, : packed["target"].shape[1]])
    for i, item in enumerate(items):
        batch = pack_windows(cut_windows([item], 64, 10), 10, 8, 32)
        alone = module.forward_predicted(**batch).log_prob(value[:, : batch["target"].shape[1]])
        torch.testing.assert_close(alone[0], together[i], rtol=1e-4, atol=1e-4)


def test_covariates_change_the_forecast(module, waves):
    item = Series("a", np.datetime64("2020-01-01"), "D", waves[1])
    forecasts = []
    for value in (0.0, 5.0):
        known = np.full((1, item.length + 6), value, dtype=np.float32)
        known[:, ::2] = 1
        past = np.full((2, item.length), value, dtype=np.float32)
        series = Series("a", item.start, "D", item.target, past, known)
        forecaster = MoiraiForecast(
            module, 6, context_length=64, patch_size=8, feat_dynamic_real_dim=1, past_feat_dynamic_real_dim=2
        )
        forecasts.append(forecaster.predict_series([series], 6, torch.Generator().manual_seed(0)).samples)
    assert not np.allclose(*forecasts)


def test_auto_takes_the_patch_size_with_the_best_score(module, waves):
    forecaster = MoiraiForecast(module, 10, context_length=40)
    items = [Series(str(i), np.datetime64("2020-01-01"), "D", wave) for i, wave in enumerate(waves)]
    windows = cut_windows(items, forecaster.history_length(10), 10)
    chosen = forecaster.choose_patch_sizes(windows, 10)
    for i, item in enumerate(items):
        scores = []
        for size in module.patch_sizes:
            past = cut_windows([item.window(0, item.length - 10)], 40, 10)
            last = cut_windows([item.window(item.length - 10, item.length)], 10, 0)
            batch = pack_windows(past, 10, size, 32, last)
            log_prob = module(**batch).log_prob(batch["target"])
            counted = batch["prediction_mask"][..., None] & batch["observed_mask"]
            scores.append(-log_prob[counted].mean().item())
        assert chosen[i] == module.patch_sizes[int(np.argmin(scores))]


def test_gluonts_gets_its_own_forecasts(module):
    start = pd.Period("2020-01", freq="M")
    entries = [{"target": np.arange(50.0), "start": start, "item_id": "a"}, {"target": np.ones(20), "start": start}]
    predictor = MoiraiForecast(module, 4, context_length=32, patch_size=8, num_samples=11).create_predictor(
        batch_size=1
    )
    first, second = predictor.predict(entries)
    assert (first.samples.shape, first.item_id) == ((11, 4), "a")
    assert first.start_date == start + 50
    assert second.start_date == start + 20


def test_a_saved_model_forecasts_the_same(module, waves, tmp_path):
    module.save_pretrained(tmp_path)
    options = {"prediction_length": 6, "context_length": 64, "patch_size": 16}
    opened = MoiraiForecast.from_pretrained(tmp_path, **options).forecast(waves)
    np.testing.assert_array_equal(opened.mean, MoiraiForecast(module, **options).forecast(waves).mean)


def test_missing_values_and_a_constant_history_give_finite_forecasts(module):
    histories = [np.full(40, np.nan), np.full(40, 7.0), np.array([np.nan] * 39 + [1.0])]
    forecast = MoiraiForecast(module, 5, context_length=40, patch_size=8).forecast(histories)
    assert np.isfinite(forecast.quantiles).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch_size": 5}, "patch_size must be 'auto' or one of"),
        ({"num_samples": 0}, "num_samples must be at least 1, got 0"),
        ({"prediction_length": 0}, "prediction_length must be at least 1, got 0"),
        ({"context_length": 0}, "context_length must be at least 1, got 0"),
        ({"target_dim": 0}, "target_dim must be at least 1, got 0"),
    ],
)
def test_bad_options_are_refused(module, options, message):
    with pytest.raises(ValueError, match=message):
        MoiraiForecast(module, **options)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({}, "prediction_length must be at least 1 step, got None"),
        ({"prediction_length": 0}, "prediction_length must be at least 1 step, got 0"),
        ({"prediction_length": 3, "quantile_levels": (0.5, 0.1)}, "quantile_levels must be ascending"),
        ({"prediction_length": 3, "quantile_levels": (0.0, 0.5)}, "within \\(0, 1\\)"),
    ],
)
def test_a_bad_request_is_refused(module, waves, request_, message):
    with pytest.raises(ValueError, match=message):
        MoiraiForecast(module).forecast(waves, **request_)
