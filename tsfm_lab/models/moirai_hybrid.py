"""MOIRAI with spectral (STU) layers in place of some attention layers."""

# no `from __future__ import annotations` here: huggingface_hub finds the coder of an argument by its annotation's type
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from tsfm_lab.distributions import DistributionOutput, decode_output, encode_output
from tsfm_lab.models.checkpoint import CheckpointMixin
from tsfm_lab.models.moirai import SIZES, PackedForecaster
from tsfm_lab.nn.attention_blocks import AttentionBlocks
from tsfm_lab.nn.encoder import attention_layer
from tsfm_lab.nn.ffn import glu_width
from tsfm_lab.nn.packed_stu import PackedSTU
from tsfm_lab.nn.packing import SEGMENTATIONS, SegmentPlan, plan_segments
from tsfm_lab.nn.stu_encoder import HybridTransformerSTUEncoder


class MoiraiHybridModule(
    PackedForecaster, CheckpointMixin, coders={DistributionOutput: (encode_output, decode_output)}
):
    """`MoiraiModule` whose encoder alternates STU and attention layers.

    Parameters
    ----------
    distr_output … scaling: as in `MoiraiModule`; max_seq_len is also the lags of the filters, in tokens, so that no
        segment of a batch may be longer.
    layer_pattern: "alternating" (STU first), "attention", "stu", or a list with the kind of each layer.
    num_eigh, use_approx, branches, causal: of every STU layer, see `STUCore`.
    segment_by: what an STU layer convolves as one sequence, "variate" (each series alone) or "sample" (the variates of
        a sample behind one another, as published).
    stu_d_ff: hidden width of the STU layers' GLU; None: as in the attention layers; see `matched_stu_d_ff`.

    Raises
    ------
    ValueError: an unknown option, or a layer_pattern that does not fit num_layers.
    """

    model_type: ClassVar[str] = "moirai_hybrid"

    def __init__(
        self,
        distr_output: DistributionOutput,
        d_model: int,
        num_layers: int,
        patch_sizes: Sequence[int],
        max_seq_len: int,
        attn_dropout_p: float,
        dropout_p: float,
        scaling: bool = True,
        layer_pattern: str | Sequence[str] = "alternating",
        num_eigh: int = 24,
        use_approx: bool = True,
        branches: str = "shared",
        segment_by: str = "variate",
        causal: bool = True,
        stu_d_ff: int | None = None,
    ):
        if segment_by not in SEGMENTATIONS:
            raise ValueError(f"segment_by must be one of {', '.join(SEGMENTATIONS)}, got {segment_by!r}")
        encoder = HybridTransformerSTUEncoder(
            d_model,
            num_layers,
            layer_pattern,
            max_seq_len,
            num_eigh,
            use_approx,
            branches,
            causal,
            stu_d_ff,
            attn_dropout_p=attn_dropout_p,
            dropout_p=dropout_p,
        )
        super().__init__(distr_output, encoder, d_model, patch_sizes, max_seq_len, scaling, nn.Embedding(1, d_model))
        self.segment_by = segment_by

    @classmethod
    def from_preset(cls, size: str, match_parameters: bool = False, **overrides: Any) -> Self:
        """As `MoiraiModule.from_preset`; match_parameters widens the STU layers' GLU to the baseline's count."""
        if match_parameters and size in SIZES:
            d_model = overrides.get("d_model", SIZES[size].d_model)
            options = {name: overrides[name] for name in ("num_eigh", "branches", "causal") if name in overrides}
            overrides["stu_d_ff"] = matched_stu_d_ff(d_model, **options)
        return super().from_preset(size, **overrides)

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
        if "stu" in self.encoder.layer_pattern:
            if segments is None:
                segments = plan_segments(sample_id, variate_id, self.segment_by, coarse=x.is_cuda)
            self._check_segments(segments, patch_size)
        return super()._encode(x, sample_id, time_id, variate_id, patch_size, segments, blocks, tokens)

    def _check_segments(self, segments: SegmentPlan, patch_size: Tensor) -> None:
        """Raise if the plan is of another segmentation or a segment is longer than the filters, with the remedy."""
        if segments.segment_by != self.segment_by:
            raise ValueError(
                f"this model convolves by {self.segment_by}, got a plan of segment_by={segments.segment_by!r}: "
                f"make it with plan_segments(sample_id, variate_id, {self.segment_by!r})"
            )
        if segments.longest <= self.max_seq_len:
            return
        last = segments.buckets[-1]
        row = torch.bincount(last.empty // last.length, minlength=len(last.gather)).argmin()
        used = int(patch_size.flatten()[last.gather[row, 0]])
        steps = segments.longest * used
        admissible = [p for p in sorted(self.patch_sizes) if -(-steps // p) <= self.max_seq_len]
        remedy = f"use a patch size of at least {admissible[0]}, or" if admissible else "no patch size is large enough:"
        raise ValueError(
            f"a segment of {segments.longest} patches of {used} steps is longer than the filters, "
            f"max_seq_len={self.max_seq_len} patches; {remedy} shorten the context to {self.max_seq_len * used} steps"
        )


def matched_stu_d_ff(d_model: int, num_eigh: int = 24, branches: str = "shared", causal: bool = True) -> int:
    """Hidden width of the GLU with which an (approximate) STU layer has an attention layer's parameters.

    The nearest width: at most 1.5 · d_model parameters of a layer remain, .01 % of it at d_model 384.
    """
    with torch.device("meta"):
        attention = attention_layer(d_model, max(1, d_model // 64)).self_attn
        stu = PackedSTU(d_model, num_eigh=num_eigh, branches=branches, causal=causal)
    return glu_width(d_model) + round((count_parameters(attention) - count_parameters(stu)) / (3 * d_model))


def count_parameters(module: nn.Module) -> int:
    """Numbers that training changes."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
