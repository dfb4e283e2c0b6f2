"""A forecast from arrays to samples, ours and uni2ts's, with the same weights."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch

from tsfm_lab.bench.precision import Setting
from tsfm_lab.bench.timing import time_in_turns
from tsfm_lab.bench.uni2ts_peer import has_uni2ts, make_uni2ts_forecast
from tsfm_lab.data import Series
from tsfm_lab.forecast import MoiraiForecast
from tsfm_lab.forecast.windows import cut_windows
from tsfm_lab.models import MoiraiHybridModule, MoiraiModule

CONTEXT, HORIZON, NUM_SAMPLES, BATCH = 1000, 96, 100, 16


def measure_forecast(patch_size: int | Literal["auto"], setting: Setting, rounds: int) -> dict[str, Any]:
    """Time per series of small models: context 1000, horizon 96, 100 samples, 16 series in a batch."""
    torch.manual_seed(0)
    modules = {"baseline": MoiraiModule.from_preset("small"), "hybrid": MoiraiHybridModule.from_preset("small")}
    start, walks = np.datetime64("2020-01-01"), np.random.default_rng(0).normal(size=(BATCH, 2 * CONTEXT)).cumsum(1)
    series = [Series(str(i), start, "h", walk) for i, walk in enumerate(walks)]
    generator = torch.Generator().manual_seed(0)
    calls = {}
    for name, module in modules.items():
        forecaster = MoiraiForecast(module.to(setting.device), HORIZON, CONTEXT, patch_size, NUM_SAMPLES)
        calls[name] = lambda forecaster=forecaster: forecaster.predict_series(series, HORIZON, generator)
    if has_uni2ts():
        windows = cut_windows(series, forecaster.history_length(HORIZON), HORIZON)
        options = {"prediction_length": HORIZON, "context_length": CONTEXT, "patch_size": patch_size}
        calls["uni2ts"] = make_uni2ts_forecast(modules["baseline"], windows.target, num_samples=NUM_SAMPLES, **options)
    with setting.active(), setting.autocast():
        times = time_in_turns(calls, rounds, 1, setting.device, setting.clock)
    row = {"patch_size": str(patch_size), "series": BATCH, **setting.describe()}
    row |= {name: timing.summary() for name, timing in times.items()}
    if has_uni2ts():
        kind = "auto" if patch_size == "auto" else "fixed"
        row |= {f"{name}/uni2ts, {kind}": round(times[name].relative_to(times["uni2ts"]), 4) for name in modules}
    return row
