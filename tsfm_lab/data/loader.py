"""The pretraining data as a Lightning DataModule."""

import logging

import lightning
import torch

from tsfm_lab.data.stream import TrainingStream
from tsfm_lab.data.workers import PackedLoader

log = logging.getLogger(__name__)


class PretrainData(lightning.LightningDataModule):
    """Training batches from the trainer's step on, each rank its own rows; optionally fixed validation batches.

    A resumed trainer knows its step before it asks for batches, so a resumed run goes on with the very next one. Train
    with `max_steps`, `val_check_interval` and `check_val_every_n_epoch=None`: the training loader has no end, and an
    epoch cut short by `limit_train_batches` would start over at the trainer's step.
    stream: of training batches. val_stream, num_val_batches: steps 0 … num_val_batches − 1 of another one.
    num_workers: processes per loader. prefetch_factor: windows of 128 rows that each is ahead.
    """

    def __init__(
        self,
        stream: TrainingStream,
        *,
        val_stream: TrainingStream | None = None,
        num_val_batches: int = 8,
        num_workers: int = 0,
        prefetch_factor: int = 2,
    ):
        super().__init__()
        self.stream, self.val_stream, self.num_val_batches = stream, val_stream, num_val_batches
        self.num_workers, self.prefetch_factor = num_workers, prefetch_factor

    def train_dataloader(self) -> PackedLoader:
        """Batches from `trainer.global_step` on. Raises: ValueError with gradient accumulation."""
        if self.trainer.accumulate_grad_batches != 1:
            raise ValueError(
                "accumulate_grad_batches must be 1, because a batch is one optimiser step, "
                f"got {self.trainer.accumulate_grad_batches}; lower batch_rows or use more ranks instead"
            )
        return self._loader(self.stream, first_step=self.trainer.global_step)

    def val_dataloader(self) -> PackedLoader | list:
        if self.val_stream is None:
            return []
        return self._loader(self.val_stream, num_steps=self.num_val_batches)

    def teardown(self, stage: str) -> None:
        """Report what was left out, once per run."""
        report = self.stream.skip_report()
        if report.counts and self.trainer.is_global_zero:
            log.warning("%s", report)

    def _loader(self, stream: TrainingStream, **steps: int) -> PackedLoader:
        return PackedLoader(
            stream,
            rank=self.trainer.global_rank,
            world_size=self.trainer.world_size,
            num_workers=self.num_workers,
            prefetch_factor=self.prefetch_factor,
            pin_memory=torch.cuda.is_available(),
            **steps,
        )
