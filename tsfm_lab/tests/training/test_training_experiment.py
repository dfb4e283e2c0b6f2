"""Models by name, their presets, and one child directory each."""

from dataclasses import fields, replace

import pytest
import torch

from tsfm_lab import paths
from tsfm_lab.models import MoiraiHybridModule, MoiraiModule
from tsfm_lab.runs import RunDirectory, resolve_config
from tsfm_lab.runs.config import hashed_fields
from tsfm_lab.training import MoiraiHybridPretrain, MoiraiPretrain, MoiraiPretrainModule
from tsfm_lab.training.experiment import data_checksums, make_mixture, make_stream, train
from tsfm_lab.training.presets import PRESETS
from tsfm_lab.training.presets.pretrain_stu import ABLATION, PRETRAIN_STU
from tsfm_lab.training.specs import make_pretraining, parse_spec

TINY = replace(
    PRETRAIN_STU["smoke"],
    data=("synthetic",),
    synthetic_series=3,
    synthetic_length=64,
    num_layers=2,
    patch_sizes=(8, 16),
    max_seq_len=32,
    batch_rows=2,
    max_steps=2,
    device="cpu",
)


def test_a_spec_names_a_model_and_its_options():
    assert parse_spec("moirai") == ("moirai", {})
    assert parse_spec("hybrid+num_eigh=8") == ("moirai_hybrid", {"num_eigh": 8})
    spec = "moirai_hybrid+num_eigh=8+causal=false+layer_pattern=stu"
    assert parse_spec(spec) == ("moirai_hybrid", {"num_eigh": 8, "causal": False, "layer_pattern": "stu"})


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("moiray", "must be one of moirai, moirai_hybrid"),
        ("moirai_hybrid+causal", "option=value"),
        ("moirai+num_eigh=8", "num_eigh"),
    ],
)
def test_a_spec_that_cannot_be_built_is_refused(spec, message):
    with pytest.raises(ValueError, match=message):
        make_pretraining(spec, TINY, seed=0)


def test_baseline_and_hybrid_are_what_their_names_say_with_equal_shared_sizes():
    baseline, hybrid = make_pretraining("moirai", TINY, seed=0), make_pretraining("moirai_hybrid", TINY, seed=0)
    assert type(baseline) is MoiraiPretrain is MoiraiPretrainModule
    assert isinstance(baseline.module, MoiraiModule)
    assert type(hybrid) is MoiraiHybridPretrain
    assert isinstance(hybrid.module, MoiraiHybridModule)
    assert hybrid.module.encoder.layer_pattern == ("stu", "attention")
    assert hybrid.module.encoder.layers[0].stu.seq_len == TINY.max_seq_len


def test_equal_seeds_make_equal_weights():
    first, second, other = (make_pretraining("moirai", TINY, seed=seed).module for seed in (1, 1, 2))
    assert torch.equal(first.mask_encoding.weight, second.mask_encoding.weight)
    assert not torch.equal(first.mask_encoding.weight, other.mask_encoding.weight)


def test_every_variant_of_the_grid_can_be_built_and_matched_ones_have_the_baselines_parameters():
    counts = {
        spec: sum(p.numel() for p in make_pretraining(spec, TINY, seed=0).module.parameters()) for spec in ABLATION
    }
    assert counts["moirai_hybrid+match_parameters=true"] == pytest.approx(counts["moirai"], rel=1e-3)
    assert counts["moirai_hybrid"] < counts["moirai"] < counts["moirai_hybrid+use_approx=false"]


@pytest.mark.parametrize(
    ("options", "warmup_steps"), [({}, 10), ({"warmup_steps": 50, "max_steps": 200}, 25), ({"warmup_fraction": 0.0}, 0)]
)
def test_a_shorter_run_has_the_same_share_of_warm_up(options, warmup_steps):
    assert make_pretraining("moirai", replace(TINY, **options), seed=0, max_steps=100).warmup_steps == warmup_steps


def test_training_leaves_a_child_directory_that_says_what_it_is(tmp_path):
    run = RunDirectory(tmp_path, hashed_fields(TINY))
    model = train("moirai", TINY, run, make_mixture(TINY), seed=1, log_lines=0)
    child = RunDirectory(tmp_path / "moirai-s1", {**hashed_fields(TINY), **_child(model)})
    assert child.finished
    assert child.manifest()["seed"] == 1


def _child(model):
    return {"model": "moirai", "seed": 1, "max_steps": 2, "parameters": sum(p.numel() for p in model.parameters())}


def test_models_see_the_same_batches_under_one_seed_and_others_under_another():
    mixture = make_mixture(TINY)
    first, second, other = (make_stream(TINY, mixture, seed).batch(1)["target"] for seed in (0, 0, 1))
    assert torch.equal(first, second)
    assert first.shape != other.shape or not torch.equal(first, other)


def test_the_manifest_gets_the_checksums_that_the_registry_knows():
    checksums = data_checksums(replace(TINY, held_out=("co2", "weather")))
    assert set(checksums) == {"weather.zip"}
    assert len(checksums["weather.zip"]) == 64


def test_the_full_preset_is_the_published_setting():
    full = PRETRAIN_STU["full"]
    assert (full.d_model, full.num_layers, full.max_seq_len, full.batch_rows) == (384, 6, 512, 128)
    assert full.patch_sizes == (8, 16, 32, 64, 128)
    assert (full.max_steps, full.steps_per_epoch, full.warmup_steps) == (10_000, 100, 10_000)
    assert (full.lr, full.weight_decay, full.gradient_clip, full.precision) == (1e-3, 0.1, 1.0, "fp32")
    assert full.data == ("lotsa_v1_unweighted",)


def test_the_notebook_offers_every_field_of_its_preset_in_lines_that_papermill_can_read():
    script = (paths.NOTEBOOKS / "04_pretrain_stu.py").read_text()
    cell = script.partition('tags=["parameters"]\n')[2].partition("\n# %%")[0]
    lines = [line for line in cell.splitlines() if line and not line.startswith("#")]
    assert {line.partition(" = ")[0].lower() for line in lines} == {field.name for field in fields(TINY)}
    assert all(line.count("=") == 1 for line in lines)  # a second one, in the comment, confuses papermill


def test_what_the_machine_decides_does_not_change_the_name_of_a_run():
    smoke = PRETRAIN_STU["smoke"]
    moved = replace(smoke, micro_rows=2, num_workers=3, device="cpu", checkpoint_minutes=1.0, tensorboard=True)
    assert hashed_fields(moved) == hashed_fields(smoke)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"MAX_STEPS": 0}, "max_steps must be at least 1"),
        ({"MODELS": []}, "models must name at least one"),
        ({"MICRO_ROWS": 99}, "micro_rows must be between 1 and batch_rows"),
        ({"WARMUP_STEPS": 200}, "warmup_steps must be between 0 and max_steps=150"),
        ({"WARMUP_FRACTION": 1.5}, "between 0 and 1"),
        ({"MAXSTEPS": 5}, "did you mean MAX_STEPS"),
    ],
)
def test_a_parameter_that_cannot_be_meant_is_refused(parameters, message):
    with pytest.raises(ValueError, match=message):
        resolve_config(PRESETS["04_pretrain_stu"], parameters)
