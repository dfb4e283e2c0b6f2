"""Forecasts for fev's tasks and GIFT-Eval's data sets; GluonTS's evaluation as the slow reference of ours."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from tsfm_lab.data import Series, SeriesList
from tsfm_lab.evaluation import Task, evaluate_task
from tsfm_lab.evaluation.adaptors import predict_fev_task, score_gift_eval
from tsfm_lab.evaluation.gift_eval import rolling_windows
from tsfm_lab.forecast import Naive, SeasonalNaive
from tsfm_lab.metrics import metrics_of

H = 6


@pytest.fixture
def series():
    """Monthly walks of different lengths, with gaps in history and labels."""
    rng = np.random.default_rng(0)
    walks = [10 + rng.normal(size=n).cumsum() for n in (130, 150, 170)]
    walks[0][[3, 40, -2]] = np.nan
    return SeriesList([Series(str(i), "2000-01-31", "M", walk) for i, walk in enumerate(walks)])


def test_our_gift_eval_equals_gluonts_evaluation_of_the_same_windows(series):
    split = pytest.importorskip("gluonts.dataset.split", reason="compares with GluonTS, which is not installed")
    windows = rolling_windows(series, H)
    count = len(windows) // len(series)
    entries = [{"target": one.target[0], "start": pd.Period("2000-01", "M"), "item_id": one.item_id} for one in series]
    _, template = split.split(entries, offset=-H * count)
    test_data = template.generate_instances(prediction_length=H, windows=count, distance=H)
    dataset = SimpleNamespace(test_data=test_data, prediction_length=H, freq="M")
    theirs = score_gift_eval(SeasonalNaive(season=12), dataset)
    task = Task("gift_eval", "hospital", H, 12, 12, open=lambda: windows)
    ours = metrics_of(evaluate_task(SeasonalNaive(season=12), task).sums)
    assert count == 3
    assert ours["mase"] == pytest.approx(theirs["mase"], rel=1e-6)
    assert ours["wql"] == pytest.approx(theirs["wql"], rel=1e-6)


@pytest.fixture
def fev_task(tmp_path, monkeypatch):
    """Two items with two targets and a known covariate, two windows."""
    fev = pytest.importorskip("fev", reason="pip install fev to test its adaptor")
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr("fev.utils.PatchedDownloadConfig", datasets.DownloadConfig)  # fev 0.10 predates datasets 5
    rng = np.random.default_rng(1)
    rows = [
        {
            "id": str(i),
            "timestamp": pd.date_range("2020-01-01", periods=60, freq="D").to_numpy(),
            "x": rng.normal(size=60).cumsum(),
            "y": rng.normal(size=60).cumsum(),
        }
        for i in range(2)
    ]
    datasets.Dataset.from_list(rows).to_parquet(tmp_path / "data.parquet")
    return fev.Task(
        dataset_path=str(tmp_path / "data.parquet"),
        horizon=H,
        num_windows=2,
        target=["x", "y"],
        eval_metric="WQL",
        quantile_levels=[0.1, 0.5, 0.9],
        seasonality=7,
    )


@pytest.mark.parametrize("target_dim", [1, 2])
def test_fev_scores_our_forecasts_of_its_task(fev_task, target_dim):
    predictions = predict_fev_task(Naive(target_dim=target_dim), fev_task)
    summary = fev_task.evaluation_summary(predictions, model_name="naive")
    assert summary["num_forecasts"] == 2 * 2 * 2
    assert np.isfinite(summary["test_error"])
    for window, prediction in zip(fev_task.iter_windows(), predictions, strict=True):
        past, _ = window.get_input_data()
        np.testing.assert_allclose(prediction["y"][1]["0.5"], past[1]["y"][-1], rtol=1e-6)
