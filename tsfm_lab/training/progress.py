"""How far a training run is: a bar for who watches, a few lines for a stored notebook."""

import os
import sys
import time
from collections.abc import Mapping
from typing import Any

import lightning


class Progress(lightning.Callback):
    """A bar on a terminal and in JupyterLab; `lines` lines where the output is stored."""

    def __init__(self, title: str = "", lines: int = 6):
        self.title, self.lines = title, lines
        self._bar = None

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._first, self._start, self._losses = trainer.global_step, time.monotonic(), []
        if self.lines and trainer.is_global_zero and is_interactive():
            from tqdm.auto import tqdm

            self._bar = tqdm(total=trainer.max_steps, initial=self._first, desc=self.title, unit="step")

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Mapping[str, Any],
        batch: Any,
        batch_idx: int,
    ) -> None:
        step, last = trainer.global_step, trainer.max_steps
        self._losses.append(float(outputs["loss"]))
        if self._bar is not None:
            self._bar.update()
            self._bar.set_postfix(loss=f"{self._losses[-1]:.3f}")
        elif trainer.is_global_zero and step * self.lines // last > (step - 1) * self.lines // last:
            speed = (step - self._first) / (time.monotonic() - self._start)
            loss = sum(self._losses) / len(self._losses)
            left = f", {(last - step) / speed:.0f} s left" if step < last else ""
            print(f"{self.title} step {step}/{last}: loss {loss:.3f}, {speed:.1f} steps/s{left}".strip())
            self._losses = []

    def teardown(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        if self._bar is not None:
            self._bar.close()


def is_interactive() -> bool:
    """Whether someone watches: a terminal, or a kernel that a Jupyter server started (papermill starts its own)."""
    return sys.stderr.isatty() or "JPY_SESSION_NAME" in os.environ
