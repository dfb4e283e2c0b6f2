"""Exact decoding of MOIRAI-MoE against uni2ts, where that package is installed: a draw is the law's mean in both."""

import numpy as np
import pytest
import torch

from tsfm_lab.distributions.affine import AffineTransformed
from tsfm_lab.forecast import MoiraiMoEForecast
from tsfm_lab.forecast.imputation import impute_windows
from tsfm_lab.forecast.windows import cut_windows
from tsfm_lab.models import MoiraiMoEModule
from tsfm_lab.tests.forecast.test_forecast_moirai_moe import covariates_of, items

peer_moe = pytest.importorskip("uni2ts.model.moirai_moe", reason="the peer uni2ts is not installed")

CONTEXT, HORIZON, P = 64, 29, 16
SIZES = {"d_model": 64, "num_layers": 2, "patch_sizes": (P,)}


@pytest.fixture(scope="module")
def modules(tmp_path_factory):
    """Our module and the peer's with the same weights."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("checkpoint")
    ours = MoiraiMoEModule.from_preset("small", **SIZES).eval()
    ours.save_pretrained(folder)
    return ours, peer_moe.MoiraiMoEModule.from_pretrained(folder).eval()


@pytest.mark.parametrize(("num_variates", "known", "past"), [(1, 0, 0), (3, 0, 0), (2, 1, 2)])
def test_the_patches_are_the_peers_one_after_the_other(modules, monkeypatch, num_variates, known, past):
    from uni2ts.distribution._base import AffineTransformed as PeerAffine

    draw = lambda law, shape=(): law.mean.expand(*shape, *law.mean.shape)  # noqa: E731
    for law in (AffineTransformed, PeerAffine):
        monkeypatch.setattr(law, "sample", draw)
    ours, theirs = modules
    series = items(num_variates, known, past)[: 2 if known else 3]
    windows = cut_windows(series, CONTEXT, HORIZON, known, past)
    options = {"target_dim": num_variates, **covariates_of(known, past)}
    forecaster = MoiraiMoEForecast(ours, HORIZON, CONTEXT, P, 2, **options)
    found = forecaster.predict(windows, HORIZON, torch.Generator()).samples
    peer = peer_moe.MoiraiMoEForecast(
        prediction_length=HORIZON, context_length=CONTEXT, patch_size=P, num_samples=2, module=theirs, **options
    )
    with torch.inference_mode():
        expected = peer(**peer_inputs(windows)).numpy()  # (b s h) or (b s h c)
    expected = expected[:, :, :, None] if num_variates == 1 else expected
    # float32 sums in another order, fed back
    np.testing.assert_allclose(found, expected.transpose(0, 3, 1, 2), rtol=1e-3, atol=1e-3)


def peer_inputs(windows):
    """The arguments of the peer's forward: time before variates, gaps filled as its own transforms do."""
    filled = impute_windows(windows)
    inputs = {"past_is_pad": torch.from_numpy(windows.is_pad)}
    for name in ("target", "feat_dynamic_real", "past_feat_dynamic_real"):
        values, given = getattr(filled, name), getattr(windows, name)
        if values is None:
            continue
        observed = {"target": "past_observed_target", "feat_dynamic_real": "observed_feat_dynamic_real"}
        inputs["past_target" if name == "target" else name] = torch.from_numpy(values).nan_to_num(0.0).transpose(1, 2)
        place = observed.get(name, "past_observed_feat_dynamic_real")
        inputs[place] = ~torch.from_numpy(given).isnan().transpose(1, 2)
    return inputs
