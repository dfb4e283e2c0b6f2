"""What goes wrong in a run is named, and costs no earlier checkpoint."""

import errno

import pytest
import torch

from tsfm_lab.runs import RunDirectory
from tsfm_lab.tests.training import tiny_run
from tsfm_lab.training import checkpoints
from tsfm_lab.training.checkpoints import latest_checkpoint
from tsfm_lab.training.pretrain import NonFiniteLoss
from tsfm_lab.training.trainer import TrainerOptions, fit


def start(folder, model, stream, max_steps=6, **options):
    options = {"device": "cpu", "checkpoint_steps": 2, "log_lines": 0, **options}
    fit(model, stream, RunDirectory(folder, {}), TrainerOptions(max_steps=max_steps, **options))


def poisoned_stream(row, step):
    """The stream, with values in one row of one step that no float32 likelihood survives."""
    stream = tiny_run.stream()
    healthy = stream.rows

    def rows(first_step, num_steps, rank=0, world_size=1):
        batch = healthy(first_step, num_steps, rank, world_size)
        if first_step <= step < first_step + num_steps:
            batch["target"][(step - first_step) * stream.batch_rows + row] = torch.nan
        return batch

    stream.rows = rows
    return stream


@pytest.mark.parametrize("micro_rows", [None, 3])
def test_a_loss_that_is_not_finite_stops_the_run_and_saves_and_names_the_batch(tmp_path, micro_rows):
    model = tiny_run.pretraining(6, micro_rows=micro_rows)
    with pytest.raises(NonFiniteLoss, match=r"loss nan.* at step 3 .*rows \[3\].*nonfinite-step3-rank0\.pt") as caught:
        start(tmp_path, model, poisoned_stream(row=3, step=3))
    assert caught.value.rows == [3]
    saved = torch.load(tmp_path / "nonfinite-step3-rank0.pt", weights_only=True)
    assert torch.isnan(saved["target"][3]).all()
    assert len(saved["target"]) == tiny_run.ROWS
    assert all(torch.isfinite(p).all() for p in model.module.parameters())
    assert latest_checkpoint(tmp_path / "checkpoints")[1] == 2
    assert RunDirectory(tmp_path, {}).manifest()["attempts"][-1]["status"] == "failed"


def fill_disk(monkeypatch, at):
    """From the save number `at` on, the disk takes the first bytes of a checkpoint and no more."""
    saves, healthy = [], torch.save

    def save(value, file):
        saves.append(1)
        if len(saves) in at:
            file.write(b"half a checkpoint")
            raise OSError(errno.ENOSPC, "No space left on device")
        healthy(value, file)

    monkeypatch.setattr(checkpoints.torch, "save", save)


def test_a_full_disk_costs_one_checkpoint_and_neither_the_earlier_ones_nor_the_run(tmp_path, monkeypatch, caplog):
    fill_disk(monkeypatch, at={2})
    start(tmp_path, tiny_run.pretraining(6), tiny_run.stream())
    assert "No space left" in caplog.text
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == [
        "step-0000002.ckpt",
        "step-0000006.ckpt",
    ]


def test_a_disk_that_is_full_at_the_end_fails_the_run_and_leaves_the_last_good_checkpoint(tmp_path, monkeypatch):
    fill_disk(monkeypatch, at={3, 4})
    with pytest.raises(OSError, match=r"step-0000006\.ckpt could not be written"):
        start(tmp_path, tiny_run.pretraining(6), tiny_run.stream())
    assert latest_checkpoint(tmp_path / "checkpoints")[1] == 4
    monkeypatch.undo()
    start(tmp_path, tiny_run.pretraining(6), tiny_run.stream())
    assert RunDirectory(tmp_path, {}).finished


def test_out_of_memory_names_the_field_to_lower(tmp_path, monkeypatch):
    model = tiny_run.pretraining(6)

    def exhaust(**_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(model.module, "forward_predicted", exhaust)
    with pytest.raises(torch.OutOfMemoryError, match="lower micro_rows"):
        start(tmp_path, model, tiny_run.stream())


def test_bad_intervals_are_refused(tmp_path):
    with pytest.raises(ValueError, match="must be positive, got 0"):
        start(tmp_path, tiny_run.pretraining(6), tiny_run.stream(), checkpoint_steps=0)
