"""A linear model of each quantile of each step ahead, fitted to the series' own past."""

import numpy as np
import torch

from tsfm_lab.forecast.imputation import observed_part
from tsfm_lab.forecast.naive import ClassicalForecaster, SeasonalNaive, root_mean_square
from tsfm_lab.forecast.prediction import LEVELS, Prediction
from tsfm_lab.forecast.windows import Windows


def fit_quantiles(x: np.ndarray, y: np.ndarray, levels: np.ndarray, rounds: int = 20) -> np.ndarray:
    """β_q = argmin Σ_i ρ_q(y_i − x_iᵀβ), the linear quantile regression: x (m i f), y (m i) -> β (m q f).

    ρ_q(e) = e (q − 1[e < 0]), Koenker & Bassett 1978. Iteratively reweighted least squares: each of `rounds` solves the
    normal equations with weights |q − 1[e < 0]| / max(|e|, ε), for m problems at once. ε, a 10⁻⁴th of the scale of y,
    rounds the corner of ρ off.
    """
    epsilon = 1e-4 * root_mean_square(y)[..., None] + 1e-12  # (m 1 1)
    ridge = 1e-6 * np.eye(x.shape[-1]) * np.square(x).mean(axis=(-2, -1))[:, None, None, None]
    weights = np.ones((*y.shape[:1], len(levels), y.shape[1]))
    for _ in range(rounds):
        gram = np.einsum("mqi,mif,mig->mqfg", weights, x, x, optimize=True) + ridge * weights.sum(-1)[..., None, None]
        moment = np.einsum("mqi,mi,mif->mqf", weights, y, x, optimize=True)
        beta = np.linalg.solve(gram, moment[..., None])[..., 0]
        errors = y[:, None] - np.einsum("mqf,mif->mqi", beta, x, optimize=True)
        weights = np.abs(levels[:, None] - (errors < 0)) / np.maximum(np.abs(errors), epsilon)
    return beta


class QuantileLinear(ClassicalForecaster):
    """Quantile q of y_{T+k} is linear in what is known at T: the last value, that of the same phase, and two means.

    With ℓ the mean of the last season (of ten steps where there is none), y_{T+k} − ℓ is regressed on 1, on the last
    value, on the last one of step T+k's phase and on the mean of all, each less ℓ. Each of h steps and nine levels has
    its own coefficients, fitted to the last `max_origins` origins in the series' own past; quantiles are sorted. A
    history with fewer than `min_origins` of them is forecast by seasonal naive and counted in `replaced`.
    """

    min_origins, max_origins = 20, 256

    def predict(self, windows: Windows, horizon: int, generator: torch.Generator) -> Prediction:
        """See `Forecaster.predict`; nothing is drawn. The mean is that of the nine quantiles."""
        naive = super().predict(windows, horizon, generator)
        mean, quantiles = naive.summarise(LEVELS)
        for b, c in np.ndindex(mean.shape[:2]):
            season = self.season or (1 if windows.season is None else int(windows.season[b]))
            y = observed_part(windows.target[b, c].astype(np.float64))
            if len(y) < max(season, 10) + horizon + self.min_origins:
                self.replaced[f"a history with fewer than {self.min_origins} origins"] += 1
                continue
            quantiles[b, c] = self._quantiles(y, horizon, season)
            mean[b, c] = quantiles[b, c].mean(axis=0)
        return Prediction(mean=mean, quantiles=quantiles, levels=LEVELS)

    def law(self, history: np.ndarray, horizon: int, season: int) -> tuple[np.ndarray, np.ndarray]:
        """Of the seasonal naive forecast, which stands in where a history is short."""
        return SeasonalNaive().law(history, horizon, season)

    def _quantiles(self, y: np.ndarray, horizon: int, season: int) -> np.ndarray:
        """(t) -> (q h), sorted over q."""
        t, scale, width = len(y), y.std() or 1.0, season if season > 1 else 10
        ends = np.arange(max(width, season), t + 1)  # an origin has y[:end] behind it; the last one is forecast from
        sums = np.concatenate([[0.0], y.cumsum()])
        level = (sums[ends] - sums[ends - width]) / width
        steps = np.arange(horizon)
        same_phase = ends[:, None] - season + steps % season  # (n h), index of the last value of each step's phase
        known_values = (y[ends - 1][:, None], y[same_phase], (sums[ends] / ends)[:, None])
        features = np.stack(
            np.broadcast_arrays(1.0, *((values - level[:, None]) / scale for values in known_values)), axis=-1
        )  # (n h f)
        known = (ends <= t - horizon) & (ends > t - horizon - self.max_origins)
        label = (y[ends[known][:, None] + steps] - level[known, None]) / scale
        beta = fit_quantiles(features[known].transpose(1, 0, 2), label.T, np.asarray(LEVELS))
        forecast = np.einsum("hqf,hf->qh", beta, features[-1])
        return level[-1] + scale * np.sort(forecast, axis=0)
