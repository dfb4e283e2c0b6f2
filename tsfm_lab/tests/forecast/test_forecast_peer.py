"""The same law and the same scores as uni2ts from the same histories, where that package is installed."""

import numpy as np
import pytest
import torch

from tsfm_lab.data import Series
from tsfm_lab.forecast import MoiraiForecast
from tsfm_lab.forecast.tokens import pack_windows
from tsfm_lab.forecast.windows import cut_windows
from tsfm_lab.models import MoiraiModule

uni2ts_moirai = pytest.importorskip("uni2ts.model.moirai", reason="the peer uni2ts is not installed")

HORIZON, CONTEXT = 20, 60
SIZES = {"d_model": 64, "num_layers": 2, "patch_sizes": (8, 16, 32)}


@pytest.fixture(scope="module")
def modules(tmp_path_factory):
    """Our module and the peer's with the same weights."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("checkpoint")
    ours = MoiraiModule.from_preset("small", **SIZES).eval()
    ours.save_pretrained(folder)
    return ours, uni2ts_moirai.MoiraiModule.from_pretrained(folder).eval()


def items(num_variates, known=0, past=0):
    rng = np.random.default_rng(num_variates)
    found = []
    for name, t in (("long", 200), ("ragged", 71), ("short", 33)):
        target = rng.normal(size=(num_variates, t)).cumsum(1).astype(np.float32)
        target[0, 5:9] = np.nan
        found.append(
            Series(
                name,
                np.datetime64("2020-01-01"),
                "D",
                target,
                rng.normal(size=(past, t)).astype(np.float32) if past else None,
                rng.normal(size=(known, t + HORIZON)).astype(np.float32) if known else None,
            )
        )
    return found


def peer_inputs(windows):
    """The arguments of the peer's forward: time before variates, missing values 0 with a mask."""
    inputs = {"past_is_pad": torch.from_numpy(windows.is_pad)}
    named = {
        "target": windows.target,
        "feat_dynamic_real": windows.feat_dynamic_real,
        "past_feat_dynamic_real": windows.past_feat_dynamic_real,
    }
    for name, values in named.items():
        if values is None:
            continue
        values = torch.from_numpy(values).transpose(1, 2)
        observed = {"target": "past_observed_target", "feat_dynamic_real": "observed_feat_dynamic_real"}
        inputs["past_target" if name == "target" else name] = values.nan_to_num(0.0)
        inputs[observed.get(name, "past_observed_feat_dynamic_real")] = ~values.isnan()
    return inputs


def peer_forecast(module, patch_size, num_variates, known=0, past=0):
    return uni2ts_moirai.MoiraiForecast(
        prediction_length=HORIZON,
        context_length=CONTEXT,
        patch_size=patch_size,
        target_dim=num_variates,
        feat_dynamic_real_dim=known,
        past_feat_dynamic_real_dim=past,
        module=module,
    )


@pytest.mark.parametrize(("num_variates", "known", "past"), [(1, 0, 0), (3, 0, 0), (1, 2, 0), (2, 1, 2)])
@pytest.mark.parametrize("patch_size", [8, 32])
def test_the_law_of_the_horizon_is_the_peers(modules, patch_size, num_variates, known, past):
    """log_prob of one value under both; 1e-3 relative, as the contract asks."""
    ours, theirs = modules
    series = items(num_variates, known, past)
    if known and CONTEXT % patch_size:  # the peer takes a covariate's first token for real where it is padding alone
        series = series[:2]
    windows = cut_windows(series, CONTEXT, HORIZON, known, past)
    batch = pack_windows(windows, HORIZON, patch_size, 32)
    value = torch.full_like(batch["target"], 0.4)
    with torch.no_grad():
        own = ours.forward_predicted(**batch).log_prob(value)[batch["prediction_mask"]][:, :patch_size]
        peer = peer_forecast(theirs, patch_size, num_variates, known, past)
        law = peer._get_distr(patch_size, **peer_inputs(windows))
        log_prob = law.log_prob(value)
    num_context, num_ahead = -(-CONTEXT // patch_size), -(-HORIZON // patch_size)
    first = num_variates * num_context
    expected = log_prob[:, first : first + num_variates * num_ahead, :patch_size].flatten(0, 1)
    torch.testing.assert_close(own, expected, rtol=1e-3, atol=1e-4)


def test_the_scores_that_choose_the_patch_size_are_the_peers(modules):
    ours, theirs = modules
    forecaster = MoiraiForecast(ours, HORIZON, CONTEXT, target_dim=2)
    windows = cut_windows(items(2), forecaster.history_length(HORIZON), HORIZON)
    peer = peer_forecast(theirs, "auto", 2)
    inputs = {name.removeprefix("past_"): value for name, value in peer_inputs(windows).items()}
    for patch_size in ours.patch_sizes:
        with torch.inference_mode():
            own = forecaster.score(windows.slice(0, CONTEXT), windows.slice(CONTEXT, windows.length), patch_size)
            expected = peer._val_loss(patch_size, inputs["target"], inputs["observed_target"], inputs["is_pad"])
        np.testing.assert_allclose(own, expected.numpy(), rtol=1e-3)
