"""Any forecaster as a GluonTS predictor, for its evaluation tools and pipelines."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from gluonts.dataset.common import DataEntry
from gluonts.model.forecast import Forecast, QuantileForecast, SampleForecast
from gluonts.model.predictor import Predictor

from tsfm_lab.data.series import Series
from tsfm_lab.forecast.prediction import LEVELS, Prediction

if TYPE_CHECKING:
    from tsfm_lab.forecast.forecaster import Forecaster


class SeriesPredictor(Predictor):
    """Forecasts GluonTS entries batch by batch; the same seed gives the same forecasts.

    Entries have target (t) or (c t), start (a pandas Period) and, where the forecaster was built for them,
    feat_dynamic_real (k t+h) and past_feat_dynamic_real (p t).
    """

    def __init__(self, forecaster: "Forecaster", prediction_length: int, batch_size: int, seed: int):
        super().__init__(prediction_length=prediction_length)
        self.forecaster, self.batch_size, self.seed = forecaster, batch_size, seed

    def predict(self, dataset: Iterable[DataEntry], **options: Any) -> Iterator[Forecast]:
        """One forecast an entry, in order: SampleForecast of a model that draws samples, QuantileForecast of others."""
        generator = torch.Generator().manual_seed(self.seed)
        entries = iter(dataset)
        while batch := list(islice(entries, self.batch_size)):
            series = [_as_series(entry, number) for number, entry in enumerate(batch)]
            prediction = self.forecaster.predict_series(series, self.prediction_length, generator)
            yield from (_as_forecast(prediction, i, entry) for i, entry in enumerate(batch))


def _as_series(entry: DataEntry, number: int) -> Series:
    start = entry["start"]
    return Series(
        item_id=str(entry.get("item_id", number)),
        start=start.to_timestamp().to_datetime64(),
        freq=start.freqstr,
        target=entry["target"],
        feat_dynamic_real=_rows(entry.get("feat_dynamic_real")),
        past_feat_dynamic_real=_rows(entry.get("past_feat_dynamic_real")),
    )


def _rows(values: Any) -> np.ndarray | None:
    return None if values is None else np.atleast_2d(np.asarray(values, dtype=np.float32))


def _as_forecast(prediction: Prediction, i: int, entry: DataEntry) -> Forecast:
    identity = {"start_date": entry["start"] + np.shape(entry["target"])[-1], "item_id": entry.get("item_id")}
    if prediction.samples is not None:
        samples = prediction.samples[i].transpose(1, 2, 0)  # (c s h) -> (s h c)
        return SampleForecast(samples[..., 0] if samples.shape[2] == 1 else samples, **identity)
    levels = prediction.levels or LEVELS
    mean, quantiles = prediction.summarise(levels)
    arrays = np.concatenate([mean[i][:, None], quantiles[i]], axis=1).transpose(1, 2, 0)
    keys = ["mean", *(f"{level:g}" for level in levels)]
    return QuantileForecast(arrays[..., 0] if arrays.shape[2] == 1 else arrays, forecast_keys=keys, **identity)
