"""MOIRAI-MoE: a causal decoder over patches whose feed-forward layers are mixtures of experts."""

# no `from __future__ import annotations` here: huggingface_hub finds the coder of an argument by its annotation's type
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Distribution

from tsfm_lab.distributions import DistributionOutput, decode_output, encode_output
from tsfm_lab.models.checkpoint import CheckpointMixin
from tsfm_lab.models.moirai import SIZES, PackedForecaster
from tsfm_lab.models.packed_batch import check_time_order
from tsfm_lab.nn.attention_blocks import AttentionBlocks, plan_blocks
from tsfm_lab.nn.embed import FeatLinear, MultiInSizeLinear
from tsfm_lab.nn.encoder import PackedEncoder, TransformerEncoder
from tsfm_lab.nn.ffn import GatedLinearUnit, glu_width
from tsfm_lab.nn.moe import ROUTERS, MoEFeedForward, store_centroids_together
from tsfm_lab.nn.packing import SegmentPlan


class ExpertDecoder(PackedForecaster):
    """What MOIRAI-MoE models share: residual embeddings, causal encoding, the law of the patch **after** each token.

    Liu et al. 2024, arXiv:2410.10469, §3. A subclass passes its encoder. Nothing stands for a token that is to be
    predicted: the prediction mask keeps its values out of the scale, and causality hides it from the tokens before.
    """

    def __init__(
        self,
        distr_output: DistributionOutput,
        encoder: PackedEncoder,
        d_model: int,
        patch_sizes: Sequence[int],
        max_seq_len: int,
        scaling: bool,
    ):
        super().__init__(distr_output, encoder, d_model, patch_sizes, max_seq_len, scaling, mask_encoding=None)
        self.res_proj = MultiInSizeLinear(self.patch_sizes, d_model)
        self.feat_proj = FeatLinear(self.patch_sizes, d_model)
        if any(hasattr(layer.ffn.router, "centroid") for layer in encoder.layers):
            store_centroids_together(encoder)

    @classmethod
    def from_preset(cls, size: str, **overrides: Any) -> Self:
        """An untrained model as wide and deep as MOIRAI "small", "base" (both published) or "large".

        An expert is half as wide as that size's dense layer, so that two of them have its parameters.
        overrides: constructor arguments.

        Raises
        ------
        ValueError: an unknown size.
        """
        d_model = overrides.get("d_model", SIZES[size].d_model if size in SIZES else 0)
        return super().from_preset(size, **{"d_ff": glu_width(d_model) // 2, "patch_sizes": (16,), **overrides})

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
    ) -> Distribution:
        """The law of the patch after each token, given all tokens of its sample up to its own time.

        Parameters
        ----------
        target … patch_size: a packed batch, see `PackedForecaster.forward`; values are read whatever the masks say.
        prediction_mask: (b t) bool, True: the token's values do not enter its series' location and scale.
        segments, blocks: the batch's plans, from `plan_segments` and `plan_blocks(…, time_id)`; made here where None.

        Returns
        -------
        A law of batch shape (b t p), on the target's scale: at (b t) that of the series' next patch.

        Raises
        ------
        ValueError: the fields are no packed batch, see `validate_packed_batch`, or time runs backwards in a series.
        """
        check_time_order(sample_id, time_id, variate_id)
        ids = {"sample_id": sample_id, "time_id": time_id, "variate_id": variate_id}
        masks = {"observed_mask": observed_mask, "prediction_mask": prediction_mask}
        return super().forward(target, **masks, **ids, patch_size=patch_size, segments=segments, blocks=blocks)

    def standardise(
        self, target: Tensor, observed_mask: Tensor, sample_id: Tensor, variate_id: Tensor, prediction_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Location and scale of each token's series, (b t 1) each, from what is observed and not to be predicted."""
        return self.scaler(target, observed_mask & ~prediction_mask[..., None], sample_id, variate_id)

    def embed(self, target: Tensor, patch_size: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
        """feat_proj(silu(in_proj(z))) + res_proj(z), z = (target − loc)/scale.

        `target: (b t p), patch_size: (b t), loc, scale: (b t 1) -> (b t d)`.
        """
        return self._embed_patches((target - loc) / scale, patch_size)

    def law_after(self, x: Tensor, patch_size: Tensor, loc: Tensor, scale: Tensor) -> Distribution:
        """The law of the patch after each of m tokens: `x: (m d), patch_size, loc, scale: (m)`, of one patch size p.

        Returns a law of batch shape (m·p), token by token.
        """
        raw, index = self.param_proj.within_patches(x, patch_size)
        token = index // max(self.patch_sizes)
        return self.distr_output.distribution(raw, loc[token], scale[token])

    def _embed_patches(self, values: Tensor, patch_size: Tensor) -> Tensor:
        return self.feat_proj(F.silu(self.in_proj(values, patch_size)), patch_size) + self.res_proj(values, patch_size)

    def _readers(self, tokens: Tensor, sample_id: Tensor, time_id: Tensor, variate_id: Tensor) -> Tensor:
        """The token before each one, which must be of the same series.

        Raises
        ------
        ValueError: a token to be predicted is the first of its series, or the one before it is not earlier.
        """
        follows = torch.zeros_like(sample_id, dtype=torch.bool)
        same = (sample_id[:, 1:] == sample_id[:, :-1]) & (variate_id[:, 1:] == variate_id[:, :-1])
        follows[:, 1:] = same & (time_id[:, 1:] > time_id[:, :-1])
        wrong = ~follows.flatten()[tokens]
        if wrong.any():
            row, token = divmod(int(tokens[wrong][0]), sample_id.shape[1])
            raise ValueError(
                f"a causal model predicts a token from the one before it: token {token} of row {row} must follow an "
                f"earlier one of its series (sample_id={sample_id[row, token]}, variate_id={variate_id[row, token]}), "
                f"got time_id={time_id[row, token]}; order each variate's tokens by time, context before horizon"
            )
        return tokens - 1

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
        blocks = plan_blocks(sample_id, variate_id, time_id) if blocks is None else blocks
        return self.encoder(x, time_id, blocks, segments, tokens)


class MoiraiMoEModule(ExpertDecoder, CheckpointMixin, coders={DistributionOutput: (encode_output, decode_output)}):
    """MOIRAI-MoE (Liu et al. 2024, arXiv:2410.10469); loads and saves the published checkpoints.

    Parameters
    ----------
    distr_output … scaling: as in `MoiraiModule`.
    d_ff: hidden width of one expert's GLU.
    num_experts, num_experts_per_token: of every layer; each layer has experts of its own.
    router: "centroid" as published, or "linear", see `tsfm_lab.nn.moe`.
    router_noise: of the linear router, in training only.

    Raises
    ------
    ValueError: an unknown router, noise without a linear one, or more experts a token than there are.
    """

    model_type: ClassVar[str] = "moirai_moe"

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
    ):
        make_ffn = expert_layer_maker(d_ff, dropout_p, num_experts, num_experts_per_token, router, router_noise)
        encoder = TransformerEncoder(
            d_model, num_layers, attn_dropout_p=attn_dropout_p, dropout_p=dropout_p, make_ffn=make_ffn
        )
        super().__init__(distr_output, encoder, d_model, patch_sizes, max_seq_len, scaling)


def expert_layer_maker(
    d_ff: int, dropout_p: float, num_experts: int, num_experts_per_token: int, router: str, router_noise: float
) -> Callable[[int], MoEFeedForward]:
    """What makes an encoder layer's feed-forward from d_model; parameters as in `MoiraiMoEModule`."""
    if router not in ROUTERS:
        raise ValueError(f"router must be one of {', '.join(ROUTERS)}, got {router!r}")
    if not 1 <= num_experts_per_token <= num_experts:
        raise ValueError(
            f"num_experts_per_token must be between 1 and num_experts={num_experts}, got {num_experts_per_token}"
        )
    if router_noise < 0 or (router_noise and router != "linear"):
        raise ValueError(f"router_noise must not be negative, and 0 unless router='linear', got {router_noise}")
    options = {"noise": router_noise} if router == "linear" else {}

    def make(d_model: int) -> MoEFeedForward:
        gate = ROUTERS[router](d_model, num_experts, num_experts_per_token, **options)
        return MoEFeedForward(num_experts, gate, lambda: GatedLinearUnit(d_model, d_ff, dropout_p))

    return make
