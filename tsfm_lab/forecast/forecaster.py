"""The surface of every model: a DataFrame, arrays or a collection in; mean and quantiles out."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tqdm import tqdm

from tsfm_lab.data.series import Series, SeriesCollection, SeriesList
from tsfm_lab.distributions import check_quantile_levels
from tsfm_lab.forecast.prediction import LEVELS, Prediction
from tsfm_lab.forecast.windows import Windows, cut_windows

if TYPE_CHECKING:
    import pandas

MEMORY = 512 * 2**20  # bytes that the values of one pass may take
MAX_BATCH = 64  # series of one pass; more gain no speed


@dataclass(frozen=True)
class ArrayForecast:
    """A forecast of s series of one variate: mean (s h), quantiles (s q h), samples (s n h) if asked for.

    With several variates each has an axis c after s.
    """

    mean: np.ndarray
    quantiles: np.ndarray
    quantile_levels: tuple[float, ...]
    samples: np.ndarray | None = None


class Forecaster(ABC):
    """Base of all forecasters. A subclass gives `history_length` and `predict`; the rest is shared.

    prediction_length: h, steps, unless given with each call. context_length: steps of history that the model sees.
    target_dim, feat_dynamic_real_dim, past_feat_dynamic_real_dim: variates and covariates of an item.

    Attributes
    ----------
    pretraining: sets of the registry that the model was trained on; None where that is not known.
    replaced: how many variates a simpler forecast stood in for so far, by reason.
    """

    pretraining: tuple[str, ...] | None = None

    def __init__(
        self,
        prediction_length: int | None,
        context_length: int,
        target_dim: int = 1,
        feat_dynamic_real_dim: int = 0,
        past_feat_dynamic_real_dim: int = 0,
    ):
        for name, value, least in (
            ("prediction_length", 1 if prediction_length is None else prediction_length, 1),
            ("context_length", context_length, 1),
            ("target_dim", target_dim, 1),
            ("feat_dynamic_real_dim", feat_dynamic_real_dim, 0),
            ("past_feat_dynamic_real_dim", past_feat_dynamic_real_dim, 0),
        ):
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        self.prediction_length, self.context_length, self.target_dim = prediction_length, context_length, target_dim
        self.feat_dynamic_real_dim = feat_dynamic_real_dim
        self.past_feat_dynamic_real_dim = past_feat_dynamic_real_dim
        self.replaced: Counter[str] = Counter()

    def history_length(self, horizon: int) -> int:
        """Steps of history that `predict` wants for a forecast of `horizon` steps."""
        return self.context_length

    def values_per_series(self, horizon: int) -> int:
        """About how many numbers a pass of the model holds at once for each series; sizes the batches."""
        return 4 * self.target_dim * (self.history_length(horizon) + 10 * horizon)

    def batch_size(self, horizon: int) -> int:
        """Series of one pass such that its float32 values stay within `MEMORY`; the same on every machine."""
        return max(1, min(MAX_BATCH, MEMORY // (4 * self.values_per_series(horizon))))

    @abstractmethod
    def predict(self, windows: Windows, horizon: int, generator: torch.Generator) -> Prediction:
        """Forecast the `horizon` steps after windows of `history_length(horizon)` steps; draws follow `generator`."""

    def forecast(
        self,
        data: Any,
        prediction_length: int | None = None,
        quantile_levels: Sequence[float] = LEVELS,
        *,
        batch_size: int | None = None,
        seed: int = 0,
        samples: bool = False,
        progress: bool = False,
        **frame_options: Any,
    ) -> "pandas.DataFrame | ArrayForecast":
        """Forecast every series of `data`.

        Parameters
        ----------
        data: a DataFrame, long or wide (`frame_options` as of `tsfm_lab.data.from_frame`); a SeriesCollection; or
            arrays: (t), (s t), (s c t) or a list of them, of any lengths, without a season; NaN is a missing value.
        prediction_length: h, steps; None: the forecaster's own.
        quantile_levels: each within (0, 1), ascending.
        batch_size: series per pass of the model; None: as memory allows, see `batch_size()`.
        seed: of the random draws, which also depend on batch_size.
        samples: also return the draws (arrays only, and only of models that draw).
        progress: a progress bar.

        Returns
        -------
        For a DataFrame or collection a long DataFrame: item_id, timestamp, variate (with several), mean, "0.1", …;
        for arrays an `ArrayForecast`.

        Raises
        ------
        ValueError: what is wrong with the data or the request, naming the item.
        """
        horizon = self._horizon(prediction_length)
        levels = check_quantile_levels(quantile_levels)
        series, is_table = _as_series(data, self.target_dim, frame_options)
        predictions = list(self._batches(series, horizon, batch_size, seed, progress))
        summaries = [prediction.summarise(levels) for prediction in predictions]
        mean = np.concatenate([mean for mean, _ in summaries])
        quantiles = np.concatenate([quantiles for _, quantiles in summaries])
        if is_table:
            return _as_frame(series, mean, quantiles, levels)
        drawn = np.concatenate([prediction.samples for prediction in predictions]) if samples else None
        if self.target_dim == 1:
            mean, quantiles, drawn = mean[:, 0], quantiles[:, 0], None if drawn is None else drawn[:, 0]
        return ArrayForecast(mean, quantiles, levels, drawn)

    def create_predictor(self, batch_size: int | None = None, seed: int = 0) -> Any:
        """A GluonTS predictor of this forecaster; needs its prediction_length."""
        from tsfm_lab.forecast.gluonts import SeriesPredictor

        horizon = self._horizon(None)
        return SeriesPredictor(self, horizon, batch_size or self.batch_size(horizon), seed)

    def _batches(
        self, series: Sequence[Series], horizon: int, batch_size: int | None, seed: int, progress: bool
    ) -> Iterator[Prediction]:
        generator = torch.Generator().manual_seed(seed)
        batch_size = batch_size or self.batch_size(horizon)
        starts = range(0, len(series), batch_size)
        for start in tqdm(starts, desc=type(self).__name__, unit="batch", disable=not progress):
            yield self.predict_series(series[start : start + batch_size], horizon, generator)

    def predict_series(self, series: Sequence[Series], horizon: int, generator: torch.Generator) -> Prediction:
        """One batch: cut the windows that the model wants and forecast them."""
        for item in series:
            if item.num_variates != self.target_dim:
                raise ValueError(
                    f"series {item.item_id!r} has {item.num_variates} variates, "
                    f"the forecaster was built with target_dim={self.target_dim}"
                )
        known, past = self.feat_dynamic_real_dim, self.past_feat_dynamic_real_dim
        windows = cut_windows(series, self.history_length(horizon), horizon, known, past)
        return self.predict(windows, horizon, generator)

    def _horizon(self, prediction_length: int | None) -> int:
        horizon = self.prediction_length if prediction_length is None else prediction_length
        if horizon is None or horizon < 1:
            raise ValueError(f"prediction_length must be at least 1 step, got {horizon}")
        return horizon


def _as_series(data: Any, target_dim: int, frame_options: dict[str, Any]) -> tuple[Sequence[Series], bool]:
    """The series of `data`, and whether it was a table (with names and stamps) rather than arrays."""
    if isinstance(data, SeriesCollection):
        return data, True
    if hasattr(data, "columns"):
        from tsfm_lab.data import from_frame

        options = {"multivariate": target_dim > 1, **frame_options}
        return from_frame(data, **options), True
    if isinstance(data, np.ndarray) and data.ndim == 1:
        data = data[None]
    start = np.datetime64("1970-01-01", "s")
    no_season = "Y-DEC"  # arrays have no frequency
    return SeriesList([Series(str(i), start, no_season, values) for i, values in enumerate(data)]), False


def _as_frame(
    series: Sequence[Series], mean: np.ndarray, quantiles: np.ndarray, levels: tuple[float, ...]
) -> "pandas.DataFrame":
    """Long frame, one row per item, variate and step."""
    import pandas as pd

    horizon, parts = mean.shape[-1], []
    for item, item_mean, item_quantiles in zip(series, mean, quantiles, strict=True):
        stamps = item.stamps(horizon)[-horizon:]
        for variate, (row, rows) in enumerate(zip(item_mean, item_quantiles, strict=True)):
            part = pd.DataFrame({"item_id": item.item_id, "timestamp": stamps})
            if len(item_mean) > 1:
                part["variate"] = variate
            part["mean"] = row
            parts.append(part.assign(**{f"{level:g}": rows[q] for q, level in enumerate(levels)}))
    return pd.concat(parts, ignore_index=True)
