"""Mixture of experts: which experts a token goes to (routers), and what they make of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Routing(NamedTuple):
    """Where n tokens go: the k experts of each, their weights (of sum 1), and the scores they were chosen by."""

    experts: Tensor  # (n k) int64
    weights: Tensor  # (n k)
    scores: Tensor  # (n e), the k largest are chosen: distances, or logits


class CentroidRouter(nn.Module):
    """The k experts whose centroids c_e are **farthest**, weights softmax over the k distances ‖x − c_e‖.

    As published: so does uni2ts 2.0.0, with which the checkpoints of Liu et al. 2024 (arXiv:2410.10469) were trained;
    why not the nearest, its users ask too (uni2ts issue 211).
    `centroid: (e d)` is a float64 buffer, never trained: standard normal until k-means or a checkpoint sets it.
    """

    def __init__(self, d_model: int, num_experts: int, num_experts_per_token: int):
        super().__init__()
        self.num_experts_per_token = num_experts_per_token
        self.register_buffer("centroid", torch.randn(num_experts, d_model, dtype=torch.float64))

    def forward(self, x: Tensor) -> Routing:
        """`x: (n d) -> Routing`."""
        # by matrix product for any number of experts, as for the published 32: rounding decides between near ties
        distance = torch.cdist(x[None], self.centroid.to(x)[None], compute_mode="use_mm_for_euclid_dist")[0]
        return _choose(distance, distance, self.num_experts_per_token)


class LinearRouter(nn.Module):
    """The k experts of the largest logits W x, weights softmax over the k logits.

    Shazeer et al. 2017, arXiv:1701.06538, §2.1. differs from Eqs. 3–5: the noise has one deviation instead of a learned
    one, and chooses the experts without entering their weights. Logits are float32, autocast or not (Fedus et al. 2022,
    arXiv:2101.03961, §2.4).

    Parameters
    ----------
    noise: standard deviation of the normal noise on the logits that choose the experts, in training only.
    """

    def __init__(self, d_model: int, num_experts: int, num_experts_per_token: int, noise: float = 0.0):
        super().__init__()
        self.num_experts_per_token, self.noise = num_experts_per_token, noise
        self.gate = nn.Linear(d_model, num_experts, bias=False)

    def forward(self, x: Tensor) -> Routing:
        """`x: (n d) -> Routing`."""
        with torch.autocast(x.device.type, enabled=False):
            logits = self.gate(x.to(self.gate.weight.dtype))
        noisy = logits + self.noise * torch.randn_like(logits) if self.training and self.noise else logits
        return _choose(logits, noisy, self.num_experts_per_token)


ROUTERS: dict[str, type[nn.Module]] = {"centroid": CentroidRouter, "linear": LinearRouter}


def _choose(scores: Tensor, by: Tensor, k: int) -> Routing:
    experts = by.topk(k, dim=-1).indices
    weights = scores.gather(-1, experts).softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float32))
    return Routing(experts, weights, scores)


class MoEFeedForward(nn.Module):
    """y = Σ_{e ∈ top-k} w_e(x) expert_e(x).

    Every token is computed by exactly its k experts: there is no capacity that tokens could exceed, and nothing is
    drawn. Tokens are sorted by expert, so that an expert is one dense product over its own tokens; both directions are
    gathers, in a fixed order of sums.

    Parameters
    ----------
    router: (n d) -> Routing, e.g. `CentroidRouter`.
    make_expert: makes one expert, (n d) -> (n d).
    """

    def __init__(self, num_experts: int, router: nn.Module, make_expert: Callable[[], nn.Module]):
        super().__init__()
        self.experts = nn.ModuleList(make_expert() for _ in range(num_experts))
        self.router = router

    def forward(self, x: Tensor) -> Tensor:
        """`x: (... d) -> y: (... d)`."""
        tokens = x.reshape(-1, x.shape[-1])
        routing = self.router(tokens)
        y = self.mix(tokens, routing.experts, routing.weights.to(x.dtype))
        return y.view(x.shape)

    @torch.compiler.disable  # the experts' shares change with every batch
    def mix(self, x: Tensor, experts: Tensor, weights: Tensor) -> Tensor:
        """`x: (n d), experts: (n k) int64, weights: (n k) -> y: (n d)`."""
        order = experts.flatten().argsort(stable=True)  # (n k) sorted by expert
        place = torch.empty_like(order)
        place[order] = torch.arange(len(order), device=order.device)
        place = place.view(experts.shape)
        shares = torch.bincount(experts.flatten(), minlength=len(self.experts)).tolist()
        pieces = _SortByExpert.apply(x, order, place).split(shares)
        # an expert without tokens is called too in training: its gradients are zeros, for which DDP waits
        outputs = [
            expert(piece)
            for expert, piece in zip(self.experts, pieces, strict=True)
            if len(piece) or torch.is_grad_enabled()
        ]
        if not outputs:
            return torch.zeros_like(x)
        return _sum_rows(torch.cat(outputs).to(x.dtype), place, weights)


class _SortByExpert(torch.autograd.Function):
    """The tokens of the sorted choices: `x: (n d), order: (n·k) -> (n·k d)`; place: (n k), where each choice went."""

    @staticmethod
    def forward(ctx, x: Tensor, order: Tensor, place: Tensor) -> Tensor:
        ctx.save_for_backward(place)
        return x.index_select(0, order // place.shape[1])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        (place,) = ctx.saved_tensors
        return _sum_rows(grad.contiguous(), place, None), None, None


def _sum_rows(rows: Tensor, place: Tensor, weights: Tensor | None) -> Tensor:
    """Σ_k w_k rows[place_k], in one pass over the rows: `rows: (m d), place, weights: (n k) -> (n d)`."""
    return F.embedding_bag(place, rows, mode="sum", per_sample_weights=weights)


@contextmanager
def record_routing(module: nn.Module) -> Iterator[list[Routing]]:
    """Collect the `Routing` of every router of `module`, in the order of their calls, while the block runs."""
    record: list[Routing] = []
    routers = [part for part in module.modules() if isinstance(part, tuple(ROUTERS.values()))]
    hooks = [router.register_forward_hook(lambda _, inputs, routing: record.append(routing)) for router in routers]
    try:
        yield record
    finally:
        for hook in hooks:
            hook.remove()


def expert_load(routing: Routing) -> Tensor:
    """f_e, the share of all choices that fell on expert e: (e), of sum 1."""
    e = routing.scores.shape[-1]
    counts = torch.bincount(routing.experts.flatten(), minlength=e)
    return counts / counts.sum().clamp_min(1)


def load_balancing_loss(routing: Routing) -> Tensor:
    """E Σ_e f_e P_e, P_e the mean of softmax(scores)_e over the tokens: 1 where both are even, E/k at the worst.

    f_e is `expert_load`, with k experts a token. Fedus et al. 2022, arXiv:2101.03961, Eqs. 4–6.
    """
    P = routing.scores.float().softmax(-1).mean(0)
    return len(P) * (expert_load(routing) * P).sum()


def router_z_loss(routing: Routing) -> Tensor:
    """Mean of (log Σ_e exp score_e)² over the tokens, which keeps logits small (Zoph et al. 2022, arXiv:2202.08906)."""
    return routing.scores.float().logsumexp(-1).square().mean()


def load_entropy(load: Tensor) -> Tensor:
    """−Σ_e f_e log f_e / log E of loads (... e): 1 if all experts get the same, 0 if one gets everything."""
    return torch.special.entr(load).sum(-1) / torch.tensor(load.shape[-1]).log()


def store_centroids_together(encoder: nn.Module) -> None:
    """Make the state dict of an encoder hold the centroids of its layers' routers as one buffer, `centroid` (l e d).

    That is the published name. It is split again when a state dict is loaded.
    """
    encoder.register_state_dict_post_hook(_join_centroids)
    encoder.register_load_state_dict_pre_hook(_split_centroids)


def _centroid_keys(encoder: nn.Module, prefix: str) -> list[str]:
    return [f"{prefix}layers.{i}.ffn.router.centroid" for i in range(len(encoder.layers))]


def _join_centroids(encoder: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    state[f"{prefix}centroid"] = torch.stack([state.pop(key) for key in _centroid_keys(encoder, prefix)])


def _split_centroids(encoder: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    if f"{prefix}centroid" in state:
        state.update(zip(_centroid_keys(encoder, prefix), state.pop(f"{prefix}centroid"), strict=True))
