"""The published MOIRAI implementation with our weights, where it is importable."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from importlib.util import find_spec

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
