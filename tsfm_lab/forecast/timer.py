"""Forecasts of the Timer family: rolled token by token, with the law that each token has, given the means before it."""

import numpy as np
import torch
from einops import rearrange

from tsfm_lab.forecast.forecaster import Forecaster
from tsfm_lab.forecast.imputation import interpolate
from tsfm_lab.forecast.prediction import Prediction
from tsfm_lab.forecast.windows import Windows
from tsfm_lab.models.patch_forecaster import PatchForecaster


class TimerForecast(Forecaster):
    """A forecaster around a `PatchForecaster`: Timer, Timer-XL, their drafts, TinyTimeMixer.

    Later tokens are forecast from the means of earlier ones, in windows that slide as in `decoding.slide`. The standard
    deviation of a step is that of its token's law, so beyond a token it leaves out the uncertainty of the means; a
    model without a variance gives quantiles that all equal its mean. Gaps are interpolated, and what a short history
    lacks at its start is its first value.

    Parameters
    ----------
    module: the model. prediction_length: h, steps; may be given to `forecast` instead.
    context_length: steps of history that the model sees; None: that of the model, or seven tokens.
    target_dim: variates of an item; a model with attention over variates sees them together.
    """

    def __init__(
        self,
        module: PatchForecaster,
        prediction_length: int | None = None,
        context_length: int | None = None,
        target_dim: int = 1,
    ):
        own = getattr(module, "context_length", 7 * module.input_token_len)
        super().__init__(prediction_length, own if context_length is None else context_length, target_dim)
        if self.context_length < module.input_token_len:
            raise ValueError(
                f"context_length must be at least a token of {module.input_token_len} steps, got {context_length}"
            )
        self.module = module.eval()

    def values_per_series(self, horizon: int) -> int:
        """Activations of a layer, about as wide as the model's largest weight, for every token; see base class."""
        tokens = self.target_dim * -(-self.context_length // self.module.input_token_len)
        width = max(parameter.shape[0] for parameter in self.module.parameters())
        return 8 * tokens * (width + tokens) + super().values_per_series(horizon)

    @torch.inference_mode()
    def predict(self, windows: Windows, horizon: int, generator: torch.Generator) -> Prediction:
        """See `Forecaster.predict`; nothing is drawn."""
        history = np.apply_along_axis(interpolate, 2, windows.target)
        context = torch.from_numpy(rearrange(history, "b c t -> b t c").copy()).to(
            next(self.module.parameters()).device
        )
        p, means, variances = self.module.output_token_len, [], []
        for _ in range(-(-horizon // p)):
            law = self.module.law(context)
            means.append(law.mean[:, -p:])
            variances.append(torch.zeros_like(means[-1]) if law.logvar is None else law.logvar[:, -p:].exp())
            context = torch.cat([context[:, p:], means[-1]], dim=1)
        mean, variance = (torch.cat(parts, dim=1)[:, :horizon].mT.float().cpu().numpy() for parts in (means, variances))
        return Prediction(mean=mean, stdev=np.sqrt(variance))
