"""MOIRAI-2: a causal decoder over patches of one size, with quantiles of the next few patches as its head."""

# no `from __future__ import annotations` here: huggingface_hub finds the coder of an argument by its annotation's type
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import torch
from einops import rearrange
from torch import Tensor, nn

from tsfm_lab.distributions import check_quantile_levels
from tsfm_lab.models.checkpoint import CheckpointMixin
from tsfm_lab.models.moirai import SIZES
from tsfm_lab.models.packed_batch import FIELDS, check_time_order, validate_packed_batch
from tsfm_lab.models.predicted_patches import PredictedPatches, find_next_tokens
from tsfm_lab.nn.attention_blocks import AttentionBlocks, plan_blocks
from tsfm_lab.nn.encoder import PackedEncoder, TransformerEncoder
from tsfm_lab.nn.ffn import GatedLinearUnit, glu_width
from tsfm_lab.nn.packing import SegmentPlan
from tsfm_lab.nn.residual import ResidualBlock
from tsfm_lab.nn.scaler import PackedStdScaler, UnitScaler

QUANTILE_LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


class QuantileDecoder(nn.Module):
    """What MOIRAI-2 models share: scale, embed values beside their mask, encode causally, project to quantiles.

    Liu et al. 2025, arXiv:2511.11698, §3. A subclass passes its encoder. Nothing replaces a token that is to be
    predicted: the prediction mask only keeps it out of the scale, and causality hides it from the tokens before it.
    """

    def __init__(
        self,
        encoder: PackedEncoder,
        d_model: int,
        patch_size: int,
        max_seq_len: int,
        scaling: bool,
        num_predict_token: int,
        quantile_levels: Sequence[float],
    ):
        super().__init__()
        for name, value in (("patch_size", patch_size), ("num_predict_token", num_predict_token)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.quantile_levels = check_quantile_levels(quantile_levels)
        self.patch_size, self.patch_sizes, self.max_seq_len = patch_size, (patch_size,), max_seq_len
        self.num_predict_token = num_predict_token
        self.scaler = PackedStdScaler() if scaling else UnitScaler()
        self.in_proj = ResidualBlock(2 * patch_size, d_model, d_model)
        self.encoder = encoder
        self.out_proj = ResidualBlock(d_model, d_model, num_predict_token * len(self.quantile_levels) * patch_size)

    @classmethod
    def from_preset(cls, size: str, **overrides: Any) -> Self:
        """An untrained model as wide and deep as MOIRAI "small" (the published one), "base" or "large".

        overrides: constructor arguments.

        Raises
        ------
        ValueError: an unknown size.
        """
        if size not in SIZES:
            raise ValueError(f"size must be one of {', '.join(SIZES)}, got {size!r}")
        d_model = overrides.get("d_model", SIZES[size].d_model)
        arguments = {
            "d_model": d_model,
            "d_ff": glu_width(d_model),
            "num_layers": SIZES[size].num_layers,
            "patch_size": 16,
            "max_seq_len": 512,
            "attn_dropout_p": 0.0,
            "dropout_p": 0.0,
            "num_predict_token": 4,
        }
        return cls(**{**arguments, **overrides})

    def forward(
        self,
        target: Tensor,
        observed_mask: Tensor,
        sample_id: Tensor,
        time_id: Tensor,
        variate_id: Tensor,
        prediction_mask: Tensor,
        patch_size: Tensor,
        *,
        segments: SegmentPlan | None = None,
        blocks: AttentionBlocks | None = None,
    ) -> Tensor:
        """Quantiles of the patches after each token, given all tokens of its sample up to its own time.

        Parameters
        ----------
        target: (b t p), values of each token's patch; observed_mask: (b t p) bool.
        sample_id: (b t) int, 0 = padding; time_id: (b t) int, in patches; variate_id: (b t) int.
        prediction_mask: (b t) bool, True: the token's values do not enter its series' location and scale.
        patch_size: (b t) int, in steps, the model's own in every token.
        segments, blocks: the batch's plans, from `plan_segments` and `plan_blocks(…, time_id)`; made here where None.

        Returns
        -------
        (b t n q p), of the n patches after the token, on the target's scale; crossings are left as they are.

        Raises
        ------
        ValueError: the fields are no packed batch, see `validate_packed_batch`, or time runs backwards in a series.
        """
        fields = (target, observed_mask, sample_id, time_id, variate_id, prediction_mask, patch_size)
        validate_packed_batch(dict(zip(FIELDS, fields, strict=True)), self.patch_sizes)
        check_time_order(sample_id, time_id, variate_id)
        loc, scale = self.standardise(target, observed_mask, sample_id, variate_id, prediction_mask)
        x = self.embed(target, observed_mask, loc, scale)
        quantiles = self.quantiles(self.encode(x, sample_id, time_id, variate_id, segments, blocks))
        return quantiles * scale[..., None, None] + loc[..., None, None]

    def forward_predicted(
        self,
        target: Tensor,
        observed_mask: Tensor,
        sample_id: Tensor,
        time_id: Tensor,
        variate_id: Tensor,
        prediction_mask: Tensor,
        patch_size: Tensor,
        *,
        segments: SegmentPlan | None = None,
        blocks: AttentionBlocks | None = None,
    ) -> PredictedPatches:
        """As `forward`, for the tokens that foresee one under the prediction mask: what training reads."""
        following = find_next_tokens(sample_id, time_id, variate_id, self.num_predict_token)  # (b t n), −1: none
        hit = (following >= 0) & prediction_mask.flatten()[following.clamp_min(0)]
        tokens = hit.any(-1).flatten().nonzero().squeeze(1)
        loc, scale = self.standardise(target, observed_mask, sample_id, variate_id, prediction_mask)
        x = self.embed(target, observed_mask, loc, scale)
        quantiles = self.quantiles(self.encode(x, sample_id, time_id, variate_id, segments, blocks, tokens))
        ahead = torch.where(hit, following, -1).flatten(0, 1).index_select(0, tokens)
        return PredictedPatches(quantiles, ahead, loc, scale)

    def standardise(
        self, target: Tensor, observed_mask: Tensor, sample_id: Tensor, variate_id: Tensor, prediction_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Location and scale of each token's series, (b t 1) each, from what is observed and not to be predicted."""
        return self.scaler(target, observed_mask & ~prediction_mask[..., None], sample_id, variate_id)

    def embed(self, target: Tensor, observed_mask: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
        """in_proj([(target − loc)/scale, mask]): `(b t p), (b t p), (b t 1), (b t 1) -> (b t d)`."""
        return self.in_proj(torch.cat([(target - loc) / scale, observed_mask.to(target.dtype)], dim=-1))

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
        """`x: (b t d) -> (b t d)`, or (m d) for m wanted tokens; a subclass that needs segments plans them here."""
        blocks = plan_blocks(sample_id, variate_id, time_id) if blocks is None else blocks
        return self.encoder(x, time_id, blocks, segments, tokens)

    def quantiles(self, x: Tensor) -> Tensor:
        """Quantiles in units of the scale, of the n patches after each token: `(... d) -> (... n q p)`."""
        return rearrange(
            self.out_proj(x), "... (n q p) -> ... n q p", n=self.num_predict_token, q=len(self.quantile_levels)
        )


class Moirai2Module(QuantileDecoder, CheckpointMixin):
    """MOIRAI-2 (Liu et al. 2025, arXiv:2511.11698); loads and saves the published checkpoint.

    Parameters
    ----------
    d_ff: hidden width of the layers' GLU.
    patch_size: steps of a token.
    max_seq_len: tokens of a packed row in training; kept in the configuration, no limit of the model itself.
    attn_dropout_p, dropout_p: in training only.
    scaling: standardise each series; False: values as they are.
    num_predict_token: n, patches that a token foresees; 4 in the published checkpoint.
    quantile_levels: of the head, ascending within (0, 1).

    Raises
    ------
    ValueError: levels unsorted or outside (0, 1), or a patch size or count below 1.
    """

    model_type: ClassVar[str] = "moirai2"

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
    ):
        encoder = TransformerEncoder(
            d_model,
            num_layers,
            attn_dropout_p=attn_dropout_p,
            dropout_p=dropout_p,
            make_ffn=lambda d: GatedLinearUnit(d, d_ff, dropout_p),
        )
        super().__init__(encoder, d_model, patch_size, max_seq_len, scaling, num_predict_token, quantile_levels)
