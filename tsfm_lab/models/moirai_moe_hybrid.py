"""MOIRAI-MoE with spectral (STU) layers in place of some attention layers."""

# no `from __future__ import annotations` here: huggingface_hub finds the coder of an argument by its annotation's type
from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from tsfm_lab.distributions import DistributionOutput, decode_output, encode_output
from tsfm_lab.models.checkpoint import CheckpointMixin
from tsfm_lab.models.moirai_moe import ExpertDecoder, expert_layer_maker
from tsfm_lab.nn.attention_blocks import AttentionBlocks
from tsfm_lab.nn.packing import SegmentPlan, plan_segments
from tsfm_lab.nn.stu_encoder import HybridTransformerSTUEncoder


class MoiraiMoEHybridModule(
    ExpertDecoder, CheckpointMixin, coders={DistributionOutput: (encode_output, decode_output)}
):
    """`MoiraiMoEModule` whose encoder alternates causal STU and attention layers; all have experts.

    Parameters
    ----------
    distr_output … router_noise: as in `MoiraiMoEModule`; max_seq_len is also the lags of the filters, in tokens, so
        that no series of a batch may be longer.
    layer_pattern: "alternating" (STU first), "attention", "stu", or a list with the kind of each layer.
    num_eigh, use_approx, branches: of every STU layer, see `STUCore`; each series is a segment of its own.

    Raises
    ------
    ValueError: an unknown option, or a layer_pattern that does not fit num_layers.
    """

    model_type: ClassVar[str] = "moirai_moe_hybrid"
    segment_by: ClassVar[str] = "variate"  # a sample's variates behind one another would show one the other's future

    def __init__(
        self,
        distr_output: DistributionOutput,
        d_model: int,
        d_ff: int,
        num_layers: int,
        patch_sizes: Sequence[int],
        max_seq_len: int,
        attn_dropout_p: float,
        dropout_p: float,
        scaling: bool = True,
        num_experts: int = 32,
        num_experts_per_token: int = 2,
        router: str = "centroid",
        router_noise: float = 0.0,
        layer_pattern: str | Sequence[str] = "alternating",
        num_eigh: int = 24,
        use_approx: bool = True,
        branches: str = "shared",
    ):
        encoder = HybridTransformerSTUEncoder(
            d_model,
            num_layers,
            layer_pattern,
            max_seq_len,
            num_eigh,
            use_approx,
            branches,
            attn_dropout_p=attn_dropout_p,
            dropout_p=dropout_p,
            make_ffn=expert_layer_maker(d_ff, dropout_p, num_experts, num_experts_per_token, router, router_noise),
        )
        super().__init__(distr_output, encoder, d_model, patch_sizes, max_seq_len, scaling)

    def _encode(
        self,
        x: Tensor,
        sample_id: Tensor,
        time_id: Tensor,
        variate_id: Tensor,
        patch_size: Tensor,
        segments: SegmentPlan | None,
        blocks: AttentionBlocks | None,
        tokens: Tensor | None = None,
    ) -> Tensor:
        if segments is None and "stu" in self.encoder.layer_pattern:
            segments = plan_segments(sample_id, variate_id, self.segment_by, coarse=x.is_cuda)
        return super()._encode(x, sample_id, time_id, variate_id, patch_size, segments, blocks, tokens)
