"""Pretraining of MOIRAI-MoE and its hybrid: the next patch's likelihood, and experts that share the work."""

from typing import Any, ClassVar

import torch
from torch import Tensor

from tsfm_lab.models.moirai_moe import ExpertDecoder
from tsfm_lab.nn.moe import LinearRouter, Routing, load_balancing_loss, load_entropy, record_routing, router_z_loss
from tsfm_lab.training.pretrain import CausalPretrain, MoiraiHybridPretrain


class MoiraiMoEPretrain(CausalPretrain):
    """`MoiraiPretrain` for `MoiraiMoEModule`: next-token prediction, Liu et al. 2024 (arXiv:2410.10469).

    The patches under a batch's prediction mask are scored, each under the law that the token before it gives; all
    tokens are read (teacher forcing), and location and scale of a series come from those before the mask.
    A linear router adds to what is minimised, not to the loss, per forward pass and as a mean over the layers,
    balance_weight · `load_balancing_loss` + z_weight · `router_z_loss`; centroids are not trained and add nothing.

    Parameters
    ----------
    balance_weight, z_weight: as in Fedus et al. 2022 (arXiv:2101.03961) and Zoph et al. 2022 (arXiv:2202.08906).

    Each step also returns, of the global batch: balance, the mean over the layers of E · the largest expert's share (1
    is even); entropy, `load_entropy` likewise; dead_experts, how many of all layers' experts got no token.
    """

    figures: ClassVar[tuple[str, ...]] = ("balance", "entropy", "dead_experts")

    def __init__(self, module: ExpertDecoder, *, balance_weight: float = 1e-2, z_weight: float = 1e-3, **options: Any):
        super().__init__(module, **options)
        self.balance_weight, self.z_weight = balance_weight, z_weight
        self._choices: list[Tensor] = []  # (l e) of each forward pass since the last step

    def _objective(self, piece: dict[str, Any], num_series: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        with record_routing(self.module) as record:
            objective, loss = super()._objective(piece, num_series, tokens)
        real = (piece["sample_id"] > 0).flatten()
        routings = [_keep(routing, real) for routing in record]
        counts = [torch.bincount(r.experts.flatten(), minlength=r.scores.shape[1]) for r in routings]
        self._choices.append(torch.stack(counts).float())
        if isinstance(self.module.encoder.layers[0].ffn.router, LinearRouter):
            balance, z = (torch.stack([f(r) for r in routings]).mean() for f in (load_balancing_loss, router_z_loss))
            share = real.sum() / tokens  # a mean over the global batch's tokens
            objective = objective + share * (self.balance_weight * balance + self.z_weight * z)
        return objective, loss

    def _step_figures(self) -> dict[str, float]:
        choices = self._sum_over_ranks(torch.stack(self._choices).sum(0))
        self._choices.clear()
        load = choices / choices.sum(1, keepdim=True)
        balance, entropy = load.shape[1] * load.amax(1).mean(), load_entropy(load).mean()
        return dict(zip(self.figures, torch.stack([balance, entropy, (choices == 0).sum()]).tolist(), strict=True))


class MoiraiMoEHybridPretrain(MoiraiHybridPretrain, MoiraiMoEPretrain):
    """`MoiraiMoEPretrain` for `MoiraiMoEHybridModule`: a batch also carries the segment plan of the STU layers."""


def _keep(routing: Routing, real: Tensor) -> Routing:
    """The routing of real tokens; the last layer's is of wanted ones alone, which are real."""
    return Routing(*(part[real] for part in routing)) if len(routing.experts) == len(real) else routing
