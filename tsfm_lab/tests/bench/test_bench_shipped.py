"""Bench of the checkpoints that ship: what is judged is what was trained, and what ships is what was judged."""

import argparse
import dataclasses

import numpy as np
import pytest
import torch

import tsfm_lab
from tsfm_lab import paths
from tsfm_lab.bench import shipped as bench
from tsfm_lab.runs import open_run
from tsfm_lab.training import make_mixture, train
from tsfm_lab.training.presets.pretrain_stu import PretrainStu


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two models of two seeds, trained for two steps."""
    config = PretrainStu(
        scale="smoke",
        models=("moirai", "moirai2"),
        data=("elnino",),
        num_layers=1,
        max_steps=2,
        max_seq_len=32,
        batch_rows=2,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "RUNS", tmp_path_factory.mktemp("runs"))
        run, mixture = open_run("04_pretrain_stu", config), make_mixture(config)
        for seed in config.seeds:
            for spec in config.models:
                train(spec, config, run, mixture, seed=seed, log_lines=0)
    return bench.find_trained([run.path])


def test_every_model_and_seed_of_a_run_is_found(trained):
    found = [(one.name, one.seed) for one in trained]
    assert found == [("moirai-tiny", 0), ("moirai-tiny", 1), ("moirai2-tiny", 0), ("moirai2-tiny", 1)]


def test_a_run_without_a_trained_model_is_refused_with_the_command_that_makes_one(tmp_path):
    with pytest.raises(ValueError, match=r"04_pretrain_stu\.shipped\.lab\.yaml"):
        bench.find_trained([tmp_path])


def test_a_run_named_twice_is_refused(trained):
    run = trained[0].folder.parent
    with pytest.raises(ValueError, match="in more than one of the runs"):
        bench.find_trained([run, run])


def test_a_task_that_cannot_be_scored_stops_the_averaging(trained, tmp_path, monkeypatch):
    (task,) = bench.monash_tasks(["nile"])
    broken = dataclasses.replace(task, open=lambda: [])
    monkeypatch.setattr(bench, "held_out_tasks", lambda series, windows: [broken])
    with pytest.raises(RuntimeError, match=r"(?s)seasonal_naive.* nile.*no series longer"):
        bench.judge(trained[:1], argparse.Namespace(series=None, windows=2, folder=tmp_path))


def test_the_untrained_twin_is_the_model_before_its_first_step(trained):
    one = trained[1]
    before = one.untrained().module.state_dict()
    torch.manual_seed(one.seed)
    again = bench.make_pretraining("moirai", PretrainStu(scale="smoke", num_layers=1, max_seq_len=32), seed=1).module
    assert all(torch.equal(before[key], value) for key, value in again.state_dict().items())
    assert not all(torch.equal(before[key], value) for key, value in one.open().module.state_dict().items())


def test_scores_are_the_mean_and_the_spread_over_the_seeds(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "entries", dict)  # the built-in sets alone
    monkeypatch.setattr(bench, "CONTEXT", 64)
    rows = bench.judge(trained, argparse.Namespace(series=None, windows=2, folder=tmp_path))
    assert [row["set"] for row in rows] == ["co2", "nile"]
    by_hand = []
    for one in trained[:2]:
        (task,) = bench.monash_tasks(["nile"])
        window = task.open()[0]
        median = one.open().forecast(window.history.target[0], task.horizon, seed=one.seed).quantiles[0, 4]
        scale = np.abs(np.diff(window.history.target[0])).mean()
        by_hand.append(np.abs(window.label[0] - median).mean() / scale)
    assert rows[1]["moirai-tiny"] == pytest.approx(np.mean(by_hand), abs=1e-4)
    assert rows[1]["moirai-tiny sd"] == pytest.approx(np.std(by_hand), abs=1e-4)
    summary = bench.summarise(rows)
    assert [row["model"] for row in summary] == ["moirai-tiny", "moirai2-tiny"]
    assert all(0 <= row["better than untrained"] <= 2 for row in summary)


def test_what_ships_is_the_first_seed_in_bfloat16_and_says_what_it_was_trained_on(trained, tmp_path, monkeypatch):
    monkeypatch.setattr("tsfm_lab.forecast.opening.SHIPPED", tmp_path)
    (row, _) = bench.ship(trained, tmp_path)
    forecaster = tsfm_lab.load("moirai-tiny", context_length=64)
    assert (row["name"], row["seed"], forecaster.pretraining) == ("moirai-tiny", 0, ("elnino",))
    weights, expected = forecaster.module.state_dict(), trained[0].open().module.state_dict()
    assert all(value.dtype == torch.float32 for value in weights.values())
    assert all(torch.equal(weights[key], value.bfloat16().float()) for key, value in expected.items())
    assert row["MB"] == pytest.approx(2e-6 * row["parameters"], rel=0.2, abs=0.01)
