"""Every kind of model that notebook 04's MODELS may name: trained, saved and scored at tiny sizes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tsfm_lab.evaluation import HeldOutScore, HeldOutSet, read_metrics
from tsfm_lab.models import load_model
from tsfm_lab.runs import RunDirectory
from tsfm_lab.runs.config import hashed_fields
from tsfm_lab.training import Validation, make_mixture, make_pretraining, make_stream, same_task, train
from tsfm_lab.training.presets.pretrain_stu import FAMILY, PRETRAIN_STU
from tsfm_lab.training.specs import patch_sizes_of

TINY = replace(
    PRETRAIN_STU["smoke"],
    models=FAMILY,
    data=("synthetic",),
    synthetic_series=3,
    synthetic_length=256,
    num_layers=2,
    max_seq_len=32,
    batch_rows=2,
    max_steps=2,
    device="cpu",
)


@pytest.fixture(scope="module")
def mixture():
    return make_mixture(TINY)


@pytest.fixture(scope="module")
def score():
    waves = np.sin(np.arange(200) / 5) + np.random.default_rng(0).normal(size=(3, 200))
    waves = waves.astype(np.float32)
    held_out = HeldOutSet("waves", list(waves[:, :110]), waves[:, 110:], season=1, mase_season=1)
    return HeldOutScore([held_out], context_length=64, num_samples=5)


@pytest.mark.parametrize("spec", FAMILY)
def test_it_trains_is_scored_and_opens_again(tmp_path, spec, mixture, score):
    validation = Validation(score, score.names, every=1)
    run = RunDirectory(tmp_path, hashed_fields(TINY))
    model = train(spec, TINY, run, mixture, seed=0, validation=validation, log_lines=0)
    metrics = read_metrics(tmp_path)
    assert metrics["step"].tolist() == [0, 1, 2]
    assert np.isfinite(metrics["loss"][1:]).all()
    assert np.isfinite(metrics[["val_mase", "val_wql"]]).all(axis=None)
    (child,) = tmp_path.glob("*-s0")
    again = load_model(child / "model")
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.module.state_dict().items())


def test_losses_compare_within_a_task():
    assert same_task("moirai", "hybrid+num_eigh=8")
    assert same_task("moirai2", "moirai2_hybrid")
    assert not same_task("moirai", "moirai2")
    assert not same_task("moirai", "moe")
    assert not same_task("moe", "moe+patch_sizes=[16]")  # other batches


def test_a_spec_may_have_patch_sizes_of_its_own_and_so_have_its_batches(mixture):
    spec = "moe+patch_sizes=[16]"
    assert make_pretraining(spec, TINY, seed=0).module.patch_sizes == (16,)
    assert make_stream(TINY, mixture, 0, spec).batch(0)["patch_size"].unique().tolist() == [16]
    assert patch_sizes_of("moirai2", TINY) == (16,)
    assert patch_sizes_of("moe", TINY) == TINY.patch_sizes
