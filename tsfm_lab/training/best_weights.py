"""Early stopping: the weights that validate best are kept, and training ends when none better come."""

from typing import Any

import lightning
from torch import nn

from tsfm_lab.training.adaptors import merge


class KeepsBest(lightning.LightningModule):
    """Mixin of Lightning modules around `self.module`: that module has its best weights when training ends.

    A subclass calls `consider` with every validation loss, the one before the first step too, so that at worst nothing
    has changed. Low-rank adaptors are merged in the end. One process.

    Parameters
    ----------
    patience: validations without a lower loss after which training stops; None: it never does, and the last weights
        stay. The others are the next class's.
    """

    module: nn.Module

    def __init__(self, *args: Any, patience: int | None, **options: Any):
        super().__init__(*args, **options)
        if patience is not None and patience < 1:
            raise ValueError(f"patience must be at least 1 validation, or None for no early stopping, got {patience}")
        self.patience = patience
        self.best: dict[str, Any] = {"loss": float("inf"), "bad": 0, "weights": {}}

    def consider(self, loss: float) -> None:
        """Remember the weights if `loss` is the lowest so far, else ask for the end once patience is exhausted."""
        if loss < self.best["loss"] or not self.best["weights"]:
            weights = {key: value.detach().clone() for key, value in self.module.state_dict().items()}
            self.best = {"loss": loss, "bad": 0, "weights": weights}
        else:
            self.best["bad"] += 1
            self.trainer.should_stop = self.patience is not None and self.best["bad"] >= self.patience

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["best"] = self.best

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.best = checkpoint["best"]

    def on_train_end(self) -> None:
        if self.patience is not None:
            self.module.load_state_dict(self.best["weights"])
        merge(self.module)
