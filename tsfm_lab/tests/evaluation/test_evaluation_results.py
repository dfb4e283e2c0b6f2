"""Scoring of tasks, the folder of results, and what is read from its table."""

import sys
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy.stats import gmean

from tsfm_lab import metrics
from tsfm_lab.data import Series, SeriesList
from tsfm_lab.evaluation import (
    Task,
    evaluate,
    evaluate_task,
    monash_tasks,
    paired_test,
    relative_scores,
    scores_of,
    summarise,
)
from tsfm_lab.evaluation.evaluate import domain_of, level_shift, open_model
from tsfm_lab.evaluation.task import LastWindows, Window
from tsfm_lab.forecast import LEVELS, Drift, Naive, SeasonalNaive
from tsfm_lab.forecast.opening import pretraining_of

H, SEASON = 4, 3


def collection(seed=0, variates=2, count=5, length=40):
    """Walks with gaps, of growing lengths."""
    rng = np.random.default_rng(seed)
    series = []
    for i in range(count):
        target = rng.normal(size=(variates, length + i)).cumsum(axis=1)
        target[:, 5:8] = target[0, -2] = np.nan
        series.append(Series(str(i), "2020-01-01", "D", target))
    return SeriesList(series)


def task(data="nile", seed=0, benchmark="gift_eval", count=2, **shape):
    windows = LastWindows(collection(seed, **shape), H, count)
    return Task(benchmark, data, H, SEASON, 1, open=lambda: windows)


def test_scores_are_those_of_the_metrics_on_all_forecasts_together():
    windows = task().open()
    found = evaluate_task(SeasonalNaive(season=SEASON), task(), batch_size=3)
    rows = [(w.history.target[v], w.label[v]) for w in windows for v in range(2)]
    forecast = SeasonalNaive(season=SEASON).forecast([history for history, _ in rows], H)
    label = np.stack([label for _, label in rows])
    scale = np.stack([metrics.seasonal_error(history, 1) for history, _ in rows])
    ours = metrics.metrics_of(found.sums)
    assert ours["mase"] == pytest.approx(metrics.mase(label, forecast.mean, scale), rel=1e-5)
    assert ours["wql"] == pytest.approx(metrics.weighted_quantile_loss(label, forecast.quantiles, LEVELS), rel=1e-5)
    assert found.item.tolist() == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4 + [4] * 4


def test_variates_may_be_forecast_together_or_one_by_one():
    alone = evaluate_task(Naive(), task())
    together = evaluate_task(Naive(target_dim=2), task())
    for name, values in alone.sums.items():
        np.testing.assert_allclose(values, together.sums[name], err_msg=name)
    with pytest.raises(ValueError, match="nile has 2 variates, the forecaster was built for 3"):
        evaluate_task(Naive(target_dim=3), task())


def test_a_history_without_a_value_is_taken_as_0_and_counted():
    blank = SeriesList([Series("a", "2020-01-01", "D", np.r_[np.full(10, np.nan), np.ones(H)])])
    found = evaluate_task(Naive(), Task("monash", "nile", H, 1, 1, open=lambda: LastWindows(blank, H)))
    assert sum(found.replaced.values()) == 1
    assert metrics.metrics_of(found.sums)["mae"] == 1


def test_a_shift_is_the_change_of_level_in_standard_deviations_of_the_recent_past():
    past = np.r_[np.full(50, 99.0), np.tile([0.0, 2.0], 10)]  # 20 recent steps: mean 1, deviation 1
    window = Window(Series("a", "2020-01-01", "D", past), np.full((1, 4), 4.0), 0)
    assert level_shift(window, 0) == pytest.approx(3)
    assert level_shift(Window(window.history, np.full((1, 4), np.nan), 0), 0) != 0  # unknown is NaN


def test_finished_tasks_are_not_done_again_and_failed_ones_are(tmp_path):
    calls = []

    def open_model(task):
        calls.append(task.data)
        if task.data == "co2" and calls.count("co2") == 1:
            raise OSError("the file is not there")
        return Naive()

    tasks = [task("nile"), task("co2"), task("sunspots")]
    results = evaluate({"m": open_model}, tasks, tmp_path)
    assert set(results.table()["data"]) == {"nile", "sunspots"}
    (error,) = [record["error"] for record in results.records() if record["status"] == "failed"]
    assert error == "OSError: the file is not there"
    assert results.counts()["error"].tolist().count("OSError: the file is not there") == 1
    results = evaluate({"m": open_model}, tasks, tmp_path)
    assert calls == ["nile", "co2", "sunspots", "co2"]
    assert set(results.table()["data"]) == {"nile", "co2", "sunspots"}


def test_a_model_given_by_name_is_opened_once_for_all_tasks(tmp_path, monkeypatch):
    opened = []

    def load(name):
        opened.append(name)
        return Naive()

    monkeypatch.setattr(sys.modules[evaluate.__module__], "load", load)
    results = evaluate({"m": "some/where"}, [task("nile"), task("co2")], tmp_path)
    assert opened == ["some/where"]
    assert results.counts()["status"].tolist() == ["finished"] * 2


def test_the_table_is_tidy_and_has_the_slices_of_the_windows(tmp_path):
    table = evaluate({"naive": "naive"}, [task()], tmp_path, run="r", seed=3).table()
    assert list(table.columns) == [
        *("run", "model", "benchmark", "data", "horizon", "seed", "domain", "slice", "windows", "metric", "value")
    ]
    assert table[["run", "seed", "domain"]].drop_duplicates().to_numpy().tolist() == [["r", 3, "held out"]]
    windows = table.groupby("slice")["windows"].first()
    assert windows["all"] == 20
    assert windows.drop("all").sum() == 20
    mse = table[table["metric"] == "mse"].set_index("slice")["value"]
    assert min(mse.drop("all")) <= mse["all"] <= max(mse.drop("all"))


def test_a_set_that_was_pretrained_on_is_warned_of_and_marked(tmp_path):
    seen, unseen, unknown = Naive(), Naive(), Naive()
    seen.pretraining, unseen.pretraining, unknown.pretraining = ("elnino", "nile"), ("elnino",), None
    models = {"seen": seen, "unseen": unseen, "unknown": unknown}
    with pytest.warns(UserWarning, match="nile is not held out for seen, which was pretrained on nile"):
        table = evaluate(models, [task()], tmp_path).table()
    assert dict(zip(table["model"], table["domain"], strict=True)) == {
        **{"seen": "in domain", "unseen": "held out", "unknown": "unknown"}
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluate({"unseen": unseen}, [task("sunspots")], tmp_path)


def test_a_model_pretrained_on_lotsa_has_seen_the_train_parts_of_monash_sets():
    published = Naive()
    published.pretraining = pretraining_of("Salesforce/moirai-1.1-R-small")
    for data in ("monash_m4_hourly", "gift_eval/m4_hourly/short"):
        assert domain_of(published, data) == ("in domain", "lotsa/m4_hourly (train part)")
    assert domain_of(published, "ETTh1") == ("held out", "")


def test_a_classical_model_takes_the_season_of_the_task_unless_it_has_its_own():
    assert open_model(SeasonalNaive(), task()).season == SEASON
    assert open_model(SeasonalNaive(season=9), task()).season == 9
    model = SeasonalNaive()
    assert (open_model(model, task()).season, model.season) == (SEASON, None)


def test_monash_takes_the_mean_over_series_and_the_others_over_values(tmp_path):
    uneven = SeriesList([Series(str(i), "2020-01-01", "D", y) for i, y in enumerate(([0.0, *range(4)], [0.0] * 5))])
    uneven.items[1].target[0, 2:] = np.nan  # one label of the second series
    found = {}
    for benchmark in ("monash", "gift_eval"):
        windows = LastWindows(uneven, 4)
        one = Task(benchmark, "nile", 4, 1, 1, open=lambda windows=windows: windows)
        table = evaluate({"naive": "naive"}, [one], tmp_path).table()
        chosen = table[(table["benchmark"] == benchmark) & (table["slice"] == "all")].set_index("metric")["value"]
        found[benchmark] = chosen["mae"]
    assert found == {"monash": pytest.approx(1.5 / 2), "gift_eval": pytest.approx(6 / 5)}


def test_windows_of_a_finished_task_can_be_read_for_a_test_in_pairs(tmp_path):
    models = {"naive": Naive(), "drift": Drift()}
    results = evaluate(models, [task()], tmp_path)
    mase = {}
    for name in models:
        sums, item, shift = results.windows(name, 0, task())
        assert len(item) == len(shift) == 20
        mase[name] = metrics.metrics_of(sums, by_window=True)["mase"]
    outcome = paired_test(mase["naive"], mase["drift"])
    assert outcome.a_better == pytest.approx(np.mean(mase["naive"] < mase["drift"]))


@pytest.fixture
def table():
    """Scores of three models on four tasks and two seeds; model b is twice as bad as the reference throughout."""
    rows = []
    for number, data in enumerate("wxyz"):
        for seed in (0, 1):
            for model, score in {"seasonal_naive": number + 1.0, "a": 0.5 + seed, "b": 2 * (number + 1.0)}.items():
                rows.append(["", model, "gift_eval", data, 8, seed, "held out", "all", 1, "mase", score])
    return pd.DataFrame(
        rows,
        columns=[
            *("run", "model", "benchmark", "data", "horizon", "seed", "domain", "slice", "windows", "metric", "value")
        ],
    )


def test_relative_scores_are_shares_of_the_reference_and_seeds_are_averaged(table):
    assert scores_of(table, "mase")["a"].tolist() == [1] * 4
    ratios = relative_scores(table, "mase")
    assert ratios["a"].tolist() == pytest.approx([1, 1 / 2, 1 / 3, 1 / 4])
    assert ratios["b"].tolist() == [2] * 4


def test_the_summary_has_geometric_means_ranks_and_intervals_that_hold_them(table):
    summary = summarise(table, "mase")
    assert list(summary.index) == ["a", "seasonal_naive", "b"]
    assert summary["relative mase"]["a"] == pytest.approx(gmean([1, 1 / 2, 1 / 3, 1 / 4]))
    assert summary["rank"].tolist() == [pytest.approx((1.5 + 1 + 1 + 1) / 4), pytest.approx((1.5 + 2 * 3) / 4), 3]
    assert summary["won"].tolist() == [0.75, 0, 0]
    assert (summary["low"] <= summary["relative mase"]).all()
    assert (summary["relative mase"] <= summary["high"]).all()
    assert summary.loc["b", ["low", "high"]].tolist() == pytest.approx([2, 2])


def test_a_task_without_every_models_score_is_left_out(table):
    short = table[~((table["model"] == "a") & (table["data"] == "w"))]
    assert len(relative_scores(short, "mase")) == 3
    with pytest.raises(ValueError, match="reference must be one of"):
        relative_scores(table, "mase", "nobody")
    with pytest.raises(ValueError, match=r"metric must be one of \['mase'\], got 'wql'"):
        scores_of(table, "wql")


def test_a_test_in_pairs_finds_a_constant_advantage_and_no_difference_of_a_model_with_itself():
    rng = np.random.default_rng(0)
    b = rng.lognormal(size=40)
    better = paired_test(0.8 * b * rng.lognormal(sigma=0.05, size=40), b)
    assert better.ratio == pytest.approx(0.8, rel=0.03)
    assert better.low < better.ratio < better.high < 1
    assert better.p < 1e-6
    same = paired_test(b, b)
    assert (same.ratio, same.a_better, same.p) == (1, 0, 1)


def test_the_interval_of_a_test_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(1)
    inside = 0
    for trial in range(100):
        outcome = paired_test(rng.lognormal(size=60), np.ones(60), resamples=300, seed=trial)
        inside += outcome.low <= 1 <= outcome.high
    assert 87 <= inside <= 100  # of 95, three standard deviations of a share of 100


def test_cases_that_cannot_be_compared_are_left_out():
    assert paired_test([1.0, np.nan, 0.0, 2.0], [2.0, 1.0, 1.0, 4.0]).n == 2
    with pytest.raises(ValueError, match="no case"):
        paired_test([np.nan], [1.0])
    with pytest.raises(ValueError, match="same cases"):
        paired_test([1.0], [1.0, 2.0])


def test_the_built_in_sets_are_evaluated_offline(tmp_path):
    results = evaluate({"seasonal_naive": "seasonal_naive"}, monash_tasks(["co2", "nile"]), tmp_path)
    assert results.counts()["status"].tolist() == ["finished"] * 2
    assert results.counts()["missing"].tolist() == [0, 0]
