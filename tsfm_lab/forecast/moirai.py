"""Forecasts of MOIRAI 1.x and its hybrid: one pass, the law of the horizon's values alone, samples drawn from it."""

from typing import Literal

import numpy as np
import torch
from einops import rearrange
from torch import nn

from tsfm_lab.data.packing import PackedBatch
from tsfm_lab.distributions import PredictedValues
from tsfm_lab.forecast.draws import seeded
from tsfm_lab.forecast.model_forecaster import ModelForecaster
from tsfm_lab.forecast.prediction import Prediction
from tsfm_lab.forecast.tokens import pack_windows
from tsfm_lab.forecast.windows import Windows
from tsfm_lab.models.moirai import PackedForecaster


class MoiraiForecast(ModelForecaster):
    """A forecaster around a `MoiraiModule` or `MoiraiHybridModule` (Woo et al. 2024, arXiv:2402.02592).

    Parameters
    ----------
    module: the model.
    prediction_length: h, steps; may be given to `forecast` instead.
    context_length: steps of history that the model sees.
    patch_size: in steps, one of the module's; "auto" scores each of them, series by series, by the negative
        log-likelihood of the last h steps of the history given those before, and takes the best.
    num_samples: draws per series, from which mean and quantiles are taken.
    target_dim, feat_dynamic_real_dim, past_feat_dynamic_real_dim: variates of the target, covariates known ahead,
        covariates of the past.
    """

    def __init__(
        self,
        module: PackedForecaster,
        prediction_length: int | None = None,
        context_length: int = 1000,
        patch_size: int | Literal["auto"] = "auto",
        num_samples: int = 100,
        target_dim: int = 1,
        feat_dynamic_real_dim: int = 0,
        past_feat_dynamic_real_dim: int = 0,
    ):
        super().__init__(
            module, prediction_length, context_length, target_dim, feat_dynamic_real_dim, past_feat_dynamic_real_dim
        )
        if patch_size != "auto" and patch_size not in module.patch_sizes:
            raise ValueError(f"patch_size must be 'auto' or one of {module.patch_sizes}, got {patch_size!r}")
        if num_samples < 1:
            raise ValueError(f"num_samples must be at least 1, got {num_samples}")
        self.patch_size, self.num_samples = patch_size, num_samples

    @staticmethod
    def is_for(module: nn.Module) -> bool:
        """See `ModelForecaster.is_for`."""
        return isinstance(module, PackedForecaster) and module.mask_encoding is not None

    def history_length(self, horizon: int) -> int:
        """Steps of history that a forecast of `horizon` steps reads: "auto" scores a window before the last one too."""
        return self.context_length + (horizon if self.patch_size == "auto" else 0)

    def values_per_series(self, horizon: int) -> int:
        """Activations of a layer with dense attention, parameters of the horizon's laws and samples; see base class."""
        sizes = self.module.patch_sizes if self.patch_size == "auto" else (self.patch_size,)
        rows = self.target_dim + self.feat_dynamic_real_dim + self.past_feat_dynamic_real_dim
        future, p = -(-horizon // min(sizes)), max(self.module.patch_sizes)
        tokens = rows * (-(-self.context_length // min(sizes)) + future)
        d = self.module.mask_encoding.embedding_dim
        layer = tokens * 12 * d + max(1, d // 64) * tokens**2
        return layer + self.target_dim * future * p * (40 + 3 * self.num_samples)

    @torch.inference_mode()
    def predict(self, windows: Windows, horizon: int, generator: torch.Generator) -> Prediction:
        """Draw samples of the next `horizon` steps of each item; see `Forecaster.predict`."""
        b, c = windows.target.shape[:2]
        context = windows.slice(windows.length - self.context_length, windows.length, horizon)
        samples = np.empty((b, c, self.num_samples, horizon), dtype=np.float32)
        sizes = self.choose_patch_sizes(windows, horizon)
        for size in np.unique(sizes):
            items = np.flatnonzero(sizes == size)
            samples[items] = self._sample(context.select(items), horizon, int(size), generator)
        return Prediction(samples=samples)

    @torch.inference_mode()
    def choose_patch_sizes(self, windows: Windows, horizon: int) -> np.ndarray:
        """The patch size of each item, in steps: (b); windows of `history_length(horizon)` steps."""
        if self.patch_size != "auto":
            return np.full(len(windows.target), self.patch_size)
        past = windows.slice(0, self.context_length, horizon)
        last = windows.slice(self.context_length, windows.length)
        scores = [self.score(past, last, size) for size in self.module.patch_sizes]
        return np.asarray(self.module.patch_sizes)[np.argmin(scores, axis=0)]

    @torch.inference_mode()
    def score(self, past: Windows, last: Windows, patch_size: int) -> np.ndarray:
        """(b), negative log-likelihood of `last` after `past`: mean over a variate's observed values, summed."""
        batch, law = self._law(past, last.length, patch_size, last)
        counted = (batch["prediction_mask"][..., None] & batch["observed_mask"]).float()
        loss = (-law.log_prob(batch["target"]) * counted).sum(-1)
        per_variate = counted.new_zeros(len(loss), int(batch["variate_id"].max()) + 1)
        total = per_variate.scatter_add(1, batch["variate_id"], loss)
        count = per_variate.scatter_add(1, batch["variate_id"], counted.sum(-1))
        return (total / count.clamp(min=1)).sum(1).cpu().numpy()

    def _sample(self, context: Windows, horizon: int, patch_size: int, generator: torch.Generator) -> np.ndarray:
        """(b c s h)."""
        _, law = self._law(context, horizon, patch_size)
        with seeded(generator, self.device):
            drawn = law.law.sample((self.num_samples,))
        axes = {"c": context.target.shape[1], "p": patch_size, "b": len(context.target)}
        return rearrange(drawn, "s (b c n p) -> b c s (n p)", **axes)[..., :horizon].float().cpu().numpy()

    def _law(
        self, windows: Windows, horizon: int, patch_size: int, future: Windows | None = None
    ) -> tuple[PackedBatch, PredictedValues]:
        batch = pack_windows(windows, horizon, patch_size, max(self.module.patch_sizes), future)
        batch = {name: value.to(self.device) for name, value in batch.items()}
        return batch, self.module.forward_predicted(**batch)
