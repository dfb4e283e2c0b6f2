"""MOIRAI 1.x: a masked encoder over patches of any number of variates, with a mixture as its head."""

# no `from __future__ import annotations` here: huggingface_hub finds the coder of an argument by its annotation's type
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from tsfm_lab.distributions import (
    DistributionOutput,
    LogNormalOutput,
    MixtureOutput,
    NegativeBinomialOutput,
    NormalFixedScaleOutput,
    ParamProjection,
    PredictedValues,
    StudentTOutput,
    decode_output,
    encode_output,
)
from tsfm_lab.models.checkpoint import CheckpointMixin
from tsfm_lab.models.packed_batch import FIELDS, validate_packed_batch
from tsfm_lab.nn.attention_blocks import AttentionBlocks, plan_blocks
from tsfm_lab.nn.embed import MultiInSizeLinear
from tsfm_lab.nn.encoder import PackedEncoder, TransformerEncoder
from tsfm_lab.nn.packing import SegmentPlan
from tsfm_lab.nn.scaler import PackedStdScaler, UnitScaler


@dataclass(frozen=True)
class MoiraiSize:
    """Width and depth of a published MOIRAI 1.1-R checkpoint; heads have 64 channels."""

    d_model: int
    num_layers: int


SIZES = {"small": MoiraiSize(384, 6), "base": MoiraiSize(768, 12), "large": MoiraiSize(1024, 24)}
PATCH_SIZES = (8, 16, 32, 64, 128)


def published_mixture() -> MixtureOutput:
    """The head of every published MOIRAI 1.x and MoE checkpoint."""
    return MixtureOutput((StudentTOutput(), NormalFixedScaleOutput(1e-3), NegativeBinomialOutput(), LogNormalOutput()))


class PackedForecaster(nn.Module):
    """What MOIRAI models share: scale, embed patches, mask what is to be predicted, encode, project to a law.

    Woo et al. 2024, arXiv:2402.02592, §3.1. A subclass passes its encoder, and what stands for a token that is hidden;
    one that hides no tokens (mask_encoding None) says with `_embed_patches` and `_readers` how it predicts them.
    """

    def __init__(
        self,
        distr_output: DistributionOutput,
        encoder: PackedEncoder,
        d_model: int,
        patch_sizes: Sequence[int],
        max_seq_len: int,
        scaling: bool,
        mask_encoding: nn.Embedding | None,
    ):
        super().__init__()
        self.distr_output, self.patch_sizes, self.max_seq_len = distr_output, tuple(patch_sizes), max_seq_len
        self.mask_encoding = mask_encoding
        self.scaler = PackedStdScaler() if scaling else UnitScaler()
        self.in_proj = MultiInSizeLinear(self.patch_sizes, d_model)
        self.encoder = encoder
        self.param_proj = ParamProjection(d_model, self.patch_sizes, distr_output.args_dim)

    @classmethod
    def from_preset(cls, size: str, **overrides: Any) -> Self:
        """An untrained model of a published size, "small", "base" or "large"; `overrides` are constructor arguments.

        Raises
        ------
        ValueError: an unknown size.
        """
        if size not in SIZES:
            raise ValueError(f"size must be one of {', '.join(SIZES)}, got {size!r}")
        arguments = {
            "distr_output": published_mixture(),
            "d_model": SIZES[size].d_model,
            "num_layers": SIZES[size].num_layers,
            "patch_sizes": PATCH_SIZES,
            "max_seq_len": 512,
            "attn_dropout_p": 0.0,
            "dropout_p": 0.0,
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
    ) -> Distribution:
        """The law of every value of a packed batch, given what is observed outside the prediction mask.

        Parameters
        ----------
        target: (b t p), values of each token's patch, p the largest patch size; observed_mask: (b t p) bool.
        sample_id: (b t) int, 0 = padding; time_id: (b t) int, in patches; variate_id: (b t) int.
        prediction_mask: (b t) bool, True: the token's values are hidden and to be predicted.
        patch_size: (b t) int, in steps.
        segments, blocks: the batch's plans, from `plan_segments` and `plan_blocks`; made here where None and needed.

        Returns
        -------
        A law of batch shape (b t p), on the target's scale. It says nothing of padding and of positions past the
        patch size.

        Raises
        ------
        ValueError: the fields are no packed batch, see `validate_packed_batch`.
        """
        fields = (target, observed_mask, sample_id, time_id, variate_id, prediction_mask, patch_size)
        validate_packed_batch(dict(zip(FIELDS, fields, strict=True)), self.patch_sizes)
        loc, scale, x = self._embed(target, observed_mask, sample_id, variate_id, prediction_mask, patch_size)
        x = self._encode(x, sample_id, time_id, variate_id, patch_size, segments, blocks)
        raw = self.param_proj(x.flatten(0, 1), patch_size.flatten())
        raw = _map_tree(raw, lambda leaf: leaf.unflatten(0, sample_id.shape))
        return self.distr_output.distribution(raw, loc, scale)

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
    ) -> PredictedValues:
        """As `forward`, for the values of tokens under the prediction mask alone: what training and forecasting read.

        The last layer and the head then compute those tokens only; their law and gradients are the same.
        """
        tokens = prediction_mask.logical_and(sample_id > 0).flatten().nonzero().squeeze(1)
        readers = self._readers(tokens, sample_id, time_id, variate_id)
        loc, scale, x = self._embed(target, observed_mask, sample_id, variate_id, prediction_mask, patch_size)
        x = self._encode(x, sample_id, time_id, variate_id, patch_size, segments, blocks, readers)
        raw, index = self.param_proj.within_patches(x, patch_size.flatten()[tokens])
        p = target.shape[-1]
        token = tokens[index // p]
        law = self.distr_output.distribution(raw, loc.flatten()[token], scale.flatten()[token])
        return PredictedValues(law, token * p + index % p, tuple(target.shape))

    def _embed(
        self,
        target: Tensor,
        observed_mask: Tensor,
        sample_id: Tensor,
        variate_id: Tensor,
        prediction_mask: Tensor,
        patch_size: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Location and scale of each token's series (b t 1), and the tokens' embeddings (b t d)."""
        visible = observed_mask & ~prediction_mask[..., None]
        loc, scale = self.scaler(target, visible, sample_id, variate_id)
        x = self._embed_patches((target - loc) / scale, patch_size)
        if self.mask_encoding is None:
            return loc, scale, x
        return loc, scale, torch.where(prediction_mask[..., None], self.mask_encoding.weight.to(x.dtype), x)

    def _embed_patches(self, values: Tensor, patch_size: Tensor) -> Tensor:
        """Standardised values to embeddings: `(b t p), (b t) -> (b t d)`."""
        return self.in_proj(values, patch_size)

    def _readers(self, tokens: Tensor, sample_id: Tensor, time_id: Tensor, variate_id: Tensor) -> Tensor:
        """The tokens whose encodings give the laws of `tokens`: (n) -> (n), indices into (b t)."""
        return tokens

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
        """(b t d), or (n d) for n wanted tokens; a subclass that needs segments plans them here."""
        blocks = plan_blocks(sample_id, variate_id) if blocks is None else blocks
        return self.encoder(x, time_id, blocks, segments, tokens)


class MoiraiModule(PackedForecaster, CheckpointMixin, coders={DistributionOutput: (encode_output, decode_output)}):
    """MOIRAI 1.x (Woo et al. 2024, arXiv:2402.02592); loads and saves the published checkpoints.

    Parameters
    ----------
    distr_output: the head, e.g. `published_mixture()`; any output, mixture or not.
    patch_sizes: admissible patch sizes, in steps.
    max_seq_len: tokens of a packed row in training; kept in the configuration, no limit of the model itself.
    attn_dropout_p, dropout_p: in training only.
    scaling: standardise each series; False: values as they are.
    """

    model_type: ClassVar[str] = "moirai"

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
    ):
        encoder = TransformerEncoder(d_model, num_layers, attn_dropout_p=attn_dropout_p, dropout_p=dropout_p)
        super().__init__(distr_output, encoder, d_model, patch_sizes, max_seq_len, scaling, nn.Embedding(1, d_model))


def _map_tree(tree: Any, change: Any) -> Any:
    if isinstance(tree, dict):
        return {name: _map_tree(child, change) for name, child in tree.items()}
    if isinstance(tree, list):
        return [_map_tree(child, change) for child in tree]
    return change(tree)
