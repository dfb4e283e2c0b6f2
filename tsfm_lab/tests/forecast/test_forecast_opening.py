"""`tsfm_lab.load`: classical names, folders, runs, and what it says of a model that is not there."""

import json

import numpy as np
import pytest
import torch

import tsfm_lab
from tsfm_lab.data import in_domain
from tsfm_lab.forecast import Moirai2Forecast, MoiraiForecast, MoiraiMoEForecast, SeasonalNaive, TimerForecast
from tsfm_lab.forecast.opening import CLASSICAL, PRETRAINING_RECORD, pretraining_of
from tsfm_lab.models import (
    Moirai2Module,
    MoiraiHybridModule,
    MoiraiModule,
    MoiraiMoEModule,
    TimerXL,
    TinyTimeMixer,
)

SMALL = {"d_model": 64, "num_layers": 1, "patch_sizes": (8, 16)}


@pytest.mark.parametrize("name", CLASSICAL)
def test_a_classical_forecaster_opens_by_name_with_its_options(name):
    forecaster = tsfm_lab.load(name, prediction_length=3, season=4)
    assert forecaster.forecast(np.arange(40.0)).mean.shape == (1, 3)
    assert (forecaster.season, forecaster.pretraining) == (4, ())


@pytest.mark.parametrize("model", [MoiraiModule, MoiraiHybridModule])
def test_a_folder_opens_as_what_its_config_says(model, tmp_path):
    torch.manual_seed(0)
    module = model.from_preset("small", **SMALL)
    module.save_pretrained(tmp_path)
    forecaster = tsfm_lab.load(tmp_path, context_length=32, patch_size=8, prediction_length=4)
    expected = MoiraiForecast(module, 4, 32, 8).forecast(np.arange(40.0))
    np.testing.assert_array_equal(forecaster.forecast(np.arange(40.0)).quantiles, expected.quantiles)
    assert forecaster.pretraining is None


def test_a_run_opens_by_its_directory_and_names_what_it_was_trained_on(tmp_path):
    MoiraiModule.from_preset("small", **SMALL).save_pretrained(tmp_path / "model")
    (tmp_path / "config.json").write_text(json.dumps({"data": ["synthetic", "elnino=20", "macrodata"]}))
    forecaster = tsfm_lab.load(str(tmp_path))
    assert forecaster.pretraining == ("elnino", "macrodata")
    assert in_domain("elnino", forecaster.pretraining)
    assert not in_domain("nile", forecaster.pretraining)


def test_a_family_of_the_synthetic_mix_is_known_and_a_record_beside_the_weights_counts_first(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"data": ["/some/folder"]}))
    (tmp_path / "model").mkdir()
    record = {"data": ["synthetic", "synthetic/calendar=2", "elnino=100"]}
    (tmp_path / "model" / PRETRAINING_RECORD).write_text(json.dumps(record))
    assert pretraining_of(str(tmp_path / "model")) == ("elnino",)


def test_data_that_the_registry_does_not_know_leave_the_pretraining_unknown(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"data": ["elnino", "/some/folder"]}))
    assert pretraining_of(str(tmp_path / "model")) is None


def test_published_moirai_was_trained_on_lotsa():
    assert len(pretraining_of("Salesforce/moirai-1.1-R-small")) == 170


def test_timer_rolls_out_as_the_decoder_does_and_gives_its_own_variance(tmp_path):
    from tsfm_lab.decoding import slide

    torch.manual_seed(0)
    module = TimerXL(8, 8, d_model=32, n_heads=2, d_ff=32, e_layers=1, sigma="learned").eval()
    module.save_pretrained(tmp_path)
    history = np.random.default_rng(0).normal(size=(3, 2, 56)).astype(np.float32)
    forecast = tsfm_lab.load(tmp_path, target_dim=2).forecast(history, 20, (0.1, 0.5, 0.9))
    context = torch.from_numpy(history).mT
    np.testing.assert_allclose(forecast.mean, slide(module, context, 20).mT, rtol=1e-5, atol=1e-6)
    stdev = module.law(context).logvar[:, -8:].mT.exp().sqrt().detach()
    spread = (forecast.quantiles[:, :, 2] - forecast.quantiles[:, :, 0])[..., :8]
    np.testing.assert_allclose(spread, 2 * 1.2815516 * stdev, rtol=1e-4)  # float32


def test_a_point_model_forecasts_gaps_and_short_histories(tmp_path):
    TinyTimeMixer(16, 8, 8, d_model=8, decoder_width=8, e_layers=1).save_pretrained(tmp_path)
    forecaster = tsfm_lab.load(tmp_path)
    assert isinstance(forecaster, TimerForecast)
    assert forecaster.context_length == 16
    forecast = forecaster.forecast([np.array([1.0, np.nan, 2.0]), np.full(20, np.nan)], 11)
    assert np.isfinite(forecast.quantiles).all()
    np.testing.assert_array_equal(forecast.quantiles[:, 0], forecast.mean)


@pytest.mark.parametrize("name", ["seasonal_naiv", "nothing", "./nothing", "/nothing/at/all"])
def test_a_model_that_is_not_there_is_an_error_that_lists_those_that_are(name):
    with pytest.raises(ValueError, match=r"there is no model .*Classical forecasters: naive, seasonal_naive") as error:
        tsfm_lab.load(name)
    assert ("did you mean 'seasonal_naive'?" in str(error.value)) == (name == "seasonal_naiv")


def test_a_hub_id_that_cannot_be_had_is_the_same_error(monkeypatch):
    def refuse(*arguments, **options):
        raise FileNotFoundError("no network")

    monkeypatch.setattr("tsfm_lab.models.hf_hub_download", refuse)
    with pytest.raises(ValueError, match=r"no model 'nobody/nothing'.*FileNotFoundError: no network"):
        tsfm_lab.load("nobody/nothing")


def test_a_context_shorter_than_a_token_is_refused():
    with pytest.raises(ValueError, match="context_length must be at least a token of 8 steps, got 7"):
        TimerForecast(TinyTimeMixer(16, 8, 8, d_model=8, decoder_width=8), context_length=7)


def test_the_front_door_opens_what_the_forecast_package_does():
    assert isinstance(tsfm_lab.load("seasonal_naive"), SeasonalNaive)


OWN_MODULES = {MoiraiForecast: MoiraiModule, MoiraiMoEForecast: MoiraiMoEModule, Moirai2Forecast: Moirai2Module}


@pytest.mark.parametrize("forecaster", OWN_MODULES)
@pytest.mark.parametrize("module", OWN_MODULES.values())
def test_a_forecaster_opens_the_models_that_it_is_for_and_refuses_the_others(forecaster, module, tmp_path):
    patches = {} if module is Moirai2Module else {"patch_sizes": (16,)}
    module.from_preset("small", d_model=64, num_layers=1, **patches).save_pretrained(tmp_path)
    if module is OWN_MODULES[forecaster]:
        assert isinstance(forecaster.from_pretrained(tmp_path, prediction_length=8).module, module)
    else:
        with pytest.raises(ValueError, match=f"{forecaster.__name__} cannot decode a {module.__name__}"):
            forecaster.from_pretrained(tmp_path, prediction_length=8)
