"""What fine-tuning trains of a model: all of it, its head, or low-rank adaptors on its weight matrices."""

from collections.abc import Iterator
from math import sqrt

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from tsfm_lab.nn.embed import FeatLinear, MultiInSizeLinear, MultiOutSizeLinear
from tsfm_lab.nn.moe import LinearRouter
from tsfm_lab.nn.packed_stu import STUCore

MODES = ("full", "head", "low_rank")
# children of a model that project its features to a law, whatever the family
HEADS = ("param_proj", "out_proj", "head", "head_mean", "head_logvar", "lm_heads")
MATRICES = (nn.Linear, nn.Conv1d, MultiInSizeLinear, MultiOutSizeLinear, FeatLinear)  # with a `weight` (… out in)


class LowRank(nn.Module):
    """W + (α/r) B A, Hu et al. 2021 (arXiv:2106.09685), §4.1: a parametrization of a frozen weight W.

    `W: (… o i), A: (… r i), B: (… o r)`; leading axes are matrices of their own, a patch size each.
    B = 0 at first, so that nothing changes; A is uniform as a linear layer's.

    Parameters
    ----------
    weight: W, for its shape. rank: r, at most the smaller side of W. alpha: α.
    """

    def __init__(self, weight: Tensor, rank: int, alpha: float):
        super().__init__()
        *stack, out_features, in_features = weight.shape
        rank = min(rank, out_features, in_features)
        self.scale = alpha / rank
        bound = 1 / sqrt(in_features)
        self.A = nn.Parameter(weight.new_empty(*stack, rank, in_features).uniform_(-bound, bound))
        self.B = nn.Parameter(weight.new_zeros(*stack, out_features, rank))

    def forward(self, weight: Tensor) -> Tensor:
        """`W -> W + (α/r) B A`, of W's shape, which may have a convolution's kernel behind (o i)."""
        return weight + self.scale * (self.B @ self.A).view_as(weight)


def head_of(module: nn.Module) -> list[nn.Module]:
    """The layers that project a model's features to its law.

    Raises
    ------
    ValueError: a model without a layer of such a name.
    """
    heads = [child for name, child in module.named_children() if name in HEADS]
    if not heads:
        raise ValueError(f"{type(module).__name__} has none of the heads {', '.join(HEADS)}; use mode='full'")
    return heads


def weight_matrices(module: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    """(layer, parameter's name) of every weight matrix: projections of attention, feed-forward, experts, in and out.

    Of an STU its M_inputs: M_filters has a row a filter, few as they are. Routers, norms and embeddings have none.
    """
    gates = {router.gate for router in module.modules() if isinstance(router, LinearRouter)}
    for layer in module.modules():
        if isinstance(layer, MATRICES) and layer not in gates:
            yield layer, "weight"
        elif isinstance(layer, STUCore) and layer.use_approx:
            yield layer, "M_inputs"


def prepare(module: nn.Module, mode: str, *, rank: int = 8, alpha: float = 16.0) -> nn.Module:
    """Leave trainable in `module`, and change in it, what `mode` asks for; returns it.

    mode: "full": every parameter; "head": `head_of` alone; "low_rank": adaptors on all `weight_matrices`, from torch's
    random state. rank, alpha: of the adaptors, see `LowRank`.

    Raises
    ------
    ValueError: an unknown mode, a rank below 1, a model without a head.
    """
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
    module.requires_grad_(mode == "full")
    if mode == "head":
        for head in head_of(module):
            head.requires_grad_(True)
    if mode == "low_rank":
        if rank < 1:
            raise ValueError(f"rank must be at least 1, got {rank}")
        for layer, name in list(weight_matrices(module)):
            weight = getattr(layer, name)
            weight = weight.flatten(1) if isinstance(layer, nn.Conv1d) else weight
            parametrize.register_parametrization(layer, name, LowRank(weight, rank, alpha))
    return module


@torch.no_grad()
def merge(module: nn.Module) -> nn.Module:
    """Make adaptors, where there are any, part of their weights: the state dict has its published keys. Returns it."""
    for layer in list(module.modules()):
        if parametrize.is_parametrized(layer):
            for name in list(layer.parametrizations):
                parametrize.remove_parametrizations(layer, name, leave_parametrized=True)
    return module


def count_trained(module: nn.Module) -> int:
    """How many numbers training would change."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
