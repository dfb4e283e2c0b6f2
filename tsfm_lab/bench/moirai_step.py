"""A training step of MOIRAI and of the hybrid — plans, forward, loss, backward, AdamW — in time and memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tsfm_lab.bench.packed_rows import make_packed_batch
from tsfm_lab.bench.precision import Setting
from tsfm_lab.bench.timing import peak_memory, time_in_turns
from tsfm_lab.bench.uni2ts_peer import has_uni2ts, load_as_uni2ts, make_uni2ts_loss
from tsfm_lab.models.moirai import MoiraiModule
from tsfm_lab.models.moirai_hybrid import MoiraiHybridModule, count_parameters
from tsfm_lab.nn.attention_blocks import plan_blocks
from tsfm_lab.nn.packing import plan_segments
from tsfm_lab.training.losses import PackedNLLLoss
from tsfm_lab.training.optimizer import make_optimizer

Batch = dict[str, Tensor]
LossFunction = Callable[[Batch], Tensor]


def make_modules(device: torch.device) -> dict[str, nn.Module]:
    """Baseline, hybrid, the hybrid of the baseline's parameter count, and uni2ts with the baseline's weights."""
    torch.manual_seed(0)
    baseline = MoiraiModule.from_preset("small")
    modules = {
        "baseline": baseline,
        "hybrid": MoiraiHybridModule.from_preset("small"),
        "hybrid_matched": MoiraiHybridModule.from_preset("small", match_parameters=True),
    }
    if has_uni2ts():
        modules["uni2ts"] = load_as_uni2ts(baseline)
    return {name: module.to(device).train() for name, module in modules.items()}


def count_all(modules: dict[str, nn.Module]) -> dict[str, int]:
    """Parameters of each module."""
    return {name: count_parameters(module) for name, module in modules.items()}


def measure_steps(
    modules: dict[str, nn.Module], num_segments: int, variates: tuple[int, ...], setting: Setting, rounds: int
) -> dict[str, Any]:
    """Time of one step of each module on the same 8 × 512 tokens."""
    batch = make_packed_batch(num_segments, variates)
    steps = {name: make_step(name, module, batch, setting) for name, module in modules.items()}
    with setting.active():
        warmup = 3 if setting.compiled else 1
        times = time_in_turns(steps, rounds, warmup, setting.device, setting.clock)
    row = {"segments": num_segments, "variates_per_sample": list(variates), **setting.describe()}
    row |= {name: timing.summary() for name, timing in times.items()}
    pairs = [("hybrid", "baseline"), ("hybrid_matched", "baseline"), ("baseline", "uni2ts"), ("hybrid", "uni2ts")]
    row |= {f"{a}/{b}": round(times[a].relative_to(times[b]), 3) for a, b in pairs if {a, b} <= times.keys()}
    return row


def measure_memory(modules: dict[str, nn.Module], num_segments: int, setting: Setting) -> dict[str, Any]:
    """Peak memory of one step of each module, above weights, gradients and optimiser state, in MiB."""
    batch = make_packed_batch(num_segments, (1, 2, 4))
    peaks = {}
    with setting.active():
        for name, module in modules.items():
            peaks[name] = peak_memory(make_step(name, module, batch, setting), setting.device)
            module.zero_grad(set_to_none=True)
    row = {"measure": "peak MiB", "segments": num_segments, "precision": setting.precision}
    return row | {name: None if peak is None else round(peak) for name, peak in peaks.items()}


def make_step(name: str, module: nn.Module, batch: Batch, setting: Setting) -> Callable[[], float]:
    """A call that trains `module` by one step and returns the loss."""
    compute_loss = make_uni2ts_loss(module) if name == "uni2ts" else partial(_own_loss, module)
    if setting.compiled:
        compute_loss = torch.compile(compute_loss)
    on_device = {field: value.to(setting.device) for field, value in batch.items()}
    make_plans = partial(_make_plans, module, batch, setting.device) if name != "uni2ts" else dict
    return partial(_step, compute_loss, make_plans, on_device, make_optimizer(module, 1e-4, 0.1), setting)


def _step(
    compute_loss: LossFunction, make_plans: Callable[[], dict], batch: Batch, optimizer: Optimizer, setting: Setting
) -> float:
    plans = make_plans()
    with setting.autocast():
        loss = compute_loss({**batch, **plans})
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return loss.item()


def _own_loss(module: nn.Module, batch: Batch) -> Tensor:
    return PackedNLLLoss()(module.forward_predicted(**batch), batch)


def _make_plans(module: nn.Module, batch: Batch, device: torch.device) -> dict[str, Any]:
    """The batch's plans, counted as part of a step although a loader's worker would make them."""
    ids, coarse = (batch["sample_id"], batch["variate_id"]), device.type == "cuda"
    plans = {"blocks": plan_blocks(*ids, coarse=coarse).to(device)}
    if isinstance(module, MoiraiHybridModule):
        plans["segments"] = plan_segments(*ids, module.segment_by, coarse).to(device)
    return plans
