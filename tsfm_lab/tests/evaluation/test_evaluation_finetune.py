"""`finetune` as a user calls it: before and after on the same windows, search, saving, refusals, bad input."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

import tsfm_lab
from tsfm_lab.data import Series, SeriesList
from tsfm_lab.evaluation import LEARNING_RATES, FineTuned, finetune
from tsfm_lab.evaluation.evaluate import evaluate_task
from tsfm_lab.evaluation.task import LastWindows, Task
from tsfm_lab.forecast import MoiraiForecast, TimerForecast, make_forecaster
from tsfm_lab.models import TimerXL
from tsfm_lab.tests.training.test_training_adaptors import FAMILY, make

H = 8
SHORT = {"max_steps": 8, "val_every": 4, "batch_size": 2, "val_windows": 2, "test_windows": 2, "device": "cpu"}


def frame(length=160, columns=("a", "b")):
    """Two noisy waves, a wide table."""
    rng, t = np.random.default_rng(0), np.arange(length)
    waves = {name: 5 + np.sin(t / 3 + i) + 0.1 * rng.normal(size=length) for i, name in enumerate(columns)}
    return pd.DataFrame({"date": pd.date_range("2020-01-01", periods=length), **waves})


def forecaster(kind="moirai", **options):
    more = {"num_samples": 20} if kind in FAMILY else {}
    return make_forecaster(make(kind), context_length=32, **more, **options)


def state(model):
    return {name: value.clone() for name, value in model.module.state_dict().items()}


@pytest.fixture(scope="module")
def tuned():
    return finetune(forecaster(), frame(), H, lr=3e-3, **SHORT)


def test_before_and_after_are_the_scores_of_the_same_windows(tuned):
    collection = tsfm_lab.data.load(frame())
    windows = LastWindows(collection, H, 2)
    task = Task("finetune", "frame", H, 7, 1, lambda: windows)
    for column, model in (("before", forecaster()), ("after", tuned.forecaster)):
        sums = evaluate_task(model, task).sums
        assert tuned.scores.loc[("test", "mase"), column] == pytest.approx(sums["scaled"].sum() / (4 * H))
        by_window = tuned.windows[f"mase {column}"]
        assert by_window.tolist() == pytest.approx((sums["scaled"] / H).tolist())
    assert tuned.windows[["item_id", "window"]].to_numpy().tolist() == [["a", 1], ["a", 2], ["b", 1], ["b", 2]]
    row = tuned.scores.loc[("test", "wql")]
    assert row["change"] == pytest.approx(row["after"] / row["before"] - 1)


def test_a_little_training_helps_an_untrained_model_and_leaves_the_given_one_alone():
    base = forecaster("timer_xl")
    before = state(base)
    found = finetune(base, frame(), H, lr=1e-2, **{**SHORT, "max_steps": 40})
    assert found.improved
    assert found.worse() == []
    assert found.scores["change"].max() < -0.2
    assert all(torch.equal(value, base.module.state_dict()[name]) for name, value in before.items())
    assert base.prediction_length is None
    assert found.forecaster.forecast(frame())["mean"].notna().all()


def test_the_history_has_the_base_model_s_validation_loss_at_step_0(tuned):
    assert tuned.history["step"].tolist() == list(range(9))
    assert tuned.history["val_loss"].notna().tolist() == [True, *[False] * 3, True, *[False] * 3, True]
    assert tuned.searched == {3e-3: tuned.history["val_loss"].min()}


def test_a_search_takes_the_learning_rate_of_the_lowest_validation_loss():
    found = finetune(forecaster("linear"), frame(), H, lr=[1e-5, 3e-2, 1e-3], **SHORT)
    assert found.lr == min(found.searched, key=found.searched.get) == 3e-2
    assert found.how.lr == 3e-2
    assert set(found.history["tried"]) == {1e-5, 3e-2, 1e-3}


def test_no_learning_rate_means_a_search_over_a_grid():
    found = finetune(forecaster("linear"), frame(), H, lr=None, **{**SHORT, "max_steps": 1})
    assert tuple(found.searched) == LEARNING_RATES


def test_a_rate_that_breaks_the_training_is_given_up_with_a_warning():
    with pytest.warns(UserWarning, match=r"lr 1e\+30 was given up"):
        found = finetune(forecaster("linear"), frame(), H, lr=[1e30, 1e-3], **SHORT)
    assert found.searched[1e30] == float("inf")
    assert found.lr == 1e-3


def test_one_rate_that_breaks_the_training_is_an_error():
    with pytest.raises(ArithmeticError):
        finetune(forecaster("linear"), frame(), H, lr=1e30, **SHORT)


def test_equal_seeds_give_equal_results(tuned):
    again = finetune(forecaster(), frame(), H, lr=3e-3, **SHORT)
    pd.testing.assert_frame_equal(tuned.scores, again.scores)
    pd.testing.assert_frame_equal(tuned.history, again.history)


def test_the_runs_in_a_folder_are_opened_again(tmp_path, tuned):
    first = finetune(forecaster(), frame(), H, lr=3e-3, folder=tmp_path, **SHORT)
    (run,) = tmp_path.iterdir()
    stamp = (run / "metrics.csv").stat().st_mtime_ns
    again = finetune(forecaster(), frame(), H, lr=3e-3, folder=tmp_path, **SHORT)
    assert (run / "metrics.csv").stat().st_mtime_ns == stamp
    pd.testing.assert_frame_equal(first.scores, again.scores)
    pd.testing.assert_frame_equal(first.scores, tuned.scores)


def test_a_run_of_other_data_in_the_same_folder_is_refused(tmp_path):
    finetune(forecaster("linear"), frame(), H, folder=tmp_path, **SHORT)
    with pytest.raises(ValueError, match="another configuration"):
        finetune(forecaster("linear"), frame().assign(a=1.0), H, folder=tmp_path, **SHORT)


@pytest.mark.parametrize("kind", ["moirai", "moirai2", "timer_xl"])
def test_several_variates_are_fine_tuned_together_where_the_forecaster_is_built_so(kind):
    series = tsfm_lab.data.load(frame(), multivariate=True)
    found = finetune(forecaster(kind, target_dim=2), series, H, lr=1e-2, **SHORT)
    assert found.history["val_loss"].iloc[-1] < found.history["val_loss"].iloc[0]
    assert found.windows["window"].tolist() == [1, 1, 2, 2]


def test_past_covariates_are_read_where_the_forecaster_is_built_so():
    series = tsfm_lab.data.load(frame(), past=["b"])
    found = finetune(forecaster(past_feat_dynamic_real_dim=1), series, H, lr=3e-3, **SHORT)
    assert np.isfinite(found.scores["after"]).all()


# saving


def with_changes(tuned, test, validation=0.0):
    scores = tuned.scores.copy()
    for part, change in (("test", test), ("validation", validation)):
        scores.loc[(part, "wql"), ["after", "change"]] = (scores.loc[(part, "wql"), "before"] * (1 + change), change)
    return replace(tuned, scores=scores)


@pytest.mark.parametrize(("test", "validation", "part"), [(0.2, 0.0, "test"), (-0.2, 0.1, "validation")])
def test_a_model_that_became_worse_is_not_saved_unless_asked(tmp_path, tuned, test, validation, part):
    found = with_changes(tuned, test, validation)
    before, after = found.scores.loc[(part, "wql"), ["before", "after"]]
    with pytest.raises(ValueError, match="force=True") as raised:
        found.save(tmp_path / "model")
    assert f"on the {part} windows {before:.4g} before, {after:.4g} after" in str(raised.value)
    assert not (tmp_path / "model").exists()
    assert not found.improved
    found.save(tmp_path / "model", force=True)
    assert tsfm_lab.load(tmp_path / "model").module


@pytest.mark.parametrize(("before", "after"), [(0.0, 0.1), (0.1, np.nan)])
def test_a_change_that_is_no_number_does_not_hide_that_a_model_became_worse(tuned, before, after):
    scores = with_changes(tuned, 0.0).scores
    scores.loc[("test", "wql"), ["before", "after", "change"]] = (before, after, np.nan)
    assert replace(tuned, scores=scores).worse() == ["test"]


def test_a_model_that_did_not_change_may_be_saved_but_has_not_improved(tmp_path, tuned):
    found = with_changes(tuned, 0.0)
    assert not found.improved
    assert found.save(tmp_path / "model").is_dir()


def test_a_saved_model_opens_with_the_same_weights_and_forecasts(tmp_path, tuned):
    good = with_changes(tuned, -0.1)
    assert good.improved
    again = tsfm_lab.load(good.save(tmp_path / "tuned"), context_length=32, num_samples=20, device="cpu")
    assert isinstance(again, MoiraiForecast)
    pd.testing.assert_frame_equal(again.forecast(frame(), H), good.forecaster.forecast(frame(), H))
    record = json.loads((tmp_path / "tuned" / "config.json").read_text())
    assert (record["fine_tuned_on"], record["lr"], record["mode"]) == ("frame", 3e-3, "full")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_model_that_lies_there_is_never_overwritten(tmp_path, tuned, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(FileExistsError, match="has a model already"):
        with_changes(tuned, 0.2).save(tmp_path, force=True)
    assert (tmp_path / name).read_text() == "mine"


def test_a_saved_model_is_in_domain_where_it_was_fine_tuned(tmp_path):
    base = forecaster("linear")
    base.pretraining = ("elnino",)
    found = finetune(base, "nile", 4, **SHORT)
    assert found.forecaster.pretraining == ("elnino", "nile")
    assert tsfm_lab.load(found.save(tmp_path / "tuned", force=True)).pretraining == ("elnino", "nile")


@pytest.mark.parametrize("pretraining", [None, ("elnino",)])
def test_of_what_a_model_saw_nothing_is_said_where_it_is_not_known(pretraining):
    base = forecaster("linear")
    base.pretraining = pretraining
    assert finetune(base, frame(), H, **SHORT).forecaster.pretraining is None


def test_data_of_the_pretraining_are_warned_of():
    base = forecaster("linear")
    base.pretraining = ("elnino",)
    with pytest.warns(UserWarning, match="pretrained on elnino"):
        finetune(base, "elnino", 4, **SHORT)


# bad input


def test_series_that_are_too_short_are_left_out_and_counted():
    short = Series("short", "2020-01-01", "D", np.arange(20.0))
    series = SeriesList([*tsfm_lab.data.load(frame()), short], name="three")
    assert finetune(forecaster("linear"), series, H, **SHORT).skipped == {"too short": 1}


def test_a_horizon_too_long_is_refused_with_what_is_needed():
    with pytest.raises(ValueError, match="the longest has 160; take fewer windows or a shorter prediction_length"):
        finetune(forecaster(), frame(), 60, **SHORT)


def test_series_without_a_value_are_refused():
    series = SeriesList([Series("empty", "2020-01-01", "D", np.full(160, np.nan))], name="empty")
    with pytest.raises(ValueError, match="nothing observed: 1"):
        finetune(forecaster(), series, H, **SHORT)


def test_infinite_values_are_refused():
    series = SeriesList([Series("a", "2020-01-01", "D", np.where(np.arange(160) == 150, np.inf, 1.0))], name="a")
    with pytest.raises(ValueError, match="infinite values"):
        finetune(forecaster(), series, H, **SHORT)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "some"}, "mode must be one of full, head, low_rank, got 'some'"),
        ({"lr": 0}, "lr must be positive, got 0"),
        ({"lr": [1e-3, -1.0]}, "lr must be positive, got -1.0"),
        ({"lr": []}, "lr must be a rate, several of them, or None"),
        ({"rank": 0}, "rank must be at least 1"),
        ({"test_windows": 0}, "test_windows must be at least 1"),
        ({"val_windows": 0}, "val_windows must be at least 1"),
    ],
)
def test_an_option_out_of_range_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        finetune(forecaster("linear"), frame(), H, **{**SHORT, **options})


@pytest.mark.parametrize(("own", "horizon"), [(None, None), (None, -3), (H, 0)])
def test_a_horizon_is_needed(own, horizon):
    with pytest.raises(ValueError, match=f"prediction_length must be at least 1 step, got {horizon}"):
        finetune(forecaster(prediction_length=own), frame(), horizon, **SHORT)


def test_the_forecaster_s_own_horizon_is_taken_where_none_is_given():
    found = finetune(forecaster("linear", prediction_length=H), frame(), **SHORT)
    assert found.forecaster.prediction_length == H


def test_a_forecaster_without_weights_is_refused():
    with pytest.raises(ValueError, match="Theta has no weights to train"):
        finetune("theta", frame(), H)


def test_covariates_known_ahead_are_refused():
    with pytest.raises(ValueError, match="no covariates known ahead"):
        finetune(forecaster(feat_dynamic_real_dim=1), frame(), H)


def test_a_model_may_be_given_as_it_is():
    torch.manual_seed(0)
    module = TimerXL(4, 4, d_model=16, n_heads=2, d_ff=16, e_layers=1)
    found = tsfm_lab.finetune(module, frame(), H, **SHORT)
    assert isinstance(found, FineTuned)
    assert isinstance(found.forecaster, TimerForecast)
