"""MOIRAI-2's forecasts: the peer's decoding, several variates and passes, the cache, the surface."""

import numpy as np
import pandas as pd
import pytest
import torch
from einops import rearrange

from tsfm_lab.data import Series
from tsfm_lab.decoding.quantile_branches import decode_quantile_branches
from tsfm_lab.forecast import Moirai2Forecast, make_forecaster
from tsfm_lab.forecast.moirai2_passes import FrozenPasses, RescaledPasses
from tsfm_lab.forecast.tokens import pack_windows
from tsfm_lab.forecast.windows import Windows, cut_windows
from tsfm_lab.models import Moirai2HybridModule, Moirai2Module
from tsfm_lab.tests.models.make_golden import fill_weights
from tsfm_lab.tests.models.make_moirai2_golden import CONTEXT, FILE, HORIZON, SIZES, golden_windows

LONG = 150  # steps: three passes


@pytest.fixture(scope="module", params=[Moirai2Module, Moirai2HybridModule], ids=["moirai2", "hybrid"])
def module(request):
    torch.manual_seed(0)
    return request.param(**SIZES).eval()


def items(num_variates=1, known=0, past=0, horizon=LONG, gaps=True):
    """A long, a ragged and a short series, each with a gap."""
    rng = np.random.default_rng(num_variates)
    found = []
    for name, t in (("long", 200), ("ragged", 71), ("short", 33)):
        target = rng.normal(size=(num_variates, t)).cumsum(1).astype(np.float32)
        target[0, t - 20 : t - 16] = np.nan if gaps else 0
        past_values = rng.normal(size=(past, t)).astype(np.float32) if past else None
        known_values = rng.normal(size=(known, t + horizon)).astype(np.float32) if known else None
        found.append(Series(name, np.datetime64("2020-01-01"), "D", target, past_values, known_values))
    return found


def forecaster(module, num_variates=1, known=0, past=0, **options):
    return Moirai2Forecast(module, LONG, 96, **options, target_dim=num_variates, **dims(known, past))


def dims(known, past):
    return {"feat_dynamic_real_dim": known, "past_feat_dynamic_real_dim": past}


def test_decoding_is_the_peers():
    """Against golden/moirai2.npz: 13 patches in four passes; a gap, and a short history."""
    module = Moirai2Module(**SIZES)
    fill_weights(module)
    with np.load(FILE) as golden:
        expected = golden["decoded"]
    found = Moirai2Forecast(module, HORIZON, CONTEXT).decode(golden_windows(), HORIZON)[:, 0]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)  # float32, and a 50 to subtract


@pytest.mark.parametrize("num_variates", [1, 2])
@torch.inference_mode()
def test_a_later_pass_forecasts_each_branch_with_its_past_as_history(module, num_variates):
    """The slow way: one branch at a time, what it has generated appended to its history, in whole packed batches."""
    windows = cut_windows(items(num_variates, gaps=False), 96, LONG)
    b, generated = len(windows.target), []

    def quantiles_after(windows):
        batch = pack_windows(windows, 64, 16, 16)
        ahead = batch["prediction_mask"]
        before = ~ahead & ahead.roll(-1, dims=1)  # each variate's last token before its horizon
        return module(**batch)[before].unflatten(0, (b, num_variates))

    def extend(branches):
        generated.append(branches)
        after = []
        for r in range(branches.shape[1]):
            tail = torch.cat([newest[:, r].flatten(2) for newest in generated], dim=2).numpy()
            is_pad = np.pad(windows.is_pad, [(0, 0), (0, tail.shape[2])])
            after.append(quantiles_after(Windows(np.concatenate([windows.target, tail], axis=2), is_pad)))
        return torch.stack(after, dim=1)

    patches = decode_quantile_branches(quantiles_after(windows), extend, 10, module.quantile_levels)
    expected = rearrange(patches, "b c n q p -> b c q (n p)")[..., :LONG]
    found = forecaster(module, num_variates).decode(windows, LONG)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)  # sums in another order, three passes


class FrozenRecomputed(RescaledPasses):
    """Every pass reads everything, scaled as the first one was."""

    def _standardise(self, batch, is_future):
        loc, scale = super()._standardise(batch, is_future)
        if not self.generated:
            v = int(batch["variate_id"].max()) + 1
            own = (batch["variate_id"][:, None] == torch.arange(v)[:, None]) & (batch["sample_id"] > 0)[:, None]
            first = own.int().argmax(-1)  # (b v)
            self.frozen = [field[..., 0].gather(1, first) for field in (loc, scale)]
            return loc, scale
        repeats = len(loc) // len(self.frozen[0])
        variate = batch["variate_id"]
        return tuple(f.repeat_interleave(repeats, 0).gather(1, variate)[..., None] for f in self.frozen)


@pytest.mark.parametrize(("num_variates", "known", "past"), [(1, 0, 0), (3, 0, 0), (2, 2, 1)])
@torch.inference_mode()
def test_the_cache_gives_what_recomputing_with_the_frozen_scale_gives(module, num_variates, known, past):
    """1e-4: sums in another order in three passes, and the hybrid's LDS in place of its filters."""
    windows = cut_windows(items(num_variates, known, past), 96, LONG, known, past)
    decoded = [
        decode_quantile_branches(passes.first(), passes.extend, 10, module.quantile_levels)
        for passes in (kind(module, windows, LONG) for kind in (FrozenPasses, FrozenRecomputed))
    ]
    torch.testing.assert_close(*decoded, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("horizon", [10, 64])
def test_one_pass_needs_no_cache(module, horizon):
    exact, frozen = (forecaster(module, 2, scale=scale).forecast(pairs(), horizon) for scale in ("exact", "frozen"))
    np.testing.assert_allclose(exact.quantiles, frozen.quantiles, rtol=1e-4, atol=1e-5)
    assert exact.quantiles.shape == (3, 2, 9, horizon)


def pairs():
    return [item.target for item in items(2)]


def test_frozen_scales_change_later_passes_alone(module):
    exact, frozen = (forecaster(module, 2, scale=scale).forecast(pairs()).quantiles for scale in ("exact", "frozen"))
    np.testing.assert_allclose(exact[..., :64], frozen[..., :64], rtol=1e-4, atol=1e-5)
    assert np.abs(exact[..., 64:] - frozen[..., 64:]).max() > 1e-3


@pytest.mark.parametrize("scale", ["exact", "frozen"])
def test_a_series_is_forecast_the_same_alone_and_in_a_batch(module, scale):
    together = forecaster(module, scale=scale).forecast([item.target[0] for item in items()])
    for i, item in enumerate(items()):
        alone = forecaster(module, scale=scale).forecast([item.target[0]])
        np.testing.assert_allclose(alone.quantiles[0], together.quantiles[i], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scale", ["exact", "frozen"])
def test_known_covariates_of_the_horizon_reach_the_later_passes(module, scale):
    forecasts = []
    for change in (0.0, 5.0):
        (item,) = items(1, known=1)[:1]
        known = item.feat_dynamic_real.copy()
        known[:, item.length + 70 : item.length + 72] += change  # after the first pass's 64 steps
        windows = cut_windows([Series("a", item.start, "D", item.target, None, known)], 96, LONG, 1)
        forecasts.append(forecaster(module, known=1, scale=scale).decode(windows, LONG)[0, 0])
    assert not torch.allclose(forecasts[0][:, 128:], forecasts[1][:, 128:])


def test_quantiles_ascend_and_crossings_are_counted(module):
    model = forecaster(module)
    windows = cut_windows(items(), 96, LONG)
    raw = model.decode(windows, LONG)
    forecast = model.forecast([item.target[0] for item in items()])
    assert np.all(np.diff(forecast.quantiles, axis=1) >= 0)
    assert model.crossings == int((raw.diff(dim=2) < 0).sum()) > 0
    np.testing.assert_array_equal(forecast.quantiles, np.sort(raw.numpy()[:, 0], axis=1))
    assert np.all((forecast.mean > forecast.quantiles[:, 0]) & (forecast.mean < forecast.quantiles[:, -1]))


def test_gluonts_gets_quantile_forecasts(module):
    start = pd.Period("2020-01", freq="M")
    entries = [{"target": np.arange(150.0), "start": start, "item_id": "a"}, {"target": np.ones(20), "start": start}]
    predictor = Moirai2Forecast(module, 80, context_length=96).create_predictor(batch_size=2)
    first, second = predictor.predict(entries)
    assert (first.quantile(0.9).shape, first.item_id) == ((80,), "a")
    assert first.start_date == start + 150
    expected = Moirai2Forecast(module, 80, context_length=96).forecast([np.ones(20)])
    np.testing.assert_allclose(second.quantile(0.3), expected.quantiles[0, 2], rtol=1e-4, atol=1e-4)


def test_a_saved_model_forecasts_the_same_and_is_known_by_its_type(module, tmp_path):
    module.save_pretrained(tmp_path)
    histories = [item.target[0] for item in items()]
    opened = Moirai2Forecast.from_pretrained(tmp_path, prediction_length=70, context_length=96)
    by_kind = make_forecaster(module, prediction_length=70, context_length=96, num_samples=10)
    assert type(by_kind) is Moirai2Forecast
    np.testing.assert_array_equal(opened.forecast(histories).mean, by_kind.forecast(histories).mean)


def test_missing_values_and_a_constant_history_give_finite_forecasts(module):
    histories = [np.full(40, np.nan), np.full(40, 7.0), np.array([np.nan] * 39 + [1.0])]
    for scale in ("exact", "frozen"):
        assert np.isfinite(Moirai2Forecast(module, 100, 40, scale).forecast(histories).quantiles).all()


def test_bad_options_and_requests_are_refused(module):
    with pytest.raises(ValueError, match="scale must be one of exact, frozen, got 'cached'"):
        Moirai2Forecast(module, scale="cached")
    with pytest.raises(ValueError, match=r"at least two quantile_levels, got \(0.5,\)"):
        Moirai2Forecast(Moirai2Module(**SIZES, quantile_levels=(0.5,)))
    with pytest.raises(ValueError, match=r"within this model's 0.1 … 0.9, got \[0.05\]"):
        Moirai2Forecast(module).forecast(np.ones(50), 5, quantile_levels=(0.05, 0.5))
