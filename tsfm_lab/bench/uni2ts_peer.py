"""The published MOIRAI implementation with our weights, where it is importable."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tsfm_lab.models.moirai import MoiraiModule


def has_uni2ts() -> bool:
    """Whether uni2ts can be imported here; `pip install --no-deps uni2ts==2.0.0` in an environment of its own."""
    return find_spec("uni2ts") is not None


def load_as_uni2ts(module: MoiraiModule) -> nn.Module:
    """uni2ts's module with `module`'s weights, through a saved checkpoint."""
    from uni2ts.model.moirai import MoiraiModule as PeerModule

    with tempfile.TemporaryDirectory() as folder:
        module.save_pretrained(folder)
        return PeerModule.from_pretrained(folder)


def make_uni2ts_loss(module: nn.Module) -> Callable[[Mapping[str, Tensor]], Tensor]:
    """Batch -> packed negative log-likelihood, as uni2ts's own pretraining computes it."""
    from uni2ts.loss.packed import PackedNLLLoss

    loss = PackedNLLLoss()
    scored = ("target", "prediction_mask", "observed_mask", "sample_id", "variate_id")
    return lambda batch: loss(pred=module(**batch), **{name: batch[name] for name in scored})


def make_uni2ts_forecast(module: MoiraiModule, target: np.ndarray, **options: Any) -> Callable[[], Tensor]:
    """uni2ts's forecast of complete histories (b c t) with `module`'s weights; options of its MoiraiForecast."""
    from uni2ts.model.moirai import MoiraiForecast as PeerForecast

    device = next(module.parameters()).device
    dims = {"target_dim": target.shape[1], "feat_dynamic_real_dim": 0, "past_feat_dynamic_real_dim": 0}
    peer = PeerForecast(module=load_as_uni2ts(module).to(device).eval(), **dims, **options)
    history = torch.from_numpy(target).transpose(1, 2).to(device)
    observed, is_pad = torch.ones_like(history, dtype=torch.bool), torch.zeros_like(history[..., 0], dtype=torch.bool)

    @torch.inference_mode()
    def forecast() -> Tensor:
        return peer(history, observed, is_pad)

    return forecast
