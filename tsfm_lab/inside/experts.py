"""Where the tokens of a mixture of experts go, and what their choice tells of the series or the place in it."""

from dataclasses import dataclass

import torch
from einops import repeat
from torch import Tensor, nn

from tsfm_lab.data.packing import PackedBatch
from tsfm_lab.nn.moe import record_routing


@torch.no_grad()
def expert_choices(module: nn.Module, batch: PackedBatch) -> Tensor:
    """The experts of each token in each layer, the one of the largest weight first: (L b t k) int64.

    Raises
    ------
    ValueError: the model has no experts.
    """
    with record_routing(module) as record:
        module(**batch)
    if not record:
        raise ValueError(f"{type(module).__name__} has no experts: look at a MOIRAI-MoE or its hybrid")
    return torch.stack([routing.experts.unflatten(0, tuple(batch["sample_id"].shape)) for routing in record])


def expert_share(choices: Tensor, labels: Tensor, num_experts: int) -> Tensor:
    """The share of each expert among the choices of each label's series: `(s n k), (s) -> (labels e)`, rows of sum 1.

    labels: 0, 1, …, each with a series at least.
    """
    chosen = torch.nn.functional.one_hot(choices, num_experts).double().mean(dim=(1, 2))  # (s e)
    return torch.stack([chosen[labels == label].mean(0) for label in range(int(labels.max()) + 1)])


def mutual_information(a: Tensor, b: Tensor) -> float:
    """I(a; b) = Σ p(a,b) log₂ (p(a,b) / (p(a) p(b))) of two sequences of labels, int64 of one shape; in bits."""
    a, b = a.flatten(), b.flatten()
    width = int(b.max()) + 1
    joint = torch.bincount(a * width + b, minlength=(int(a.max()) + 1) * width).double().view(-1, width)
    p = joint / joint.sum()
    return float(torch.special.xlogy(p, p / (p.sum(1, keepdim=True) * p.sum(0))).nansum() / torch.tensor(2.0).log())


@dataclass(frozen=True)
class InformationTest:
    """What the choice of an expert tells of a label, beside what it tells of labels that were shuffled.

    bits: mutual information, which chance alone makes positive. null: (draws) that of shuffled labels.
    entropy: bits, of the choice: the most that it could tell.
    """

    bits: float
    null: Tensor
    entropy: float

    @property
    def excess(self) -> float:
        """Bits beyond the mean of the null: 0 on average if the choice tells nothing."""
        return self.bits - self.null.mean().item()

    @property
    def p_value(self) -> float:
        """(1 + number of shuffles that tell as much) / (1 + shuffles)."""
        return (1 + int((self.null >= self.bits - 1e-12).sum())) / (1 + len(self.null))


def measure_information(experts: Tensor, labels: Tensor, *, draws: int = 200, seed: int = 0) -> InformationTest:
    """Mutual information of the first expert and a label of the series or of the place, with its permutation null.

    Tokens of one series resemble each other, so a null that shuffles tokens would find anything significant. Labels of
    series are shuffled among the series, a series' tokens staying together; places are shuffled within each series.

    Parameters
    ----------
    experts: (s n) int64, the expert of each of n tokens of s series.
    labels: (s) int64, of the series; or (n) int64 with an axis of 1 in front, (1 n), of the places.

    Raises
    ------
    ValueError: labels are neither, or draws is below 1.
    """
    s, n = experts.shape
    if labels.shape not in {(s,), (1, n)} or draws < 1:
        raise ValueError(
            f"labels must be (s)=({s},) or (1 n)=(1, {n}) and draws positive, got {tuple(labels.shape)} and {draws}"
        )
    generator = torch.Generator().manual_seed(seed)
    experts, labels = experts.cpu(), labels.cpu()

    def shuffled() -> Tensor:
        if labels.dim() == 1:
            return repeat(labels[torch.randperm(s, generator=generator)], "s -> s n", n=n)
        return labels[0][torch.rand(s, n, generator=generator).argsort(dim=1)]

    whole = repeat(labels, "s -> s n", n=n) if labels.dim() == 1 else labels.expand(s, n)
    null = torch.tensor([mutual_information(experts, shuffled()) for _ in range(draws)], dtype=torch.float64)
    return InformationTest(mutual_information(experts, whole), null, mutual_information(experts, experts))
