"""Workers change nothing, a restarted loader goes on where it was, and Lightning resumes exactly."""

import logging
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tsfm_lab.data import Series, SeriesList
from tsfm_lab.data.mixture import Mixture, Source
from tsfm_lab.data.stream import TrainingStream
from tsfm_lab.data.transforms import pretraining_chain
from tsfm_lab.data.workers import PackedLoader

TOKENS = 32
# torch warns where a machine has fewer cores than workers
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")


def stream(**settings) -> TrainingStream:
    """Thirty good series and one that is too short, in small rows."""
    rng = np.random.default_rng(0)
    shapes = [(1 + i % 3, int(rng.integers(40, 400))) for i in range(30)] + [(1, 9)]
    series = [Series(f"s{i}", "2020-01-01", "D", rng.standard_normal(shape)) for i, shape in enumerate(shapes)]
    mixture = Mixture([Source(SeriesList(series, "toy"), sampling="uniform")])
    chain = pretraining_chain(patch_sizes=(8, 16), max_seq_len=TOKENS)
    return TrainingStream(mixture, chain, **{"seed": 1, "batch_rows": 8, "max_seq_len": TOKENS, **settings})


def equal(a, b) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a if name != "segments")


@pytest.mark.parametrize("batch_rows", [24, 256])
@pytest.mark.parametrize("num_workers", [0, 1, 3])
def test_any_number_of_workers_gives_the_batches_of_the_stream(num_workers, batch_rows):
    """24 rows do not divide the window of 128 rows; 256 are two windows."""
    first, n = 5, 12 if batch_rows < 256 else 3
    loader = PackedLoader(stream(batch_rows=batch_rows), first_step=first, num_steps=n, num_workers=num_workers)
    batches, reference = list(loader), stream(batch_rows=batch_rows)
    assert len(loader) == len(batches) == n
    assert all(equal(batch, reference.batch(first + i)) for i, batch in enumerate(batches))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_segment_plans_come_with_the_batches(num_workers):
    s = stream(segment_by="variate")
    for batch in PackedLoader(s, num_steps=20, num_workers=num_workers):
        plan = s.plan(batch)
        assert torch.equal(batch["segments"].inverse, plan.inverse)
        assert all(
            torch.equal(a.gather, b.gather) and torch.equal(a.empty, b.empty)
            for a, b in zip(batch["segments"].buckets, plan.buckets, strict=True)
        )


def test_ranks_are_disjoint_and_make_up_the_batch():
    ranks = [PackedLoader(stream(), num_steps=4, rank=r, world_size=4) for r in range(4)]
    for step, parts in enumerate(zip(*ranks, strict=True)):
        whole = stream().batch(step)
        for name, field in whole.items():
            joined = torch.stack([part[name] for part in parts], dim=1).flatten(0, 1)
            assert torch.equal(joined, field)


def test_a_loader_without_end_says_so_and_goes_on():
    loader = PackedLoader(stream())
    with pytest.raises(TypeError, match="no end; give num_steps"):
        len(loader)
    batches, reference = iter(loader), stream()
    assert all(equal(next(batches), reference.batch(step)) for step in range(40))


def test_workers_get_whole_windows_wherever_the_loader_starts():
    """16 steps of 8 rows are a window of 128; two workers that shared one would both make it."""
    assert list(PackedLoader(stream(), first_step=5, num_steps=30)._chunks()) == [(5, 11), (16, 16), (32, 3)]
    assert list(PackedLoader(stream(batch_rows=256), first_step=1, num_steps=2)._chunks()) == [(1, 1), (2, 1)]


def test_a_pickled_stream_makes_the_same_batches():
    """As where worker processes are spawned, not forked."""
    copy = pickle.loads(pickle.dumps(stream()))
    assert equal(copy.batch(7), stream().batch(7))


def test_a_negative_step_is_refused():
    with pytest.raises(ValueError, match="first_step must not be negative, got -1"):
        PackedLoader(stream(), first_step=-1)


def test_workers_report_the_same_skips():
    reports = []
    for num_workers in (0, 1, 2):
        s = stream()
        list(PackedLoader(s, num_steps=40, num_workers=num_workers))
        reports.append(str(s.skip_report()))
    assert reports[0] == reports[1] == reports[2]
    assert "toy, too short" in reports[0]


# Lightning


@pytest.fixture
def lightning():
    return pytest.importorskip("lightning", reason="the DataModule needs lightning")


def make_model(lightning):
    class Recorder(lightning.LightningModule):
        """Keeps the first value of every training batch, in order."""

        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(()))
            self.seen, self.validated = [], []

        def training_step(self, batch, _):
            self.seen.append(batch["target"].double().sum().item())
            assert batch["segments"].shape == tuple(batch["sample_id"].shape)
            return self.weight * batch["target"].mean()

        def validation_step(self, batch, _):
            self.validated.append(batch["target"].double().sum().item())

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.0)

    return Recorder()


def fit(lightning, folder, max_steps, *, resume=None, workers=0, **settings):
    from tsfm_lab.data.loader import PretrainData

    model, val = make_model(lightning), stream(seed=9)
    data = PretrainData(stream(segment_by="variate"), val_stream=val, num_val_batches=2, num_workers=workers)
    trainer = lightning.Trainer(
        max_steps=max_steps,
        val_check_interval=5,
        check_val_every_n_epoch=None,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **settings,
    )
    trainer.fit(model, datamodule=data, ckpt_path=resume)
    trainer.save_checkpoint(folder / f"{max_steps}.ckpt")
    return model


@pytest.mark.filterwarnings("ignore")  # Lightning's advice on workers and on mid-epoch checkpoints of other loaders
@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_run_goes_on_with_the_very_next_batch(lightning, tmp_path, workers):
    expected = [stream().batch(step)["target"].double().sum().item() for step in range(23)]
    unbroken = fit(lightning, tmp_path, 23)
    assert unbroken.seen == expected
    # the same validation batches every time
    assert unbroken.validated == 4 * [stream(seed=9).batch(i)["target"].double().sum().item() for i in range(2)]
    first = fit(lightning, tmp_path, 7, workers=workers)
    second = fit(lightning, tmp_path, 23, resume=tmp_path / "7.ckpt", workers=workers)
    assert first.seen + second.seen == expected


@pytest.mark.filterwarnings("ignore")
def test_a_run_ends_with_a_report_of_what_it_left_out(lightning, tmp_path, caplog):
    with caplog.at_level(logging.WARNING, logger="tsfm_lab.data.loader"):
        fit(lightning, tmp_path, 17)
    assert "toy, too short" in caplog.text


def test_the_loader_takes_its_place_from_the_trainer(lightning):
    from tsfm_lab.data.loader import PretrainData

    data = PretrainData(stream())
    data.trainer = SimpleNamespace(global_step=3, global_rank=1, world_size=2, accumulate_grad_batches=1)
    assert equal(next(iter(data.train_dataloader())), stream().batch(3, 1, 2))
    assert data.val_dataloader() == []


@pytest.mark.filterwarnings("ignore")
def test_gradient_accumulation_is_refused(lightning, tmp_path):
    with pytest.raises(ValueError, match="accumulate_grad_batches must be 1"):
        fit(lightning, tmp_path, 2, accumulate_grad_batches=2)
