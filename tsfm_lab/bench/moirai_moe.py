"""A MOIRAI-MoE forecast, exact and behind the cache, beside uni2ts's; and a layer of experts beside a dense one."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tsfm_lab.bench.precision import Setting
from tsfm_lab.bench.timing import time_in_turns
from tsfm_lab.bench.uni2ts_peer import has_uni2ts
from tsfm_lab.forecast import MoiraiMoEForecast
from tsfm_lab.forecast.windows import Windows
from tsfm_lab.models import MoiraiMoEHybridModule, MoiraiMoEModule
from tsfm_lab.models.moirai_moe import expert_layer_maker
from tsfm_lab.nn.ffn import GatedLinearUnit

CONTEXT, HORIZON, NUM_SAMPLES = 1000, 96, 100  # steps: 63 tokens and 6
D_MODEL, DENSE_D_FF = 384, 1024  # of the small models; two experts are as wide as one dense layer
SCALES = ("exact", "frozen")


def measure_moe_forecast(batch_size: int, setting: Setting, rounds: int) -> dict[str, Any]:
    """Time of a batch of series from arrays to samples by small models: context 1000, horizon 96, 100 samples."""
    torch.manual_seed(0)
    modules = {"moe": MoiraiMoEModule.from_preset("small"), "hybrid": MoiraiMoEHybridModule.from_preset("small")}
    walks = np.random.default_rng(0).normal(size=(batch_size, 1, CONTEXT)).cumsum(2).astype(np.float32)
    windows, generator = Windows(walks, np.zeros((batch_size, CONTEXT), dtype=bool)), torch.Generator().manual_seed(0)
    calls: dict[str, Callable[[], Any]] = {}
    for name, module in modules.items():
        for scale in SCALES:
            forecaster = MoiraiMoEForecast(
                module.to(setting.device), HORIZON, CONTEXT, num_samples=NUM_SAMPLES, scale=scale
            )
            calls[f"{name} {scale}"] = lambda f=forecaster: f.predict(windows, HORIZON, generator)
    if has_uni2ts():
        calls["uni2ts"] = make_uni2ts_decode(modules["moe"], windows)
    with setting.active(), setting.autocast():
        times = time_in_turns(calls, rounds, 1, setting.device, setting.clock)
    row = {"series": batch_size, **setting.describe(), **{name: t.summary() for name, t in times.items()}}
    if has_uni2ts():
        row |= {f"{scale}/uni2ts": round(times[f"moe {scale}"].relative_to(times["uni2ts"]), 4) for scale in SCALES}
    return row


def make_uni2ts_decode(module: MoiraiMoEModule, windows: Windows) -> Callable[[], Tensor]:
    """uni2ts's forecast of complete univariate histories with `module`'s weights: (b s h)."""
    from uni2ts.model.moirai_moe import MoiraiMoEForecast as PeerForecast
    from uni2ts.model.moirai_moe import MoiraiMoEModule as PeerModule

    device = next(module.parameters()).device
    with tempfile.TemporaryDirectory() as folder:
        module.save_pretrained(folder)
        peer = PeerModule.from_pretrained(folder).to(device).eval()
    dims = {"target_dim": 1, "feat_dynamic_real_dim": 0, "past_feat_dynamic_real_dim": 0}
    forecaster = PeerForecast(HORIZON, **dims, context_length=CONTEXT, module=peer, num_samples=NUM_SAMPLES)
    history = torch.from_numpy(windows.target).transpose(1, 2).to(device)
    observed, is_pad = torch.ones_like(history, dtype=torch.bool), torch.from_numpy(windows.is_pad).to(device)

    @torch.inference_mode()
    def decode() -> Tensor:
        return forecaster(history, observed, is_pad)

    return decode


def measure_experts(num_tokens: int, setting: Setting, rounds: int) -> dict[str, Any]:
    """Forward pass of 32 experts, two a token, and of a dense GLU of the same products, on the same tokens."""
    torch.manual_seed(0)
    layers = {
        f"experts, {router}": expert_layer_maker(DENSE_D_FF // 2, 0.0, 32, 2, router, 0.0)(D_MODEL)
        for router in ("centroid", "linear")
    }
    layers["dense"] = GatedLinearUnit(D_MODEL, DENSE_D_FF)
    x = torch.randn(num_tokens, D_MODEL, device=setting.device)
    calls = {name: partial(torch.inference_mode()(layer.to(setting.device)), x) for name, layer in layers.items()}
    with setting.active(), setting.autocast():
        times = time_in_turns(calls, rounds, 2, setting.device, setting.clock)
    row = {"tokens": num_tokens, **setting.describe(), **{name: t.summary() for name, t in times.items()}}
    return row | {"experts/dense": round(times["experts, centroid"].relative_to(times["dense"]), 3)}
