"""Forecasts of MOIRAI-2: quantiles of four patches a pass, and beyond them every quantile continued as a branch."""

from typing import Literal

import torch
from einops import rearrange
from torch import nn

from tsfm_lab.decoding.quantile_branches import decode_quantile_branches
from tsfm_lab.distributions import QuantileKnots, repair_crossings
from tsfm_lab.forecast.model_forecaster import ModelForecaster
from tsfm_lab.forecast.moirai2_passes import FrozenPasses, RescaledPasses
from tsfm_lab.forecast.prediction import Prediction
from tsfm_lab.forecast.windows import Windows
from tsfm_lab.models.moirai2 import QuantileDecoder

PASSES = {"exact": RescaledPasses, "frozen": FrozenPasses}


class Moirai2Forecast(ModelForecaster):
    """A forecaster around a `Moirai2Module` or `Moirai2HybridModule` (Liu et al. 2025, arXiv:2511.11698).

    Parameters
    ----------
    module: the model.
    prediction_length: h, steps; may be given to `forecast` instead.
    context_length: steps of history that the model sees.
    scale: where a forecast takes several passes. "exact": location and scale of a series follow from its context and
        what a branch has generated so far, and every pass reads all of it anew, as published. "frozen": they stay
        those of the context, and a pass reads its new tokens alone, behind a cache. The quantiles differ beyond the
        first pass; `papers/moirai2.md` has by how much.
    target_dim, feat_dynamic_real_dim, past_feat_dynamic_real_dim: variates of the target, covariates known ahead,
        covariates of the past.

    Attributes
    ----------
    crossings: pairs of neighbouring quantiles that came out of the model in the wrong order so far, and were sorted.
    """

    def __init__(
        self,
        module: QuantileDecoder,
        prediction_length: int | None = None,
        context_length: int = 1000,
        scale: Literal["exact", "frozen"] = "exact",
        target_dim: int = 1,
        feat_dynamic_real_dim: int = 0,
        past_feat_dynamic_real_dim: int = 0,
    ):
        super().__init__(
            module, prediction_length, context_length, target_dim, feat_dynamic_real_dim, past_feat_dynamic_real_dim
        )
        if scale not in PASSES:
            raise ValueError(f"scale must be one of {', '.join(PASSES)}, got {scale!r}")
        if len(module.quantile_levels) < 2:
            raise ValueError(f"a forecast needs a model of at least two quantile_levels, got {module.quantile_levels}")
        self.scale, self.crossings = scale, 0

    @staticmethod
    def is_for(module: nn.Module) -> bool:
        """See `ModelForecaster.is_for`."""
        return isinstance(module, QuantileDecoder)

    def values_per_series(self, horizon: int) -> int:
        """Activations of a layer, for every branch; see base class."""
        rows = self.target_dim + self.feat_dynamic_real_dim + self.past_feat_dynamic_real_dim
        tokens = rows * (-(-self.context_length // self.module.patch_size) + self._num_patches(horizon))
        branches = len(self.module.quantile_levels) if self._num_patches(horizon) > self.module.num_predict_token else 1
        return branches * tokens * 12 * self.module.encoder.norm.weight.numel()

    @torch.inference_mode()
    def predict(self, windows: Windows, horizon: int, generator: torch.Generator) -> Prediction:
        """Quantiles of the next `horizon` steps of each item, ascending; nothing is drawn. See `Forecaster.predict`."""
        quantiles, crossings = repair_crossings(self.decode(windows, horizon), dim=2)
        self.crossings += int(crossings)
        levels = self.module.quantile_levels
        law = QuantileKnots(rearrange(quantiles, "b c q h -> b c h q"), torch.tensor(levels))
        return Prediction(mean=law.mean.cpu().numpy(), quantiles=quantiles.cpu().numpy(), levels=levels)

    @torch.inference_mode()
    def decode(self, windows: Windows, horizon: int) -> torch.Tensor:
        """The model's quantiles as they come, (b c q h); windows of `context_length` steps."""
        passes = PASSES[self.scale](self.module, windows, horizon)
        patches = decode_quantile_branches(
            passes.first(), passes.extend, self._num_patches(horizon), self.module.quantile_levels
        )
        return rearrange(patches, "b c n q p -> b c q (n p)")[..., :horizon]

    def _num_patches(self, horizon: int) -> int:
        return -(-horizon // self.module.patch_size)
