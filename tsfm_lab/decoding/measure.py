"""One setting measured: its accuracy over windows, its acceptance, and its speed in units of both baselines."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor

from tsfm_lab.decoding.autoregressive import roll_out, slide
from tsfm_lab.decoding.speculative import SpeculativeDecoder
from tsfm_lab.decoding.tracing import Trace
from tsfm_lab.models.patch_forecaster import CausalForecaster

Decode = Callable[[Tensor], Tensor]
Batches = Sequence[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Accuracy:
    """Errors over all windows and steps, in the data's units."""

    mse: float
    mae: float


@torch.no_grad()
def accuracy(decode: Decode, batches: Batches) -> Accuracy:
    """Errors of `decode(x)` on batches (x (b t 1), y (b horizon 1))."""
    squared = absolute = count = 0.0
    for x, y in batches:
        error = (decode(x) - y).double()
        squared, absolute = squared + error.square().sum().item(), absolute + error.abs().sum().item()
        count += error.numel()
    return Accuracy(squared / count, absolute / count)


def baselines(target: CausalForecaster, horizon: int) -> dict[str, Decode]:
    """What every speed-up is reported against: the sliding and the cached roll-out of the target."""
    return {"slide": lambda x: slide(target, x, horizon), "cached": lambda x: roll_out(target, x, horizon)}


def relative_speeds(
    calls: Mapping[str, Decode], x: Tensor, *, rounds: int = 7, warmup: int = 2
) -> dict[str, dict[str, float]]:
    """Seconds of each call on x, prefill included, and its speed in units of "slide" and "cached".

    The calls take turns; a speed is the median over rounds of the ratio within a round, so that what else the machine
    does weighs on both sides. `-> {name: {seconds, speedup_slide, speedup_cached}}`.
    """
    wait = torch.cuda.synchronize if x.is_cuda else lambda: None
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(warmup + rounds):
        for name, call in calls.items():
            wait()
            start = time.perf_counter()
            call(x)
            wait()
            if turn >= warmup:
                seconds[name].append(time.perf_counter() - start)

    def speed(name: str, baseline: str) -> float:
        return median(b / a for a, b in zip(seconds[name], seconds[baseline], strict=True))

    return {
        name: {
            "seconds": median(times),
            "speedup_slide": speed(name, "slide"),
            "speedup_cached": speed(name, "cached"),
        }
        for name, times in seconds.items()
    }


def measure_setting(
    decoder: SpeculativeDecoder,
    batches: Batches,
    horizon: int,
    *,
    batch_size: int,
    reference: Accuracy,
    rounds: int = 7,
    seed: int = 0,
) -> dict[str, float]:
    """A row of a sweep: mse, mae, mse_ratio (to the cached roll-out's, `reference`), acceptance, seconds, speed-ups.

    Errors are over all batches, speed on the first `batch_size` contexts, which are repeated where there are fewer.
    """
    trace, generator = Trace(), torch.Generator(batches[0][0].device).manual_seed(seed)

    def decode(x: Tensor, trace: Trace | None = None) -> Tensor:
        return decoder.generate(x, horizon, generator=generator, trace=trace)

    errors = accuracy(lambda x: decode(x, trace), batches)
    contexts = torch.cat([x for x, _ in batches])
    x = contexts[torch.arange(batch_size, device=contexts.device) % len(contexts)]
    speeds = relative_speeds({**baselines(decoder.target, horizon), "this": decode}, x, rounds=rounds)["this"]
    found = {"mse": errors.mse, "mae": errors.mae, "mse_ratio": errors.mse / reference.mse}
    return {**found, "acceptance": trace.acceptance, **speeds}
