"""Pretraining of MOIRAI-2 and its hybrid: every token foresees its next patches, scored by the quantile loss."""

from typing import Any

from tsfm_lab.data.packing import PackedBatch
from tsfm_lab.models.moirai2 import QuantileDecoder
from tsfm_lab.nn.attention_blocks import plan_blocks
from tsfm_lab.training.losses import PackedQuantileLoss
from tsfm_lab.training.pretrain import MoiraiHybridPretrain, MoiraiPretrain


class Moirai2Pretrain(MoiraiPretrain):
    """`MoiraiPretrain` for `Moirai2Module`: multi-token prediction under the quantile loss.

    The patches under a batch's prediction mask are what is scored; all tokens are read (teacher forcing), and location
    and scale of a series come from those before the mask. Parameters as `MoiraiPretrain`'s, the loss excepted.
    """

    def __init__(self, module: QuantileDecoder, **options: Any):
        super().__init__(module, loss=PackedQuantileLoss(module.quantile_levels), **options)

    def plans(self, rows: PackedBatch) -> dict[str, Any]:
        """The causal attention blocks."""
        ids, coarse = (rows[name] for name in ("sample_id", "variate_id", "time_id")), self.device.type == "cuda"
        return {"blocks": plan_blocks(*ids, coarse=coarse)}


class Moirai2HybridPretrain(MoiraiHybridPretrain, Moirai2Pretrain):
    """`Moirai2Pretrain` for `Moirai2HybridModule`: a batch also carries the segment plan of the STU layers."""
