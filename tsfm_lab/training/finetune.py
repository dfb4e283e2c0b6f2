"""Fine-tuning of any model of the workbook on series that are cut in time: one mechanism, a seam for each family."""

from dataclasses import dataclass
from typing import Any, Literal

import lightning
import numpy as np
import torch
from lightning.fabric.utilities.apply_func import move_data_to_device
from torch import nn

from tsfm_lab.data.packing import PackedBatch
from tsfm_lab.data.stream import TrainingStream
from tsfm_lab.models.patch_forecaster import PatchForecaster
from tsfm_lab.runs import RunDirectory
from tsfm_lab.runs.metrics import read_rows
from tsfm_lab.training.adaptors import MODES, merge, prepare
from tsfm_lab.training.best_weights import KeepsBest
from tsfm_lab.training.calibration import calibrate_covariance, calibrate_sigma
from tsfm_lab.training.finetune_data import TimeParts, make_timer_data, packed_validation, training_stream
from tsfm_lab.training.pretrain import MoiraiHybridPretrain, MoiraiPretrain
from tsfm_lab.training.pretrain_moirai2 import Moirai2HybridPretrain, Moirai2Pretrain
from tsfm_lab.training.pretrain_moirai_moe import MoiraiMoEHybridPretrain, MoiraiMoEPretrain
from tsfm_lab.training.recorder import Validation
from tsfm_lab.training.timer_task import Optimisation, TimerTraining
from tsfm_lab.training.trainer import TrainerOptions, fit

WARMUP = 0.1  # of the steps
RECALIBRATE = {"calibrated": calibrate_sigma, "correlated": calibrate_covariance}


@dataclass(frozen=True)
class Finetuning:
    """How a model is fine-tuned."""

    mode: Literal["full", "head", "low_rank"] = "full"  # what is trained, see `adaptors.prepare`
    lr: float = 1e-4  # the highest: linear warm-up over a tenth of the steps, then cosine (Timer family: cosine)
    rank: int = 8  # of low-rank adaptors
    alpha: float = 16.0  # their scale times their rank
    max_steps: int = 300  # of the optimiser
    val_every: int = 20  # steps between two validations
    patience: int | None = 5  # validations without a lower loss before it stops; None: never, the last weights stay
    batch_size: int = 8  # rows of packed windows, or windows of the Timer family
    weight_decay: float = 0.0  # pulls towards zero, not towards the pretrained weights
    seed: int = 0  # of adaptors and batches
    device: Literal["auto", "cpu", "gpu"] = "auto"

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}, got {self.mode!r}")
        if not 0 < self.lr < float("inf"):
            raise ValueError(f"lr must be positive, got {self.lr}")
        for name in ("rank", "max_steps", "val_every", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.patience is not None and self.patience < 1:
            raise ValueError(f"patience must be at least 1 validation, or None, got {self.patience}")
        if self.alpha <= 0 or self.weight_decay < 0:
            raise ValueError(
                f"alpha must be positive and weight_decay not negative, got {self.alpha} and {self.weight_decay}"
            )


class MoiraiFinetune(KeepsBest, MoiraiPretrain):
    """`MoiraiPretrain` that goes on from a trained model, validates, and stops early.

    Parameters
    ----------
    module: whose parameters with requires_grad are trained. validation: packed batches, scored by the same loss.
    patience: see `KeepsBest`. The others are those of the kind's pretraining.
    """

    def __init__(self, module: nn.Module, *, validation: list[PackedBatch], patience: int | None = 5, **options: Any):
        super().__init__(module, patience=patience, **options)
        self.validation = validation

    def validate(self, module: nn.Module) -> dict[str, float]:
        """The loss over the validation batches, each series of each row alike."""
        total = count = 0.0
        for batch in self.validation:
            pieces, (series, _) = self.on_before_batch_transfer(batch, 0)
            for piece in move_data_to_device(pieces, self.device):
                total += self.loss.summed(module.forward_predicted(**piece), piece).item()
            count += series.item()
        self.consider(total / count)
        return {"loss": total / count}


class MoiraiHybridFinetune(MoiraiFinetune, MoiraiHybridPretrain):
    """`MoiraiFinetune` for `MoiraiHybridModule`."""


class MoiraiMoEFinetune(MoiraiFinetune, MoiraiMoEPretrain):
    """`MoiraiFinetune` for `MoiraiMoEModule`."""


class MoiraiMoEHybridFinetune(MoiraiFinetune, MoiraiMoEHybridPretrain):
    """`MoiraiFinetune` for `MoiraiMoEHybridModule`."""


class Moirai2Finetune(MoiraiFinetune, Moirai2Pretrain):
    """`MoiraiFinetune` for `Moirai2Module`."""


class Moirai2HybridFinetune(MoiraiFinetune, Moirai2HybridPretrain):
    """`MoiraiFinetune` for `Moirai2HybridModule`."""


MoiraiFinetuneModule = MoiraiFinetune

FINETUNING: dict[str, type[MoiraiFinetune]] = {
    "moirai": MoiraiFinetune,
    "moirai_hybrid": MoiraiHybridFinetune,
    "moirai_moe": MoiraiMoEFinetune,
    "moirai_moe_hybrid": MoiraiMoEHybridFinetune,
    "moirai2": Moirai2Finetune,
    "moirai2_hybrid": Moirai2HybridFinetune,
}

Task = tuple[lightning.LightningModule, TrainingStream | lightning.LightningDataModule]


def packed_task(module: nn.Module, parts: TimeParts, how: Finetuning) -> Task:
    """Module and batches of a MOIRAI of any kind: its own pretraining loss, on windows as a forecast reads them."""
    stream = training_stream(parts, module.patch_sizes, batch_rows=how.batch_size, seed=how.seed)
    task = FINETUNING[module.model_type](
        module,
        validation=packed_validation(parts, module.patch_sizes, batch_rows=how.batch_size),
        patience=how.patience,
        max_steps=how.max_steps,
        warmup_steps=round(WARMUP * how.max_steps),
        lr=how.lr,
        weight_decay=how.weight_decay,
        seed=how.seed,
    )
    return task, stream


def timer_task(module: PatchForecaster, parts: TimeParts, how: Finetuning) -> Task:
    """Module and batches of a model of the Timer family: the loss of its own training, on standardised windows."""
    epochs = -(-how.max_steps // how.val_every)
    optimisation = Optimisation(
        epochs=epochs,
        tmax=epochs,
        epoch_steps=how.val_every,
        batch_size=how.batch_size,
        learning_rate=how.lr,
        weight_decay=how.weight_decay,
        patience=how.patience,
        seed=how.seed,
    )
    data, validation = make_timer_data(module, parts, batch_size=how.batch_size, seed=how.seed)
    return TimerTraining(module, optimisation, validation, how.val_every), data


def fit_finetuning(
    module: nn.Module, parts: TimeParts, how: Finetuning, run: RunDirectory, *, progress: bool = False, title: str = ""
) -> float:
    """Fine-tune `module` in a run directory, or go on where an earlier attempt stopped; returns its validation loss.

    The module has its best weights afterwards (without patience the last ones), which are also in run.path/"model"
    under the keys that it was published with. metrics.csv has a row for every step, with val_loss before the first and
    every so many. A calibrated σ or covariance is taken from the validation windows again.
    One process: the ranks of a distributed job would each stop by themselves.

    Raises
    ------
    ArithmeticError: a loss or gradient is not finite; lower lr.
    ValueError: the base model's own validation loss is not finite.
    """
    torch.manual_seed(how.seed)
    prepare(module, how.mode, rank=how.rank, alpha=how.alpha)
    module.train()  # Lightning leaves the mode as it finds it
    make_task = timer_task if isinstance(module, PatchForecaster) else packed_task
    task, data = make_task(module, parts, how)
    options = TrainerOptions(max_steps=how.max_steps, device=how.device, log_lines=3 * progress)
    fit(task, data, run, options, validation=Validation(task.validate, ("loss",), how.val_every), title=title)
    best = type(module).from_pretrained(run.path / "model")
    merge(module.cpu()).load_state_dict(best.state_dict())
    module.requires_grad_(True).eval()
    if recalibrate := RECALIBRATE.get(module.config.get("sigma")):  # the law of the base model's errors no longer holds
        recalibrate(module, task.validation)
    losses = [float(row["val_loss"]) for row in read_rows(run.path / "metrics.csv") if row["val_loss"]]
    if not np.isfinite(losses[0]):  # no later loss can be compared with it
        raise ValueError(
            f"the base model's validation loss is {losses[0]}, it must be finite: check the model's weights"
        )
    return losses[-1] if how.patience is None else float(np.nanmin(losses))
