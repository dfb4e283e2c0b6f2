"""The published decoder of a STRIDE checkout with our weights, a peer to measure against. Nothing of it is copied."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

from tsfm_lab.models.timer_xl import TimerXL
from tsfm_lab.models.timer_xl_draft import TimerXLDraft

# of its scripts for ETTh1 with a stochastic .25 draft
SETTINGS = {"spec_k": 3, "spec_sigma": 0.3, "spec_accept_bias": 3.0, "draft_stochastic": True}
OPTIONS = {"flash_attention": False, "output_attention": False}  # of its models


def make_stride_decode(
    folder: Path, target: TimerXL, draft: TimerXLDraft, horizon: int
) -> Callable[[Tensor], tuple[Tensor, float]]:
    """Its `SpeculativeDecoder.generate`, at its scripts' settings: context (b t 1) -> (forecast, acceptance).

    target: its weights but σ, which the peer takes from spec_sigma. Raises ValueError where there is no decoder in the
    folder.
    """
    if not (folder / "utils" / "speculative_decoder.py").exists():
        raise ValueError(f"{folder} holds no utils/speculative_decoder.py: name the checkout of STRIDE")
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    models = sys.modules.setdefault("models", ModuleType("models"))
    models.__path__ = [f"{folder}/models"]  # without its __init__, which needs more than these models do
    decoder = import_module("utils.speculative_decoder").SpeculativeDecoder
    modules = []
    for model, name in ((target, "timer_xl"), (draft, "timer_xl_draft")):
        arguments = {**model.config, **OPTIONS, "draft_stochastic": SETTINGS["draft_stochastic"]}
        module = import_module(f"models.{name}").Model(Namespace(**arguments)).eval()
        own = ("sigma", "correlation_factor")  # the law is ours: the peer's is spec_sigma
        module.load_state_dict({key: value for key, value in model.state_dict().items() if key not in own})
        modules.append(module)
    sizes = {"input_token_len": target.input_token_len, "output_token_len": target.output_token_len}
    fixed = {"spec_temp": 1.0, "spec_topp": 1.0, "spec_adaptive": False, "spec_accept_mse_tol": 0.0, "use_norm": True}
    peer = decoder(*modules, Namespace(**SETTINGS, **sizes, **fixed))

    @torch.no_grad()
    def decode(x: Tensor) -> tuple[Tensor, float]:
        marks = x.new_zeros(len(x), 1, 1)
        forecast, accepted, attempted, _ = peer.generate(x, marks, marks, steps=horizon // target.output_token_len)
        return forecast, accepted / attempted

    return decode
