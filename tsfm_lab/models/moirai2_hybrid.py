"""MOIRAI-2 with spectral (STU) layers in place of some attention layers."""

# no `from __future__ import annotations` here: huggingface_hub finds the coder of an argument by its annotation's type
from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from tsfm_lab.models.checkpoint import CheckpointMixin
from tsfm_lab.models.moirai2 import QUANTILE_LEVELS, QuantileDecoder
from tsfm_lab.nn.attention_blocks import AttentionBlocks
from tsfm_lab.nn.ffn import GatedLinearUnit
from tsfm_lab.nn.packing import SegmentPlan, plan_segments
from tsfm_lab.nn.stu_encoder import HybridTransformerSTUEncoder


class Moirai2HybridModule(QuantileDecoder, CheckpointMixin):
    """`Moirai2Module` whose encoder alternates causal STU and attention layers.

    Parameters
    ----------
    d_model … quantile_levels: as in `Moirai2Module`; max_seq_len is also the lags of the filters, in tokens, so that no
        series of a batch may be longer.
    layer_pattern: "alternating" (STU first), "attention", "stu", or a list with the kind of each layer.
    num_eigh, use_approx, branches: of every STU layer, see `STUCore`; each series is a segment of its own.
    stu_d_ff: hidden width of the STU layers' GLU; None: d_ff.

    Raises
    ------
    ValueError: an unknown option, or a layer_pattern that does not fit num_layers.
    """

    model_type: ClassVar[str] = "moirai2_hybrid"
    segment_by: ClassVar[str] = "variate"

    def __init__(
        self,
        d_model: int,
        d_ff: int,
        num_layers: int,
        patch_size: int,
        max_seq_len: int,
        attn_dropout_p: float,
        dropout_p: float,
        scaling: bool = True,
        num_predict_token: int = 1,
        quantile_levels: Sequence[float] = QUANTILE_LEVELS,
        layer_pattern: str | Sequence[str] = "alternating",
        num_eigh: int = 24,
        use_approx: bool = True,
        branches: str = "shared",
        stu_d_ff: int | None = None,
    ):
        encoder = HybridTransformerSTUEncoder(
            d_model,
            num_layers,
            layer_pattern,
            max_seq_len,
            num_eigh,
            use_approx,
            branches,
            stu_d_ff=stu_d_ff,
            attn_dropout_p=attn_dropout_p,
            dropout_p=dropout_p,
            make_ffn=lambda d: GatedLinearUnit(d, d_ff, dropout_p),
        )
        super().__init__(encoder, d_model, patch_size, max_seq_len, scaling, num_predict_token, quantile_levels)

    def encode(
        self,
        x: Tensor,
        sample_id: Tensor,
        time_id: Tensor,
        variate_id: Tensor,
        segments: SegmentPlan | None = None,
        blocks: AttentionBlocks | None = None,
        tokens: Tensor | None = None,
    ) -> Tensor:
        if segments is None and "stu" in self.encoder.layer_pattern:
            segments = plan_segments(sample_id, variate_id, self.segment_by, coarse=x.is_cuda)
        return super().encode(x, sample_id, time_id, variate_id, segments, blocks, tokens)
