"""What a run computes and leaves behind."""

import csv
import logging
import warnings

import pytest
import torch

from tsfm_lab.models.moirai_hybrid import MoiraiHybridModule
from tsfm_lab.nn.packing import plan_segments
from tsfm_lab.runs import RunDirectory
from tsfm_lab.tests.training import tiny_run
from tsfm_lab.training.losses import PackedNLLLoss
from tsfm_lab.training.pretrain import MoiraiHybridPretrain
from tsfm_lab.training.recorder import Validation
from tsfm_lab.training.trainer import TrainerOptions, fit


def start(folder, max_steps=6, stream=None, validation=None, pretraining=None, **options):
    """Train; returns the rows of metrics.csv."""
    options = {"device": "cpu", "log_lines": 0, **options}
    model = tiny_run.pretraining(max_steps, **(pretraining or {}))
    run = RunDirectory(folder, {})
    fit(model, stream or tiny_run.stream(), run, TrainerOptions(max_steps=max_steps, **options), validation=validation)
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def numbers(rows, name):
    return torch.tensor([float(row[name]) for row in rows])


def test_the_first_logged_loss_is_the_packed_nll_of_the_streams_first_batch(tmp_path):
    (first, *_) = start(tmp_path, max_steps=2)
    batch, module = tiny_run.stream().batch(0), tiny_run.pretraining(2).module
    with torch.no_grad():
        expected = PackedNLLLoss()(module(**batch), batch)  # every value's law, not the predicted ones' alone
    # the two read the head by different products
    assert float(first["loss"]) == pytest.approx(float(expected), rel=1e-5)
    assert int(first["tokens"]) == int((batch["sample_id"] > 0).sum())


def test_the_learning_rate_of_a_row_is_that_of_its_step(tmp_path):
    rows = start(tmp_path, max_steps=4)
    torch.testing.assert_close(numbers(rows, "lr"), 3e-4 * torch.tensor([0, 0.5, 1, 0.5]))


def test_fewer_rows_a_forward_pass_make_the_same_steps(tmp_path):
    whole = start(tmp_path / "whole")
    parts = start(tmp_path / "parts", pretraining={"micro_rows": 3})
    # float32 sums in another order; see the test of two ranks
    torch.testing.assert_close(numbers(parts, "loss"), numbers(whole, "loss"), rtol=5e-6, atol=0)
    torch.testing.assert_close(numbers(parts, "grad_norm")[:2], numbers(whole, "grad_norm")[:2], rtol=1e-5, atol=0)


def test_a_plan_made_by_the_loader_is_used_as_it_is(tmp_path):
    stream, model = tiny_run.stream(), tiny_run.pretraining(1)
    batch = stream.batch(0)
    plan = plan_segments(batch["sample_id"], batch["variate_id"], "variate")
    (piece,), _ = model.on_before_batch_transfer({**batch, "segments": plan}, 0)
    assert piece["segments"] is plan
    assert {"segments", "blocks"} <= piece.keys()


def test_scores_stand_in_the_rows_of_their_steps_and_leave_the_module_in_training(tmp_path):
    modes = []

    def score(module):
        modes.append(module.training)
        return {"mase": len(modes)}

    rows = start(tmp_path, max_steps=5, validation=Validation(score, ("mase",), every=2))
    assert {row["step"]: row["val_mase"] for row in rows if row["val_mase"]} == {
        "0": "1.0",
        "2": "2.0",
        "4": "3.0",
        "5": "4.0",
    }
    assert modes == [False] * 4
    assert rows[0]["loss"] == ""


def test_a_model_that_forecasts_between_its_steps_trains_on(tmp_path):
    def score(module):
        batch = tiny_run.stream().batch(0)
        with torch.inference_mode():
            module.forward_predicted(**batch)
        return {"x": 0.0}

    for options in ({"use_approx": False}, {"use_approx": True, "causal": False}):
        sizes = {"d_model": 64, "num_layers": 2, "patch_sizes": tiny_run.PATCH_SIZES, "max_seq_len": tiny_run.TOKENS}
        model = MoiraiHybridPretrain(
            MoiraiHybridModule.from_preset("small", **sizes, **options), max_steps=2, warmup_steps=1
        )
        run = RunDirectory(tmp_path / str(options["use_approx"]), {})
        every_step = Validation(score, ("x",), every=1)
        fit(
            model, tiny_run.stream(), run, TrainerOptions(max_steps=2, device="cpu", log_lines=0), validation=every_step
        )
        assert run.finished


def test_validation_takes_no_training_time(tmp_path):
    rows = start(tmp_path, validation=Validation(lambda module: {"x": sum(range(3_000_000))}, ("x",), every=1))
    plain = start(tmp_path / "plain")
    assert float(rows[-1]["time_s"]) == pytest.approx(sum(1 / numbers(rows[1:], "steps_per_s")).item(), rel=0.01)
    assert rows[-1].keys() - plain[-1].keys() == {"val_x"}


def test_checkpoints_come_by_time_too(tmp_path):
    start(tmp_path, max_steps=3, checkpoint_minutes=1e-9)
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"step-0000002.ckpt", "step-0000003.ckpt"}


def test_the_trained_model_is_saved_and_opens_again(tmp_path):
    start(tmp_path)
    assert isinstance(MoiraiHybridModule.from_pretrained(tmp_path / "model"), MoiraiHybridModule)


def test_a_stored_notebook_gets_so_many_lines_and_nothing_of_lightning(tmp_path, capfd, caplog):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        start(tmp_path, max_steps=9, log_lines=3)
    out, err = capfd.readouterr()
    assert [line.split(":")[0] for line in out.splitlines()] == ["step 3/9", "step 6/9", "step 9/9"]
    assert err == ""
    assert not [warning for warning in caught if "lightning" in str(warning.filename)]
    assert not [record for record in caplog.records if record.name.startswith("lightning")]
    assert logging.getLogger("lightning.pytorch").level != logging.WARNING


def test_tensorboard_has_the_losses_of_metrics_csv(tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="needs tensorboard")
    rows = start(tmp_path, tensorboard=True)
    log = events.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    torch.testing.assert_close(torch.tensor([event.value for event in log.Scalars("loss")]), numbers(rows, "loss"))


def test_the_encoder_can_be_compiled(tmp_path, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **options: compiled.append((self, options)))
    start(tmp_path, max_steps=2, compile=True)
    ((encoder, options),) = compiled
    assert type(encoder).__name__ == "HybridTransformerSTUEncoder"
    assert options == {"dynamic": True}


def test_bf16_trains_close_to_fp32(tmp_path):
    fp32, bf16 = start(tmp_path / "fp32"), start(tmp_path / "bf16", precision="bf16")
    assert fp32[0]["loss"] != bf16[0]["loss"]
    # bf16 keeps 8 bits of each activation
    torch.testing.assert_close(numbers(bf16, "loss"), numbers(fp32, "loss"), rtol=0.05, atol=0)


def test_tf32_is_set_for_the_run_only(tmp_path):
    seen, before = [], torch.get_float32_matmul_precision()

    def score(module):
        seen.append(torch.get_float32_matmul_precision())
        return {"x": 0.0}

    start(tmp_path, max_steps=2, precision="tf32", validation=Validation(score, ("x",), every=1))
    assert set(seen) == {"high"}
    assert torch.get_float32_matmul_precision() == before
