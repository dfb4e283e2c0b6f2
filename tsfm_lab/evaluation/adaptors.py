"""Our forecasters on other people's benchmark objects: tasks of fev, data sets of GIFT-Eval. Both are optional.

`pip install fev`; GIFT-Eval's `Dataset` comes with github.com/SalesforceAIResearch/gift-eval and needs GluonTS only.
"""

from collections.abc import Sequence
from copy import copy
from typing import TYPE_CHECKING, Any

import numpy as np

from tsfm_lab.data.frequency import mase_season
from tsfm_lab.data.series import Series, SeriesList
from tsfm_lab.forecast import Forecaster
from tsfm_lab.forecast.prediction import LEVELS

if TYPE_CHECKING:
    import fev

OF_THE_MEAN = ("MSE", "RMSE", "RMSSE", "WMSE")  # fev's metrics that the mean minimises; the median does the others


def predict_fev_task(forecaster: Forecaster, task: "fev.Task", **options: Any) -> list[dict[str, list[dict]]]:
    """Forecasts of every window of a fev task, for `task.evaluation_summary(predictions, model_name=…)`.

    Several target columns are forecast together by a forecaster built for as many, else one by one. Known and past
    covariates are given to a forecaster that was built for them. options: of `Forecaster.forecast`.
    Raises ValueError for a level of the task that the forecaster does not give.
    """
    levels = tuple(sorted({*task.quantile_levels, 0.5}))  # fev scores the median, whatever levels the task has
    return [_predict_window(forecaster, task, window, levels, options) for window in task.iter_windows()]


def _predict_window(
    forecaster: Forecaster, task: "fev.Task", window: Any, levels: tuple[float, ...], options: dict[str, Any]
) -> dict[str, list[dict]]:
    past, future = (data.with_format("numpy") for data in window.get_input_data())
    columns = list(task.target_columns)
    groups = [columns] if forecaster.target_dim == len(columns) else [[column] for column in columns]
    predictions: dict[str, list[dict]] = {}
    for group in groups:
        series = [_series_of(forecaster, task, row, ahead, group) for row, ahead in zip(past, future, strict=True)]
        table = forecaster.forecast(SeriesList(series), task.horizon, levels, **options)
        shape = (len(series), len(group), task.horizon)
        point = table["mean" if task.eval_metric in OF_THE_MEAN else "0.5"].to_numpy().reshape(shape)
        quantiles = {str(level): table[f"{level:g}"].to_numpy().reshape(shape) for level in task.quantile_levels}
        for c, column in enumerate(group):
            predictions[column] = [
                {"predictions": point[i, c], **{level: values[i, c] for level, values in quantiles.items()}}
                for i in range(len(series))
            ]
    return predictions


def _series_of(forecaster: Forecaster, task: "fev.Task", past: dict, future: dict, columns: Sequence[str]) -> Series:
    """One item: the target columns, and the covariates that the forecaster was built for."""
    known = task.known_dynamic_columns if forecaster.feat_dynamic_real_dim else []
    only_past = task.past_dynamic_columns if forecaster.past_feat_dynamic_real_dim else []
    return Series(
        str(past[task.id_column]),
        past[task.timestamp_column][0],
        task.freq,
        np.stack([past[column] for column in columns]),
        np.stack([past[column] for column in only_past]) if only_past else None,
        np.stack([np.concatenate([past[column], future[column]]) for column in known]) if known else None,
    )


def score_gift_eval(forecaster: Forecaster, dataset: Any, *, batch_size: int | None = None) -> dict[str, float]:
    """MASE and CRPS of a GIFT-Eval `Dataset`, as its own evaluation computes them with GluonTS.

    dataset: with `test_data`, `prediction_length` and `freq`; univariate, as `Dataset(name, term, to_univariate=True)`.
    """
    from gluonts.ev.metrics import MASE, MeanWeightedSumQuantileLoss
    from gluonts.model import evaluate_model

    horizon = dataset.prediction_length
    predictor = _with_horizon(forecaster, horizon).create_predictor(batch_size=batch_size)
    metrics = evaluate_model(
        predictor,
        test_data=dataset.test_data,
        metrics=[MASE(), MeanWeightedSumQuantileLoss(LEVELS)],
        axis=None,
        mask_invalid_label=True,
        allow_nan_forecast=False,
        seasonality=mase_season(dataset.freq),
    )
    return {
        "mase": float(metrics["MASE[0.5]"].iloc[0]),
        "wql": float(metrics["mean_weighted_sum_quantile_loss"].iloc[0]),
    }


def _with_horizon(forecaster: Forecaster, horizon: int) -> Forecaster:
    """The forecaster with this prediction_length; the given one stays as it is."""
    forecaster = copy(forecaster)
    forecaster.prediction_length = horizon
    return forecaster
