"""Does drafting pay? The expected speed-up over a cached roll-out, from acceptance and measured costs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch

from tsfm_lab.decoding.drafts import open_draft
from tsfm_lab.models.patch_forecaster import CausalForecaster, PatchForecaster


@dataclass(frozen=True)
class Costs:
    """Seconds of a batch: draft, of one drafted token; verify[k], of a target's pass over k+1 tokens behind a context.

    overhead: of a round outside both.
    """

    draft: float
    verify: tuple[float, ...]
    overhead: float = 0.0


def expected_tokens(alpha: float, k: int) -> float:
    """(1 − α^(k+1))/(1 − α): tokens of a round of k drafts, each kept with probability α (Leviathan et al., Eq. 1)."""
    return k + 1.0 if alpha >= 1 else (1 - alpha ** (k + 1)) / (1 - alpha)


def expected_speedup(alpha: float, k: int, costs: Costs) -> float:
    """Expected tokens of a round · verify[0] / (k·draft + verify[k] + overhead): speed in cached roll-outs.

    Leviathan et al. 2023, arXiv:2211.17192, Theorem 3.8, with a measured cost of verification in the place of 1.

    Raises
    ------
    ValueError: when verify[k] was not measured.
    """
    if not 0 <= k < len(costs.verify):
        raise ValueError(f"k must be from 0 to {len(costs.verify) - 1}, which were measured, got {k}")
    return expected_tokens(alpha, k) * costs.verify[0] / (k * costs.draft + costs.verify[k] + costs.overhead)


def best_k(alpha: float, costs: Costs, most: int) -> int:
    """The k ≥ 1, at most `most`, of the highest expected speed-up."""
    return max(range(1, min(most, len(costs.verify) - 1) + 1), key=lambda k: expected_speedup(alpha, k, costs))


@torch.no_grad()
def measure_costs(
    target: CausalForecaster,
    draft: PatchForecaster,
    *,
    batch_size: int,
    context_tokens: int,
    most: int,
    rounds: int = 10,
    warmup: int = 2,
) -> Costs:
    """Medians over rounds of a draft's step and of the target's passes over 1 … most+1 tokens, taken in turns.

    context_tokens: tokens already read.
    """
    p, weight = target.input_token_len, next(target.parameters())
    capacity = context_tokens + most + 1
    context = torch.zeros(batch_size, context_tokens, p, device=weight.device, dtype=weight.dtype)
    cache = target.new_cache(batch_size, capacity)
    features = target.encode_tokens(context, cache)[:, -1]
    session = open_draft(draft, batch_size, capacity)
    lengths = torch.full((batch_size,), context_tokens - 1, device=weight.device)
    if not session.needs_features:
        session.read(context)
    session.rollback(lengths, features)
    wait = torch.cuda.synchronize if weight.is_cuda else lambda: None

    def seconds(call: Callable[[], object]) -> float:
        wait()
        start = time.perf_counter()
        call()
        wait()
        return time.perf_counter() - start

    drafted, verified = [], []
    for _ in range(warmup + rounds):
        drafted.append(seconds(lambda: session.read(context[:, :1])))
        session.rollback(lengths, features)
        verified.append([])
        for k in range(most + 1):
            new = context[:, :1].expand(-1, k + 1, -1)
            verified[-1].append(seconds(lambda new=new: target.token_law(target.encode_tokens(new, cache))))
            cache.rollback(context_tokens)
    verify = tuple(median(times) for times in zip(*verified[warmup:], strict=True))
    return Costs(median(drafted[warmup:]), verify)
