"""MOIRAI-2 in training: the loss against one value at a time, the task, runs of both kinds."""

from dataclasses import replace

import pytest
import torch

from tsfm_lab.evaluation import read_metrics
from tsfm_lab.models import Moirai2HybridModule, Moirai2Module
from tsfm_lab.models.predicted_patches import PredictedPatches
from tsfm_lab.runs import RunDirectory
from tsfm_lab.runs.config import hashed_fields
from tsfm_lab.tests.models.make_moirai2_golden import SIZES, golden_batch
from tsfm_lab.training import Moirai2HybridPretrain, Moirai2Pretrain, PackedQuantileLoss
from tsfm_lab.training.experiment import make_mixture, make_stream, train
from tsfm_lab.training.presets.pretrain_stu import PRETRAIN_STU
from tsfm_lab.training.specs import make_pretraining

BATCH = golden_batch()
TINY = replace(
    PRETRAIN_STU["smoke"],
    data=("synthetic",),
    synthetic_series=3,
    synthetic_length=256,
    num_layers=2,
    max_seq_len=32,
    batch_rows=2,
    max_steps=3,
    device="cpu",
)


@pytest.fixture(scope="module")
def module():
    torch.manual_seed(0)
    return Moirai2Module(**SIZES).eval()


def losses_one_by_one(module, batch):
    """{(row, sample, variate): losses of every counted (token, patch ahead, place)}, by loops over a whole pass."""
    quantiles = module(**batch)
    names = ("target", "observed_mask", "sample_id", "variate_id", "prediction_mask")
    _, scale = module.standardise(*(batch[name] for name in names))
    found = {}
    for row, token in (batch["sample_id"] > 0).nonzero().tolist():
        key = (row, int(batch["sample_id"][row, token]), int(batch["variate_id"][row, token]))
        for ahead in range(4):
            later = token + 1 + ahead
            if later >= batch["sample_id"].shape[1] or not batch["prediction_mask"][row, later]:
                continue
            if (row, int(batch["sample_id"][row, later]), int(batch["variate_id"][row, later])) != key:
                continue
            for place in batch["observed_mask"][row, later].nonzero().flatten().tolist():
                y = batch["target"][row, later, place]
                errors = (y - quantiles[row, token, ahead, :, place]) / scale[row, token]
                pinball = [max(tau * e, (tau - 1) * e) for tau, e in zip(module.quantile_levels, errors, strict=True)]
                found.setdefault(key, []).append(sum(pinball) / 9)
            found.setdefault(key, [])
    return found


def test_the_loss_is_the_mean_over_series_of_the_mean_over_all_that_their_tokens_foresee(module):
    with torch.no_grad():
        by_series = losses_one_by_one(module, BATCH)
        means = [torch.stack(values).mean() for values in by_series.values()]
        loss = PackedQuantileLoss(module.quantile_levels)
        found = loss(module.forward_predicted(**BATCH), BATCH)
    assert len(means) == loss.num_series(BATCH)
    torch.testing.assert_close(found, torch.stack(means).mean(), rtol=1e-4, atol=0)  # float32 sums in another order


def test_the_loss_is_least_where_the_share_below_a_quantile_is_its_level():
    """Numbers 0 … 99 after one token: of ten candidates for the .3-quantile 30 is the best."""
    batch = {"sample_id": torch.ones(1, 2).long(), "variate_id": torch.zeros(1, 2).long()}
    batch |= {"target": torch.arange(100.0).expand(1, 2, 100), "observed_mask": torch.ones(1, 2, 100).bool()}
    batch |= {"prediction_mask": torch.tensor([[False, True]])}
    unit = torch.zeros(1, 2, 1), torch.ones(1, 2, 1)
    losses = []
    for candidate in range(0, 100, 10):
        pred = PredictedPatches(torch.full((1, 1, 1, 100), float(candidate)), torch.tensor([[1]]), *unit)
        losses.append(float(PackedQuantileLoss((0.3,))(pred, batch)))
    assert losses.index(min(losses)) == 3


def test_a_series_that_leaves_its_scale_far_behind_counts_a_hundred_scales(module):
    """A constant context has scale √1e-5, so that a step of 1 behind it is 316 of them."""
    batch = {name: value[:1, :2].clone() for name, value in BATCH.items()}
    batch["target"], batch["observed_mask"] = torch.tensor([[[5.0] * 16, [6.0] * 16]]), torch.ones(1, 2, 16).bool()
    batch |= {name: torch.tensor([[a, b]]) for name, a, b in (("sample_id", 1, 1), ("time_id", 0, 1))}
    batch |= {"variate_id": torch.zeros(1, 2).long(), "prediction_mask": torch.tensor([[False, True]])}
    with torch.no_grad():
        pred = module.forward_predicted(**batch)
        loss = PackedQuantileLoss((0.5,))
        half = replace(pred, quantiles=torch.zeros_like(pred.quantiles[:, :, :1]))
        assert float(loss(half, batch)) == pytest.approx(0.5 * 100)


def test_what_lies_behind_the_mask_of_what_was_observed_does_not_matter(module):
    poisoned = BATCH["target"].masked_fill(~BATCH["observed_mask"] & BATCH["prediction_mask"][..., None], 0.0)
    loss = PackedQuantileLoss(module.quantile_levels)
    pred = module.forward_predicted(**BATCH)
    changed = {**BATCH, "target": poisoned + 1e30 * (~BATCH["observed_mask"]).float()}
    assert loss(pred, changed) == loss(pred, BATCH)


def test_rows_whose_loss_is_not_finite_are_named(module):
    target = BATCH["target"].clone()
    target[1, BATCH["prediction_mask"][1]] = torch.nan
    loss = PackedQuantileLoss(module.quantile_levels)
    pred = module.forward_predicted(**BATCH)
    assert loss.broken_rows(pred, {**BATCH, "target": target}).tolist() == [False, True]
    assert loss.broken_rows(pred, BATCH).tolist() == [False, False]


@pytest.mark.parametrize(
    ("spec", "pretraining", "kind"),
    [
        ("moirai2", Moirai2Pretrain, Moirai2Module),
        ("moirai2_hybrid", Moirai2HybridPretrain, Moirai2HybridModule),
        ("moirai2_hybrid+layer_pattern=stu+branches=separate", Moirai2HybridPretrain, Moirai2HybridModule),
    ],
)
def test_a_run_trains_and_saves(tmp_path, spec, pretraining, kind):
    config = replace(TINY, micro_rows=1)
    model = train(spec, config, RunDirectory(tmp_path, hashed_fields(TINY)), make_mixture(config), seed=0, log_lines=0)
    assert type(model) is pretraining
    again = kind.from_pretrained(tmp_path / f"{spec}-s0" / "model")
    before = make_pretraining(spec, config, seed=0).module
    assert not torch.equal(again.out_proj.output_layer.weight, before.out_proj.output_layer.weight)


def test_the_share_of_crossed_quantiles_is_in_the_log(tmp_path):
    train("moirai2", TINY, RunDirectory(tmp_path, {}), make_mixture(TINY), seed=0, log_lines=0)
    logged = read_metrics(tmp_path)["crossings"]
    model = make_pretraining("moirai2", TINY, seed=0).module
    with torch.no_grad():
        pred = model.forward_predicted(**make_stream(TINY, make_mixture(TINY), 0, "moirai2").batch(0))
    assert logged[0] == pytest.approx(float((pred.quantiles.diff(dim=2) < 0).float().mean()), rel=1e-6)


def test_plans_of_the_step_change_nothing(tmp_path):
    """The step's own plans of micro batches against those that the module makes."""
    model = make_pretraining("moirai2_hybrid", TINY, seed=0)
    batch = make_stream(TINY, make_mixture(TINY), 0, "moirai2_hybrid").batch(0)
    assert set(batch["patch_size"].unique().tolist()) <= {0, 16}
    (piece,), _ = model.on_before_batch_transfer(batch, 0)
    with torch.no_grad():
        planned, alone = model.module.forward_predicted(**piece), model.module.forward_predicted(**batch)
    torch.testing.assert_close(planned.quantiles, alone.quantiles, rtol=0, atol=0)
    assert {"blocks", "segments"} <= piece.keys()


def test_a_matched_hybrid_has_the_plain_ones_parameters():
    specs = ("moirai2", "moirai2_hybrid", "moirai2_hybrid+match_parameters=true")
    plain, hybrid, matched = (sum(p.numel() for p in make_pretraining(s, TINY, seed=0).parameters()) for s in specs)
    assert hybrid < plain
    assert matched == pytest.approx(plain, rel=2e-3)
