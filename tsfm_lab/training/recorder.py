"""What a training run leaves to read: metrics.csv and TensorBoard."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import lightning
import torch
from torch import nn

from tsfm_lab.runs import RunDirectory

COLUMNS = ("step", "time_s", "tokens", "loss", "lr", "grad_norm", "steps_per_s")


@dataclass(frozen=True)
class Validation:
    """How a model in training is scored: before the first step, every so many steps, and after the last one.

    score: from the module, in evaluation mode, to its scores by name. names: of the scores; metrics.csv has them with
    "val_" in front. every: steps.
    """

    score: Callable[[nn.Module], Mapping[str, float]]
    names: tuple[str, ...]
    every: int

    def columns(self) -> tuple[str, ...]:
        return tuple(f"val_{name}" for name in self.names)

    def __call__(self, module: nn.Module) -> dict[str, float]:
        was_training = module.training
        module.eval()
        try:
            with torch.no_grad():
                scores = self.score(module)
        finally:
            module.train(was_training)
        return {f"val_{name}": float(scores[name]) for name in self.names}


class StepClock(lightning.Callback):
    """Seconds since the end of the step before: waiting for data included, validation and checkpoints left out.

    It must be the last callback.
    """

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._mark = time.perf_counter()

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        self._mark = time.perf_counter()

    def seconds(self) -> float:
        return time.perf_counter() - self._mark


class Recorder(lightning.Callback):
    """One row of metrics.csv a step, the validation's scores among them; TensorBoard beside it where asked for.

    A module's `training_step` returns loss, grad_norm, lr and tokens, and what its `figures` names, if it has them.
    Rank 0 alone writes and validates.
    resume_step: rows past it are dropped, because their steps are done again. time_s and tokens go on from the
    checkpoint's.
    """

    def __init__(
        self,
        run: RunDirectory,
        clock: StepClock,
        *,
        validation: Validation | None = None,
        tensorboard: bool = False,
        resume_step: int = 0,
    ):
        self.run, self.clock, self.validation = run, clock, validation
        self.tensorboard, self.resume_step = tensorboard, resume_step
        self.time_s, self.tokens = 0.0, 0
        self._log = self._writer = None

    def state_dict(self) -> dict[str, Any]:
        return {"time_s": self.time_s, "tokens": self.tokens}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.time_s, self.tokens = state_dict["time_s"], state_dict["tokens"]

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        columns = self.validation.columns() if self.validation else ()
        self._figures = getattr(pl_module, "figures", ())
        self._log = self.run.metrics((*COLUMNS, *self._figures, *columns))
        self._log.drop_after(self.resume_step if trainer.global_step else -1)
        if self.tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(self.run.path / "tensorboard", purge_step=trainer.global_step + 1)
        if self.validation and trainer.global_step == 0:
            self._write(0, self.validation(pl_module.module))

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Mapping[str, Any],
        batch: Any,
        batch_idx: int,
    ) -> None:
        seconds = self.clock.seconds()
        self.time_s, self.tokens = self.time_s + seconds, self.tokens + outputs["tokens"]
        if self._log is None:
            return
        step = trainer.global_step
        values = {
            "time_s": round(self.time_s, 4),
            "tokens": self.tokens,
            "loss": float(outputs["loss"]),
            "lr": outputs["lr"],
            "grad_norm": outputs["grad_norm"],
            "steps_per_s": round(1 / seconds, 4),
            **{name: float(outputs[name]) for name in self._figures},
        }
        if self.validation and (step % self.validation.every == 0 or step == trainer.max_steps):
            values |= self.validation(pl_module.module)
        self._write(step, values)

    def teardown(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        if self._writer:
            self._writer.close()

    def _write(self, step: int, values: Mapping[str, float]) -> None:
        self._log.append(step, **values)
        if self._writer:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)
