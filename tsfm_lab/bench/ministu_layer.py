"""One MiniSTU layer: time and memory of a training pass, of both backends and of a published mini_stu; decoding."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tsfm_lab.bench.ministu_peer import load_peers
from tsfm_lab.bench.timing import peak_memory, time_in_turns
from tsfm_lab.spectral import MiniSTU

OWN = ("spectral", "lds", "auto")
PEERS = ("peer_spectral", "peer_lds")


def make_modules(length: int, channels: int, peer: Path | None) -> dict[str, nn.Module]:
    """Our backends with the same weights, 24 filters, and the peer's two where its checkout is given."""
    torch.manual_seed(0)
    modules: dict[str, nn.Module] = {name: MiniSTU(length, 24, channels, channels, backend=name) for name in OWN}
    for module in modules.values():
        module.load_state_dict(modules["spectral"].state_dict())
    return modules if peer is None else modules | load_peers(peer, length, channels)


def train_once(module: nn.Module, x: Tensor) -> None:
    """One forward and backward pass, with gradients of weights and input."""
    module.zero_grad(set_to_none=True)
    x.grad = None
    module(x).square().mean().backward()


def measure_layer(
    length: int, channels: int, batch: int, peer: Path | None, device: torch.device, rounds: int
) -> dict[str, Any]:
    """Times of `train_once`; "a/b" is how many times faster a is than b, "chosen" what auto runs."""
    modules = {name: module.to(device) for name, module in make_modules(length, channels, peer).items()}
    x = torch.randn(batch, length, channels, device=device, requires_grad=True)
    chosen = modules["auto"].resolve_backend(batch, length)
    calls = {name: partial(train_once, module, x) for name, module in modules.items()}
    times = time_in_turns(calls, rounds, warmup=1, device=device)
    row = {"length": length, "channels": channels, "batch": batch, "chosen": chosen}
    row |= {name: timing.summary() for name, timing in times.items()}
    for peer_name in PEERS if peer is not None else ():
        row |= {f"{own}/{peer_name}": round(times[peer_name].relative_to(times[own]), 1) for own in OWN}
    return row


def measure_memory(length: int, channels: int, batch: int, peer: Path | None, device: torch.device) -> dict[str, Any]:
    """Peak memory of `train_once` above what is there before it, MiB."""
    row: dict[str, Any] = {"length": length, "channels": channels, "batch": batch}
    x = torch.randn(batch, length, channels, device=device, requires_grad=True)
    for name, module in make_modules(length, channels, peer).items():
        row[name] = round(peak_memory(partial(train_once, module.to(device), x), device))
    if peer is not None:
        row |= {f"{own}/peer_spectral": round(row[own] / row["peer_spectral"], 3) for own in OWN}
    return row


@torch.no_grad()
def measure_decoding(length: int, device: torch.device, rounds: int) -> dict[str, Any]:
    """The last token of a sequence by `step`, and by running the whole sequence again; batch 1, 64 channels."""
    stu = MiniSTU(length, 24, 64, 64, backend="auto", device=device)
    x = torch.randn(1, length, 64, device=device)
    _, state = stu.prefill(x[:, :-1])
    calls = {"step": partial(stu.step, x[:, -1], state), "forward": partial(stu, x)}
    times = time_in_turns(calls, 20 * rounds, warmup=5, device=device)
    return {
        "length": length,
        "state_numbers": state.h.numel(),
        "step_us": round(1e6 * times["step"].median, 1),
        "forward": times["forward"].summary(),
    }
