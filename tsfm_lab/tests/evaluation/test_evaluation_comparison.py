"""Comparison at equal steps and at equal time, from the files of a run."""

import pytest

from tsfm_lab.evaluation import at_equal_steps, at_equal_time, read_metrics, save_table, table_of_runs
from tsfm_lab.runs import RunDirectory

SECONDS = {"slow": 2.0, "fast": 1.0}  # of a step


@pytest.fixture
def run(tmp_path):
    """Ten steps of a slow and of a fast model, under one seed; the loss is 100 − step, the score twice that."""
    for model, seconds in SECONDS.items():
        child = RunDirectory(tmp_path, {}).child(f"{model}-s0", model=model, seed=0, parameters=7)
        child.start()
        log = child.metrics(["time_s", "loss", "steps_per_s", "val_wql"])
        log.append(0, val_wql=200.0)
        for step in range(1, 11):
            scores = {"val_wql": 2.0 * (100 - step)} if step % 2 == 0 else {}
            log.append(step, time_s=step * seconds, loss=100.0 - step, steps_per_s=1 / seconds, **scores)
        child.finish()
    return tmp_path


def test_at_equal_steps_all_models_have_their_last_values(run):
    table = at_equal_steps(read_metrics(run), ["loss", "val_wql"], smooth=2).set_index("model")
    assert table["step"].tolist() == [10, 10]
    assert table["loss"].tolist() == [90.5, 90.5]
    assert table["val_wql"].tolist() == [180, 180]


def test_at_equal_time_the_slow_model_has_made_half_the_steps(run):
    metrics = read_metrics(run)
    table = at_equal_time(metrics, ["loss", "val_wql"], smooth=1).set_index("model")
    assert table["step"].to_dict() == {"slow": 5, "fast": 10}
    assert table["loss"].to_dict() == {"slow": 95, "fast": 90}
    assert table["val_wql"].to_dict() == {"slow": 2 * 96, "fast": 2 * 90}


def test_equal_steps_end_where_the_shorter_run_does(run):
    metrics = read_metrics(run)
    cut = metrics[(metrics["model"] == "fast") | (metrics["step"] <= 4)]
    assert at_equal_steps(cut, ["loss"], smooth=1)["loss"].tolist() == [96, 96]


def test_the_table_of_runs_has_speed_epoch_and_attempts(run):
    table = table_of_runs(run, steps_per_epoch=100).set_index("model")
    assert table["steps_per_s"].to_dict() == {"slow": 0.5, "fast": 1.0}
    assert table["epoch_s"].to_dict() == {"slow": 200, "fast": 100}
    assert table["status"].tolist() == ["finished"] * 2
    assert table["parameters"].tolist() == [7, 7]
    assert table["steps"].tolist() == [10, 10]


def test_a_table_is_written_by_rank_0_alone(run, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    save_table(read_metrics(run), run / "table.csv")
    assert not (run / "table.csv").exists()
    monkeypatch.setenv("RANK", "0")
    save_table(read_metrics(run), run / "table.csv")
    assert (run / "table.csv").read_text().startswith("model,seed,step")


def test_a_directory_without_trained_models_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="no child"):
        read_metrics(tmp_path)
