"""Checkpoints of a run: written whole or not at all, by step, by time and on request; found again for resuming."""

import logging
import re
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from tsfm_lab.runs.files import atomic_write
from tsfm_lab.runs.preemption import Preempted, preemption_requests

log = logging.getLogger(__name__)

_NAME = re.compile(r"step-(\d+)\.ckpt")


def latest_checkpoint(folder: Path) -> tuple[Path, int] | None:
    """The newest checkpoint that can be read, and its step; None where there is none. Damaged ones are reported."""
    found = {int(match[1]): path for path in folder.glob("*.ckpt") if (match := _NAME.fullmatch(path.name))}
    for step in sorted(found, reverse=True):
        try:
            torch.load(found[step], map_location="meta", weights_only=True)
        except Exception as error:  # what torch raises depends on how the file is broken
            log.warning("%s cannot be read (%s); going back to the checkpoint before it", found[step], error)
        else:
            return found[step], step
    return None


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoint files, moved into place only when they are complete.

    failure: why the last write failed, None when it did not. A failed write is reported and leaves the earlier files.
    """

    def __init__(self) -> None:
        self.failure: Exception | None = None

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        self.failure = None
        try:
            with atomic_write(Path(path), "wb") as file:
                torch.save(checkpoint, file)
        except (OSError, RuntimeError) as error:  # torch turns a failed write into a RuntimeError
            # not raised: the other ranks already wait for this one
            self.failure = error
            log.warning("could not write %s (%s); earlier checkpoints are untouched", path, error)


class Checkpoints(lightning.Callback):
    """Saves a checkpoint every so many steps and minutes, at the end, and before obeying a request to stop.

    folder: where they go. keep: the newest so many stay. A request is a SIGUSR1 or SIGTERM to any rank; it ends the
    training with `Preempted`.
    Raises OSError where the checkpoint of a request or of the end cannot be written; others are tried again later.
    """

    def __init__(self, folder: Path, *, every_steps: int, every_minutes: float, keep: int = 2):
        if every_steps < 1 or every_minutes <= 0 or keep < 1:
            raise ValueError(
                f"every_steps, every_minutes and keep must be positive, got {every_steps}, {every_minutes}, {keep}"
            )
        self.folder, self.every_steps, self.seconds, self.keep = folder, every_steps, 60 * every_minutes, keep
        self._signals = ExitStack()
        self._requested: Callable[[], bool] = bool
        self._saved: Path | None = None

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._requested = self._signals.enter_context(preemption_requests())  # after Lightning has set its own handlers
        self._last = time.monotonic()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # one rank's clock and any rank's signal decide for all
        requested = trainer.strategy.reduce_boolean_decision(self._requested(), all=False)
        late = trainer.strategy.reduce_boolean_decision(time.monotonic() - self._last >= self.seconds, all=False)
        if requested or late or trainer.global_step % self.every_steps == 0:
            self._save(trainer, must_succeed=requested)
        if requested:
            raise Preempted(f"stopped after step {trainer.global_step}, as asked; the same command goes on from there")

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._save(trainer, must_succeed=True)
        self._signals.close()

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        self._signals.close()

    def _save(self, trainer: lightning.Trainer, must_succeed: bool) -> None:
        path = self.folder / f"step-{trainer.global_step:07d}.ckpt"
        if path == self._saved:
            return
        trainer.save_checkpoint(path)
        self._last = time.monotonic()
        failure = trainer.strategy.checkpoint_io.failure
        if trainer.strategy.reduce_boolean_decision(failure is not None, all=False):  # rank 0 alone writes
            if must_succeed:
                raise OSError(
                    f"the last checkpoint {path} could not be written; free some space and start again"
                ) from failure
            return
        self._saved = path
        if trainer.is_global_zero:
            for old in sorted(self.folder.glob("step-*.ckpt"))[: -self.keep]:
                old.unlink()
