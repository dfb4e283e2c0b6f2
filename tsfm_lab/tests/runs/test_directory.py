"""A run directory is found again by its configuration and loses nothing to a kill."""

from dataclasses import dataclass

import pytest

from tsfm_lab import paths
from tsfm_lab.runs import MetricsLog, RunDirectory, atomic_write, open_run


@dataclass(frozen=True)
class Config:
    scale: str = "smoke"
    seed: int = 7
    lags: tuple[int, ...] = (1, 2)


@pytest.fixture(autouse=True)
def _runs_in_a_temporary_directory(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RUNS", tmp_path)


def test_the_same_configuration_opens_the_same_directory():
    first, again, other = open_run("02", Config()), open_run("02", Config()), open_run("02", Config(seed=8))
    assert first.path == again.path != other.path
    assert first.path.parent.name == "02"
    assert first.path.name.startswith("smoke-")


def test_a_directory_of_another_configuration_is_refused(tmp_path):
    RunDirectory(tmp_path / "run", {"steps": 3})
    with pytest.raises(ValueError, match="another configuration"):
        RunDirectory(tmp_path / "run", {"steps": 4})


def test_the_manifest_records_each_attempt():
    run = open_run("02", Config())
    run.start(device="cpu", data_checksums={"co2": "abc"})
    assert not run.finished
    run.finish("preempted")
    run.start()
    run.finish()
    attempts = run.manifest()["attempts"]
    assert [attempt["status"] for attempt in attempts] == ["preempted", "finished"]
    assert run.finished
    assert run.manifest()["seed"] == 7
    assert "torch" in attempts[0]["versions"]


def test_a_child_knows_the_configuration_it_belongs_to():
    child = open_run("04", Config()).child("moirai-s0", model="moirai")
    assert child.config == {"scale": "smoke", "seed": 7, "lags": [1, 2], "model": "moirai"}


def test_metrics_are_appended_and_those_past_the_checkpoint_dropped(tmp_path):
    log = MetricsLog(tmp_path / "metrics.csv", ["loss", "val_mase"])
    for step in range(4):
        log.append(step, loss=0.1 * step)
    log.append(4, val_mase=1.0)
    log.drop_after(2)
    resumed = MetricsLog(tmp_path / "metrics.csv", ["loss", "val_mase"])
    resumed.append(3, loss=0.5)
    assert resumed.column("loss") == [0.0, 0.1, 0.2, 0.5]
    assert resumed.column("val_mase") == []


def test_a_line_that_a_kill_cut_short_is_dropped(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("step,loss\n0,1.5\n1,1.2")
    log = MetricsLog(path, ["loss"])
    log.append(1, loss=1.25)
    assert path.read_text() == "step,loss\n0,1.5\n1,1.25\n"


def test_a_file_with_other_columns_is_refused(tmp_path):
    MetricsLog(tmp_path / "metrics.csv", ["loss"])
    with pytest.raises(ValueError, match="expected"):
        MetricsLog(tmp_path / "metrics.csv", ["loss", "lr"])


def test_an_unknown_metric_is_refused(tmp_path):
    with pytest.raises(ValueError, match="unknown metric"):
        MetricsLog(tmp_path / "metrics.csv", ["loss"]).append(0, los=1.0)


def test_a_failed_write_leaves_the_earlier_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def write_half():
        with atomic_write(path) as file:
            file.write("half of the n")
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
