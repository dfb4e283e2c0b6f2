"""MOIRAI-MoE's forecasts: both ways to decode against a slow one, the surface, and what it refuses."""

from contextlib import nullcontext
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch

from tsfm_lab.data import Series
from tsfm_lab.distributions.affine import AffineTransformed
from tsfm_lab.forecast import MoiraiMoEForecast, make_forecaster
from tsfm_lab.forecast.imputation import impute_windows
from tsfm_lab.forecast.tokens import pack_windows
from tsfm_lab.forecast.windows import cut_windows
from tsfm_lab.models import MoiraiMoEHybridModule, MoiraiMoEModule

SMALL = {"d_model": 64, "num_layers": 2, "patch_sizes": (8, 16), "max_seq_len": 40, "num_experts": 6}
CONTEXT, HORIZON, P = 60, 29, 8
MODELS = {"attention": MoiraiMoEModule, "hybrid": MoiraiMoEHybridModule}


@pytest.fixture(scope="module", params=MODELS)
def module(request):
    torch.manual_seed(0)
    return MODELS[request.param].from_preset("small", **SMALL).eval()


@pytest.fixture
def means_for_draws(monkeypatch):
    """A draw is the law's mean, so that ways to decode can be compared patch by patch."""
    draw = lambda law, shape=(): law.mean.expand(*shape, *law.mean.shape)  # noqa: E731
    monkeypatch.setattr(AffineTransformed, "sample", draw)


def items(num_variates=1, known=0, past=0):
    """A long history, one shorter than the context with a gap, a short one."""
    rng = np.random.default_rng(num_variates)
    found = []
    for name, t in (("long", 200), ("ragged", 43), ("short", 21)):
        target = 5 + np.sin(np.arange(t) / 4) + 0.2 * rng.normal(size=(num_variates, t))
        target[0, 5:8] = np.nan
        covariates = [rng.normal(size=shape).astype(np.float32) for shape in ((past, t), (known, t + HORIZON))]
        stamp = np.datetime64("2020-01-01")
        found.append(Series(name, stamp, "D", target, *(x if len(x) else None for x in covariates)))
    return found


def decode_slowly(module, windows, frozen):
    """Means of the horizon, (b c h): every patch from a pass over all tokens, horizon included, as uni2ts does it."""
    batch = pack_windows(windows, HORIZON, P, 16)
    batch["target"] = pack_windows(impute_windows(windows), HORIZON, P, 16)["target"]
    b, c = windows.target.shape[:2]
    place = batch["prediction_mask"].nonzero()[:, 1].view(b, c, -1)
    hidden = batch["prediction_mask"]
    row = torch.arange(b)[:, None]
    fixed = module.standardise(
        *(batch[name] for name in ("target", "observed_mask", "sample_id", "variate_id")), hidden
    )
    for j in range(place.shape[2]):
        with mock.patch.object(module.scaler, "forward", return_value=fixed) if frozen else nullcontext():
            law = module(**batch)
        batch["target"][row, place[..., j], :P] = law.mean[row, place[..., j] - 1, :P]
        batch["prediction_mask"][row, place[..., j]] = False
        batch["prediction_mask"][0, place[0, 0, -1]] = True  # a batch must have something to predict
    return torch.stack([batch["target"][row, place[..., j], :P] for j in range(place.shape[2])], 2).flatten(2)


def covariates_of(known, past):
    return {"feat_dynamic_real_dim": known, "past_feat_dynamic_real_dim": past}


@pytest.mark.parametrize("scale", ["exact", "frozen"])
@pytest.mark.parametrize(("num_variates", "known", "past"), [(1, 0, 0), (3, 0, 0), (2, 1, 2)])
def test_decoding_gives_what_a_pass_over_everything_gives(module, means_for_draws, scale, num_variates, known, past):
    series = items(num_variates, known, past)
    options = {"target_dim": num_variates, **covariates_of(known, past)}
    forecaster = MoiraiMoEForecast(module, HORIZON, CONTEXT, P, 2, scale, **options)
    windows = cut_windows(series, CONTEXT, HORIZON, known, past)
    found = forecaster.predict(windows, HORIZON, torch.Generator()).samples
    with torch.no_grad():
        expected = decode_slowly(module, windows, scale == "frozen").numpy()[..., :HORIZON]
    for sample in range(2):
        # float32 sums in another order, fed back four times; the LDS stands for the filters to 1e-6 or better
        np.testing.assert_allclose(found[:, :, sample], expected, rtol=1e-3, atol=1e-3)


def test_frozen_and_exact_scale_give_one_law_for_the_first_patch_and_others_after_it(module, means_for_draws):
    windows = cut_windows(items(), CONTEXT, HORIZON)
    exact, frozen = (
        MoiraiMoEForecast(module, HORIZON, CONTEXT, P, 1, scale).predict(windows, HORIZON, torch.Generator()).samples
        for scale in ("exact", "frozen")
    )
    np.testing.assert_allclose(frozen[..., :P], exact[..., :P], rtol=1e-4)
    assert np.abs(frozen[..., P:] / exact[..., P:] - 1).max() > 1e-3


@pytest.mark.parametrize("scale", ["exact", "frozen"])
def test_arrays_give_arrays_with_as_many_samples_as_asked_for(module, scale):
    histories = [item.target[0] for item in items()]
    forecaster = MoiraiMoEForecast(module, 20, CONTEXT, P, num_samples=7, scale=scale)
    forecast = forecaster.forecast(histories, samples=True)
    assert (forecast.mean.shape, forecast.quantiles.shape) == ((3, 20), (3, 9, 20))
    assert forecast.samples.shape == (3, 7, 20)
    assert len(np.unique(forecast.samples[0, :, -1])) == 7  # every sample goes its own way
    assert np.isfinite(forecast.samples).all()


def test_a_table_gives_a_long_table_that_goes_on_after_it(module):
    dates = pd.date_range("2021-01-31", periods=40, freq="ME")
    frame = pd.DataFrame({"date": dates, "x": np.arange(40.0), "y": np.ones(40)})
    forecaster = MoiraiMoEForecast(module, context_length=40, patch_size=8, num_samples=5)
    forecast = forecaster.forecast(frame, 12, quantile_levels=(0.1, 0.5))
    assert list(forecast.columns) == ["item_id", "timestamp", "mean", "0.1", "0.5"]
    assert forecast.timestamp[:12].tolist() == pd.date_range(dates[-1], periods=13, freq="ME")[1:].tolist()


def test_the_same_seed_gives_the_same_samples(module):
    forecaster = MoiraiMoEForecast(module, 20, CONTEXT, P, num_samples=4)
    first, again, other = (
        forecaster.forecast([item.target[0] for item in items()], samples=True, seed=seed).samples for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_gluonts_predictor_draws_samples(module):
    dataset = pytest.importorskip("gluonts.dataset.pandas", reason="needs gluonts")
    index = pd.period_range("2020-01-01", periods=50, freq="D")
    data = dataset.PandasDataset({"a": pd.DataFrame({"target": np.arange(50.0)}, index=index)})
    (forecast,) = MoiraiMoEForecast(module, 12, CONTEXT, P, num_samples=6).create_predictor(seed=1).predict(data)
    assert forecast.samples.shape == (6, 12)


def test_a_horizon_may_be_longer_than_the_rows_of_training():
    torch.manual_seed(0)
    module = MoiraiMoEModule.from_preset("small", **SMALL).eval()
    horizon = P * (SMALL["max_seq_len"] + 5)
    forecaster = MoiraiMoEForecast(module, horizon, CONTEXT, P, num_samples=2, scale="frozen")
    assert np.isfinite(forecaster.forecast(items()[0].target[0], samples=True).samples).all()


def test_a_hybrids_horizon_ends_with_its_filters():
    module = MoiraiMoEHybridModule.from_preset("small", **SMALL).eval()
    forecaster = MoiraiMoEForecast(module, P * SMALL["max_seq_len"], CONTEXT, P, num_samples=2, scale="frozen")
    with pytest.raises(ValueError, match="longer than the filters, seq_len=40"):
        forecaster.forecast(items()[0].target[0])


def test_a_model_finds_its_forecaster_and_a_checkpoint_opens(module, tmp_path):
    assert isinstance(make_forecaster(module, context_length=8), MoiraiMoEForecast)
    module.save_pretrained(tmp_path)
    forecaster = MoiraiMoEForecast.from_pretrained(tmp_path, prediction_length=4, patch_size=8, num_samples=2)
    assert forecaster.forecast(np.arange(30.0)).mean.shape == (1, 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch_size": 32}, r"patch_size must be one of \(8, 16\), got 32"),
        ({"patch_size": "auto"}, r"patch_size must be one of \(8, 16\), got 'auto'"),
        ({"num_samples": 0}, "num_samples must be at least 1, got 0"),
        ({"scale": "cached"}, "scale must be one of exact, frozen, got 'cached'"),
        ({"context_length": 0}, "context_length must be at least 1, got 0"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(module, options, message):
    with pytest.raises(ValueError, match=message):
        MoiraiMoEForecast(module, 12, **options)
