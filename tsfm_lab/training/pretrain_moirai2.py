"""Pretraining of MOIRAI-2 and its hybrid: every token foresees its next patches, scored by the quantile loss."""

from typing import Any, ClassVar

import torch
from torch import Tensor

from tsfm_lab.distributions import repair_crossings
from tsfm_lab.models.moirai2 import QuantileDecoder
from tsfm_lab.training.losses import PackedQuantileLoss
from tsfm_lab.training.pretrain import CausalPretrain, MoiraiHybridPretrain


class Moirai2Pretrain(CausalPretrain):
    """`MoiraiPretrain` for `Moirai2Module`: multi-token prediction under the quantile loss.

    The patches under a batch's prediction mask are what is scored; all tokens are read (teacher forcing), and location
    and scale of a series come from those before the mask. Parameters as `MoiraiPretrain`'s, the loss excepted.

    Each step also returns crossings, the share of neighbouring quantiles of the global batch in the wrong order.
    """

    figures: ClassVar[tuple[str, ...]] = ("crossings",)

    def __init__(self, module: QuantileDecoder, **options: Any):
        super().__init__(module, loss=PackedQuantileLoss(module.quantile_levels), **options)
        self._crossings: list[Tensor] = []  # (2), crossed and all pairs of each forward pass since the last step

    def _objective(self, piece: dict[str, Any], num_series: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        predicted = self.module.forward_predicted(**piece)
        _, crossed = repair_crossings(predicted.quantiles.detach(), dim=2)
        pairs = predicted.ahead.numel() * (predicted.quantiles.shape[2] - 1) * predicted.quantiles.shape[3]
        self._crossings.append(torch.stack([crossed, torch.full_like(crossed, pairs)]).float())
        part = self.loss.summed(predicted, piece) / num_series
        return part, part.detach()

    def _step_figures(self) -> dict[str, float]:
        crossed, pairs = self._sum_over_ranks(torch.stack(self._crossings).sum(0)).tolist()
        self._crossings.clear()
        return {"crossings": crossed / max(pairs, 1)}


class Moirai2HybridPretrain(MoiraiHybridPretrain, Moirai2Pretrain):
    """`Moirai2Pretrain` for `Moirai2HybridModule`: a batch also carries the segment plan of the STU layers."""
