"""The benchmarks' windows by slow definitions, and naive forecasts on real data beside published figures."""

import math
import os
from dataclasses import replace

import numpy as np
import pytest

from tsfm_lab import paths
from tsfm_lab.data import Series, SeriesList, gift_eval_configurations
from tsfm_lab.evaluation import Task, evaluate_task, gift_eval_tasks, lsf_tasks, monash_tasks
from tsfm_lab.evaluation.gift_eval import num_windows, rolling_windows
from tsfm_lab.evaluation.lsf import LsfWindows
from tsfm_lab.evaluation.results import slices
from tsfm_lab.forecast import Naive, SeasonalNaive
from tsfm_lab.metrics import metrics_of

# MAE of the last value, Godahewa et al. 2021
MONASH = {
    "us_births": 1152.67,
    "saugeenday": 21.50,
    "hospital": 24.07,
    "fred_md": 2825.67,
    "m4_hourly": 1218.06,
    "m4_weekly": 347.99,
    "tourism_monthly": 5636.83,
    "tourism_quarterly": 15845.10,
    "traffic_weekly": 1.19,
}
# MASE, CRPS, ND of seasonal naive, results/seasonal_naive/all_results.csv of SalesforceAIResearch/gift-eval
GIFT_EVAL = {
    "hospital": (0.92053, 0.06249, 0.07263),
    "us_births": (1.86484, 0.11953, 0.11876),
    "saugeenday": (3.41305, 0.58501, 0.49792),
    "m4_hourly": (1.19321, 0.03757, 0.04831),
}
# MSE and MAE of "Repeat", the last value, at the shortest horizon; Zeng et al. 2023, arXiv:2205.13504, Table 2
LSF = {"ETTh1": (1.295, 0.713), "ETTh2": (0.432, 0.422), "exchange_rate": (0.081, 0.196)}


@pytest.fixture
def mirror(monkeypatch, tmp_path):
    """The mirror of real data that the environment names."""
    if not os.environ.get("TSFM_DATA_MIRROR"):
        pytest.skip("set TSFM_DATA_MIRROR to a mirror of the real data to check the figures on it")
    monkeypatch.setattr(paths, "CACHE", tmp_path)


def test_long_sequence_windows_are_those_of_a_loop_over_the_test_part():
    rows = np.random.default_rng(0).normal(3, 2, size=(50, 2))
    windows = LsfWindows(rows, "h", "0.7/0.1/0.2", horizon=4)
    train = rows[:35]
    expected = (rows - train.mean(axis=0)) / train.std(axis=0)
    assert len(windows) == 7  # 10 rows of the test part
    for i, window in enumerate(windows):
        np.testing.assert_allclose(window.label, expected[40 + i : 44 + i].T, rtol=1e-5)
        np.testing.assert_allclose(window.history.target, expected[: 40 + i].T, rtol=1e-5)


def test_a_subsample_keeps_the_first_and_the_last_window():
    rows = np.arange(200.0)[:, None]
    every = LsfWindows(rows, "h", "0.7/0.1/0.2", horizon=4)
    some = LsfWindows(rows, "h", "0.7/0.1/0.2", horizon=4, max_windows=5)
    assert len(some) == 5
    for i, j in ((0, 0), (4, len(every) - 1)):
        np.testing.assert_array_equal(some[i].label, every[j].label)


def test_a_test_part_shorter_than_the_horizon_is_refused():
    with pytest.raises(ValueError, match="test part has 10 rows, a window needs 11"):
        LsfWindows(np.ones((50, 1)), "h", "0.7/0.1/0.2", horizon=11)


def test_gift_eval_has_97_configurations_with_the_horizons_of_their_terms():
    tasks = {task.data: task for task in gift_eval_tasks()}
    assert tuple(tasks) == gift_eval_configurations()
    assert len(tasks) == 97
    assert [tasks[f"gift_eval/ett1/15T/{term}"].horizon for term in ("short", "medium", "long")] == [48, 480, 720]
    assert (tasks["gift_eval/m4_yearly/short"].horizon, tasks["gift_eval/us_births/D/short"].season) == (6, 1)


@pytest.mark.parametrize(
    ("shortest", "horizon", "m4", "count"),
    [(84, 12, False, 1), (7305, 30, False, 20), (1000, 48, False, 3), (10, 48, False, 1), (5000, 13, True, 1)],
)
def test_a_tenth_of_the_shortest_series_decides_how_many_windows(shortest, horizon, m4, count):
    assert num_windows(shortest, horizon, m4) == count
    assert m4 or count == min(20, max(1, math.ceil(0.1 * shortest / horizon)))


def test_rolling_windows_lie_side_by_side_at_the_end_of_every_series():
    series = [Series(str(i), "2020-01-01", "D", np.arange(n)) for i, n in enumerate((200, 150))]
    windows = rolling_windows(SeriesList(series), horizon=6)
    assert [window.label[0, 0] for window in windows] == [182, 188, 194, 132, 138, 144]
    assert all(window.history.target[0, -1] == window.label[0, 0] - 1 for window in windows)
    assert [window.item for window in windows] == [0, 0, 0, 1, 1, 1]


def test_windows_without_a_step_of_history_are_left_out_and_counted():
    series = [Series("a", "2020-01-01", "D", np.arange(10)), Series("b", "2020-01-01", "D", np.arange(5))]
    windows = rolling_windows(SeriesList(series), horizon=5)
    assert ([window.item for window in windows], windows.left_out) == ([0], 1)


def test_a_set_without_a_horizon_is_refused():
    for make in (monash_tasks, gift_eval_tasks):
        with pytest.raises(ValueError, match="elnino has no horizon"):
            make(["elnino"])


@pytest.mark.usefixtures("mirror")
@pytest.mark.parametrize("name", MONASH)
def test_last_value_has_the_mae_that_monash_published(name):
    (task,) = monash_tasks([f"monash_{name}"])
    found = evaluate_task(Naive(), task)
    mae = slices(found.sums, found.shift, by_series=True)["all"]["mae"]
    assert round(mae, 2) == MONASH[name]


@pytest.mark.usefixtures("mirror")
@pytest.mark.parametrize("name", GIFT_EVAL)
def test_seasonal_naive_has_the_scores_that_gift_eval_published(name):
    (task,) = gift_eval_tasks([f"monash_{name}"])
    found = evaluate_task(SeasonalNaive(season=task.season, context_length=30_000), task)
    metrics = metrics_of(found.sums)
    np.testing.assert_allclose(  # their σ divides by n − 1
        [metrics[metric] for metric in ("mase", "wql", "nd")], GIFT_EVAL[name], rtol=1e-3
    )


@pytest.mark.usefixtures("mirror")
@pytest.mark.parametrize("name", LSF)
def test_last_value_has_the_errors_that_the_long_sequence_literature_has(name):
    (task,) = lsf_tasks([name], [96])
    metrics = metrics_of(evaluate_task(Naive(), task).sums)
    # published without the last incomplete batch of windows
    np.testing.assert_allclose([metrics["mse"], metrics["mae"]], LSF[name], atol=1e-3)


@pytest.mark.usefixtures("mirror")
def test_the_published_errors_on_illness_leave_out_the_last_incomplete_batch():
    (task,) = lsf_tasks(["national_illness"], [24])
    windows = task.open()
    whole_batches = replace(task, open=lambda: [windows[i] for i in range(len(windows) // 32 * 32)])
    metrics = metrics_of(evaluate_task(Naive(), whole_batches).sums)
    assert (round(float(metrics["mse"]), 3), round(float(metrics["mae"]), 3)) == (6.587, 1.701)


def test_a_task_is_read_when_it_is_run():
    def refuse():
        raise OSError("no such file")

    task = Task("monash", "nile", 6, 1, 1, open=refuse)
    with pytest.raises(OSError, match="no such file"):
        evaluate_task(Naive(), task)
