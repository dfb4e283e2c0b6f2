"""Bench of MOIRAI-MoE and of the claims made for it: what is compared is comparable. No test measures a time."""

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from tsfm_lab.bench.expert_claims import BlindForecast, count_compute
from tsfm_lab.bench.moirai_moe import D_MODEL, DENSE_D_FF
from tsfm_lab.forecast import MoiraiMoEForecast
from tsfm_lab.models import MoiraiMoEModule
from tsfm_lab.models.moirai_moe import expert_layer_maker
from tsfm_lab.nn.ffn import GatedLinearUnit


def count(layer, x):
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        layer(x)
    return counter.get_total_flops()


def test_the_layers_compared_have_the_same_active_operations():
    experts = expert_layer_maker(DENSE_D_FF // 2, 0.0, 32, 2, "centroid", 0.0)(D_MODEL)
    x = torch.randn(69, D_MODEL)
    ratio = count(experts, x) / count(GatedLinearUnit(D_MODEL, DENSE_D_FF), x)
    assert 1 <= ratio < 1.02  # the router's distances


def test_the_published_sizes_have_more_capacity_than_they_compute_with():
    counts = count_compute()
    assert counts["moe parameters"] == 117_025_800
    assert counts["moe/moirai parameters"] > 1.5
    assert counts["moe/moirai flops"] < 1.2


def test_a_blind_forecast_starts_as_the_other_and_does_not_follow_its_own_draws():
    torch.manual_seed(0)
    sizes = {"d_model": 64, "num_layers": 2, "patch_sizes": (8,), "num_experts": 6}
    module = MoiraiMoEModule.from_preset("small", **sizes)
    options = {"prediction_length": 24, "context_length": 40, "patch_size": 8, "num_samples": 50}
    history = 5 + np.sin(np.arange(40) / 3)
    seeing, blind = (
        kind(module, scale="frozen", **options).forecast(history, samples=True).samples[0]
        for kind in (MoiraiMoEForecast, BlindForecast)
    )
    np.testing.assert_allclose(blind[:, :8], seeing[:, :8], rtol=1e-5)
    assert not np.allclose(blind[:, 8:], seeing[:, 8:])
