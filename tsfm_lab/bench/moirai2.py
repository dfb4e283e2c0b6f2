"""A MOIRAI-2 forecast, exact and behind the cache, uni2ts's with the same weights, and MOIRAI 1.x's beside it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tsfm_lab.bench.precision import Setting
from tsfm_lab.bench.timing import time_in_turns
from tsfm_lab.bench.uni2ts_peer import has_uni2ts
from tsfm_lab.forecast import Moirai2Forecast, MoiraiForecast
from tsfm_lab.forecast.windows import Windows
from tsfm_lab.models import Moirai2HybridModule, Moirai2Module, MoiraiModule

CONTEXT = 1000  # steps: 63 tokens
ONE_PASS = 64  # steps
SCALES = ("exact", "frozen")


def measure_moirai2(batch_size: int, horizon: int, setting: Setting, rounds: int) -> dict[str, Any]:
    """Time of a batch of series from arrays to quantiles by small models; the row says where ours and theirs differ.

    MOIRAI 1.x draws 100 samples in one pass with patches of 32 steps. Ratios to uni2ts are of several passes alone.
    """
    torch.manual_seed(0)
    modules = {"moirai2": Moirai2Module.from_preset("small"), "hybrid": Moirai2HybridModule.from_preset("small")}
    walks = np.random.default_rng(0).normal(size=(batch_size, 1, CONTEXT)).cumsum(2).astype(np.float32)
    windows = Windows(walks, np.zeros((batch_size, CONTEXT), dtype=bool))
    calls: dict[str, Callable[[], Tensor]] = {}
    for name, module in modules.items():
        for scale in SCALES:
            forecaster = Moirai2Forecast(module.to(setting.device), horizon, CONTEXT, scale)
            calls[f"{name} {scale}"] = lambda forecaster=forecaster: forecaster.decode(windows, horizon)
    one_pass = MoiraiForecast(MoiraiModule.from_preset("small").to(setting.device), horizon, CONTEXT, 32)
    calls["moirai 1.x"] = lambda: one_pass.predict(windows, horizon, torch.Generator().manual_seed(0))
    if has_uni2ts():
        calls["uni2ts"] = make_uni2ts_decode(modules["moirai2"], windows, horizon)
    with setting.active(), setting.autocast():
        times = time_in_turns(calls, rounds, 1, setting.device, setting.clock)
        row = {
            "series": batch_size,
            "horizon": horizon,
            **setting.describe(),
            **{name: t.summary() for name, t in times.items()},
        }
        row["exact/1.x"] = round(times["moirai2 exact"].relative_to(times["moirai 1.x"]), 2)
        if has_uni2ts() and horizon > ONE_PASS:
            row |= {f"{s}/uni2ts": round(times[f"moirai2 {s}"].relative_to(times["uni2ts"]), 4) for s in SCALES}
        if has_uni2ts():
            distance = (calls["moirai2 exact"]()[:, 0] - calls["uni2ts"]()).abs().max()
            row["largest difference"] = f"{float(distance):.0e}"
    return row


def make_uni2ts_decode(module: Moirai2Module, windows: Windows, horizon: int) -> Callable[[], Tensor]:
    """uni2ts's forecast of complete univariate histories with `module`'s weights: (b q h)."""
    from uni2ts.model.moirai2 import Moirai2Forecast as PeerForecast
    from uni2ts.model.moirai2 import Moirai2Module as PeerModule

    device = next(module.parameters()).device
    with tempfile.TemporaryDirectory() as folder:
        module.save_pretrained(folder)
        peer = PeerModule.from_pretrained(folder).to(device)
    forecaster = PeerForecast(horizon, 1, 0, 0, windows.length, module=peer)
    history = torch.from_numpy(windows.target).transpose(1, 2).to(device)
    observed, is_pad = torch.ones_like(history, dtype=torch.bool), torch.from_numpy(windows.is_pad).to(device)

    @torch.inference_mode()
    def decode() -> Tensor:
        return forecaster(history, observed, is_pad)

    return decode
