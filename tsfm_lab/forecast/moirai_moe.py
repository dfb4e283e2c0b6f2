"""Forecasts of MOIRAI-MoE and its hybrid: patch after patch is drawn, and read again with the context."""

from typing import Literal

import torch
from einops import rearrange
from torch import nn

from tsfm_lab.forecast.draws import seeded
from tsfm_lab.forecast.model_forecaster import ModelForecaster
from tsfm_lab.forecast.moirai_moe_passes import FrozenPasses, RescaledPasses
from tsfm_lab.forecast.prediction import Prediction
from tsfm_lab.forecast.windows import Windows
from tsfm_lab.models.moirai_moe import ExpertDecoder

PASSES = {"exact": RescaledPasses, "frozen": FrozenPasses}


class MoiraiMoEForecast(ModelForecaster):
    """A forecaster around a `MoiraiMoEModule` or `MoiraiMoEHybridModule` (Liu et al. 2024, arXiv:2410.10469).

    Parameters
    ----------
    module: the model.
    prediction_length: h, steps; may be given to `forecast` instead.
    context_length: steps of history that the model sees.
    patch_size: in steps, one of the module's.
    num_samples: draws per series, from which mean and quantiles are taken.
    scale: "exact": location and scale of a series follow from its context and the patches that a sample has so far,
        and every patch reads all of it anew, as published. "frozen": they stay those of the context, and a patch reads
        the one before it alone, behind a cache. The law of all patches but the first differs; `papers/moirai_moe.md`
        has by how much.
    target_dim, feat_dynamic_real_dim, past_feat_dynamic_real_dim: variates of the target, covariates known ahead,
        covariates of the past.
    """

    def __init__(
        self,
        module: ExpertDecoder,
        prediction_length: int | None = None,
        context_length: int = 1000,
        patch_size: int = 16,
        num_samples: int = 100,
        scale: Literal["exact", "frozen"] = "exact",
        target_dim: int = 1,
        feat_dynamic_real_dim: int = 0,
        past_feat_dynamic_real_dim: int = 0,
    ):
        super().__init__(
            module, prediction_length, context_length, target_dim, feat_dynamic_real_dim, past_feat_dynamic_real_dim
        )
        if patch_size not in module.patch_sizes:
            raise ValueError(f"patch_size must be one of {module.patch_sizes}, got {patch_size!r}")
        if num_samples < 1:
            raise ValueError(f"num_samples must be at least 1, got {num_samples}")
        if scale not in PASSES:
            raise ValueError(f"scale must be one of {', '.join(PASSES)}, got {scale!r}")
        self.patch_size, self.num_samples, self.scale = patch_size, num_samples, scale

    @staticmethod
    def is_for(module: nn.Module) -> bool:
        """See `ModelForecaster.is_for`."""
        return isinstance(module, ExpertDecoder)

    def values_per_series(self, horizon: int) -> int:
        """Of all samples: their values, or what the cache keeps of them; see base class."""
        variates = self.target_dim + self.feat_dynamic_real_dim + self.past_feat_dynamic_real_dim
        steps = self.num_samples * variates * (self.context_length + horizon)
        if self.scale == "exact":  # passes are cut to a number of tokens
            return 3 * steps
        encoder = self.module.encoder
        return 2 * steps // self.patch_size * len(encoder.layers) * encoder.norm.weight.numel()

    @torch.inference_mode()
    def predict(self, windows: Windows, horizon: int, generator: torch.Generator) -> Prediction:
        """Draw samples of the next `horizon` steps of each item; see `Forecaster.predict`."""
        passes = self.make_passes(windows, horizon)
        with seeded(generator, passes.device):
            patches = [passes.first(self.num_samples)]
            while len(patches) < passes.num_patches:
                patches.append(passes.extend(patches[-1]))
        samples = rearrange(torch.stack(patches), "n b s c p -> b c s (n p)")[..., :horizon]
        return Prediction(samples=samples.float().cpu().numpy())

    def make_passes(self, windows: Windows, horizon: int) -> RescaledPasses | FrozenPasses:
        """The passes of one batch, which draw its patches one after the other."""
        return PASSES[self.scale](self.module, windows, horizon, self.patch_size)
