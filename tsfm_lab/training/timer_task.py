"""Training of the Timer family: next-token forecasting with early stopping, and distillation from a teacher."""

from dataclasses import dataclass
from math import cos, pi
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Adam
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from tsfm_lab.models.patch_forecaster import PatchForecaster, Statistics, TokenLaw, check_pair
from tsfm_lab.models.timer_xl import TimerXL
from tsfm_lab.runs import RunDirectory
from tsfm_lab.training.best_weights import KeepsBest
from tsfm_lab.training.recorder import Validation
from tsfm_lab.training.timer_data import WindowData
from tsfm_lab.training.timer_losses import distillation_loss, gaussian_nll, law_distance
from tsfm_lab.training.trainer import TrainerOptions, fit

LOWEST_LR = 1e-8


@dataclass(frozen=True)
class Optimisation:
    """How a model of the Timer family is optimised: Adam, a learning rate for each epoch, early stopping."""

    epochs: int = 10
    epoch_steps: int | None = None  # optimiser steps of an epoch; None: one pass over the windows
    batch_size: int = 32  # windows
    learning_rate: float = 1e-4
    weight_decay: float = 0.0
    cosine: bool = True  # else learning_rate·lr_decay^epoch
    tmax: int = 10  # epochs from the highest learning rate to the lowest
    lr_decay: float = 0.1
    patience: int | None = 3  # epochs without a lower validation loss after which training stops; None: never
    norm_prefix_len: int | None = None  # steps that the window's statistics come from; None: all
    last_token: bool = False  # compare the forecast after the last token only
    valid_last: bool = True  # the same, in validation
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "tmax", "patience"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be positive, got {self.learning_rate}")

    def lr_factor(self, epoch: int) -> float:
        """Learning rate of an epoch as a share of the first's; the cosine rises again past tmax, as torch's does."""
        if not self.cosine:
            return self.lr_decay**epoch
        lowest = LOWEST_LR / self.learning_rate
        return lowest + (1 - lowest) * (1 + cos(pi * epoch / self.tmax)) / 2


class TimerTraining(KeepsBest):
    """Squared error of the forecasts after all tokens (Timer-XL, arXiv:2410.04803, Eq. 9), with early stopping.

    A target with a learned σ is trained by its likelihood instead, one with a patch covariance by both: MSE + δ²/p. The
    first sees little but a patch's common error, the largest; the likelihood sees every direction by its own variance,
    and the common one as one of many. A draft's variance is left to the distillation.
    The best weights on validation are the module's when training ends. A step's random draws depend on (seed, step).

    Parameters
    ----------
    module: trained; batches are (x, y): x (b seq_len c), y (b n·output_token_len c), the steps after every token.
    validation: batches of the same kind, scored before training and after every epoch.
    steps_per_epoch: of the optimiser.
    """

    automatic_optimization = False

    def __init__(
        self, module: PatchForecaster, optimisation: Optimisation, validation: DataLoader, steps_per_epoch: int
    ):
        super().__init__(patience=optimisation.patience)
        self.module, self.optimisation = module, optimisation
        self.validation, self.steps_per_epoch = validation, steps_per_epoch

    def configure_optimizers(self) -> dict[str, Any]:
        how = self.optimisation
        optimizer = Adam(self.module.parameters(), lr=how.learning_rate, weight_decay=how.weight_decay)
        schedule = LambdaLR(optimizer, lambda step: how.lr_factor(step // self.steps_per_epoch))
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def loss(self, x: Tensor, y: Tensor, last_token: bool) -> Tensor:
        """What is minimised; in evaluation mode without random draws."""
        statistics = self.statistics(x)
        law = self.module.law(x, statistics)
        mean, y = self.compared(law.mean, y, last_token)
        how = self.module.config.get("sigma")
        if how == "correlated":
            distance = law_distance(self.module.noise_scale, mean - y, statistics)
            return F.mse_loss(mean, y) + distance.square().mean() / self.module.output_token_len
        if how == "learned":
            return gaussian_nll(TokenLaw(mean, self.compared(law.logvar, y, last_token)[0]), y)
        return F.mse_loss(mean, y)

    def statistics(self, x: Tensor) -> Statistics:
        """The window's mean and standard deviation, from its first norm_prefix_len steps where that is set.

        A cache freezes the statistics of the context while the forecast grows; a model that has met such windows in
        training loses less by it.
        """
        return self.module.statistics(x[:, : self.optimisation.norm_prefix_len])

    def compared(self, forecast: Tensor, y: Tensor, last_token: bool) -> tuple[Tensor, Tensor]:
        """The steps and variates that both have and that count: (b t c), (b t c).

        A mixer forecasts after the whole context only; with covariates only the last variate is forecast.
        """
        steps = self.module.output_token_len if last_token else min(forecast.shape[1], y.shape[1])
        variates = slice(-1, None) if getattr(self.module, "covariate", False) else slice(None)
        return forecast[:, -steps:, variates], y[:, -steps:, variates]

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Any]:
        """One optimiser step; returns loss, grad_norm, lr and tokens (read, of all variates)."""
        x, y = batch
        torch.manual_seed(_step_seed(self.optimisation.seed, self.trainer.global_step))
        optimizer = self.optimizers()
        optimizer.zero_grad()
        loss = self.loss(x, y, self.optimisation.last_token)
        self.manual_backward(loss)
        grad_norm = nn.utils.get_total_norm([p.grad for p in self.module.parameters() if p.grad is not None])
        if not torch.isfinite(grad_norm):
            raise ArithmeticError(
                f"loss {loss.item()}, gradient norm {grad_norm.item()} at step {self.trainer.global_step}; look for "
                "missing values in the data, or lower learning_rate"
            )
        lr = optimizer.param_groups[0]["lr"]
        optimizer.step()
        self.lr_schedulers().step()
        tokens = x.shape[0] * x.shape[2] * (x.shape[1] // self.module.input_token_len)
        return {"loss": loss.detach(), "grad_norm": grad_norm.item(), "lr": lr, "tokens": tokens}

    def validate(self, module: nn.Module) -> dict[str, float]:
        """Mean loss over the validation windows; remembers the best weights, and stops training after `patience`."""
        total = count = 0.0
        for x, y in self.validation:
            x, y = x.to(self.device), y.to(self.device)
            total += len(x) * self.loss(x, y, self.optimisation.valid_last).item()
            count += len(x)
        loss = total / count
        self.consider(loss)
        return {"loss": loss}


class TimerDistillation(TimerTraining):
    """A draft learns its teacher's forecasts instead of the data's values (STRIDE, arXiv:2511.18191).

    With a variance of its own: `distillation_loss` of the teacher plus noise·N(0, 1); without: squared error, so that
    teacher and draft can share the teacher's sigma. Validation takes the noise's expectation in place of a draw.

    Parameters
    ----------
    teacher: frozen; reads the same windows, with the same statistics.
    teacher_noise: standard deviation, in the data's (standardised) units.
    var_reg: weight of the penalty on small variances.
    """

    def __init__(
        self,
        module: PatchForecaster,
        *args: Any,
        teacher: PatchForecaster,
        teacher_noise: float = 0.05,
        var_reg: float = 0.01,
    ):
        super().__init__(module, *args)
        check_pair(module, teacher)
        if min(teacher_noise, var_reg) < 0:
            raise ValueError(f"teacher_noise and var_reg must not be negative, got {teacher_noise} and {var_reg}")
        self._teacher = (teacher.eval(),)  # in a tuple: neither trained nor saved with the draft
        self.teacher_noise, self.var_reg = teacher_noise, var_reg

    def on_fit_start(self) -> None:
        self._teacher[0].to(self.device)

    def loss(self, x: Tensor, y: Tensor, last_token: bool) -> Tensor:
        statistics = self.statistics(x)
        with torch.no_grad():
            teacher = self._teacher[0](x, statistics)
        law = self.module.law(x, statistics)
        mean, teacher = self.compared(law.mean, teacher, last_token)
        logvar = None if law.logvar is None else self.compared(law.logvar, teacher, last_token)[0]
        if self.module.training:
            teacher = teacher + self.teacher_noise * torch.randn_like(teacher)
        extra = 0.0 if self.module.training else self.teacher_noise**2
        return distillation_loss(TokenLaw(mean, logvar), teacher, var_reg=self.var_reg, extra_variance=extra)


class DrawnDistillation(TimerTraining):
    """A draft learns its target's law behind windows that the target drew (`timer_draws.draw_windows`): the mean of δ.

    δ = ‖S⁻¹(μ_p − μ_q)‖, S the target's noise, which the draft shares: a draft stands with probability 2Φ(−δ/2).

    Parameters
    ----------
    target: its noise scale is shared.
    """

    def __init__(self, module: PatchForecaster, *args: Any, target: TimerXL):
        super().__init__(module, *args)
        check_pair(module, target)
        self._target = (target,)  # in a tuple: neither trained nor saved with the draft

    def on_fit_start(self) -> None:
        self._target[0].to(self.device)

    def loss(self, x: Tensor, y: Tensor, last_token: bool) -> Tensor:
        statistics = self.statistics(x)
        mean, y = self.compared(self.module(x, statistics), y, last_token)
        return law_distance(self._target[0].noise_scale, mean - y, statistics).mean()


def train_timer(
    module: PatchForecaster,
    data: WindowData,
    validation: DataLoader,
    run: RunDirectory,
    optimisation: Optimisation,
    *,
    teacher: PatchForecaster | None = None,
    teacher_noise: float = 0.0,
    var_reg: float = 0.0,
    drawn_by: TimerXL | None = None,
    device: str = "auto",
    title: str = "",
) -> PatchForecaster:
    """Train `module`, or distil it from `teacher`, in a run directory; go on where an earlier attempt stopped.

    drawn_by: the target that drew the windows, in `data` and `validation` both: `DrawnDistillation`.

    Returns the module with its best weights on validation, in evaluation mode; they are also in run.path/"model".
    metrics.csv has a row for every step, `val_loss` before the first epoch and after each.

    Raises what `training.trainer.fit` raises, and ArithmeticError for a loss or gradient that is not finite.
    """
    module.train()  # Lightning leaves the mode as it finds it
    steps_per_epoch = optimisation.epoch_steps or data.batches.steps_per_pass
    arguments = (module, optimisation, validation, steps_per_epoch)
    if drawn_by is not None:
        task = DrawnDistillation(*arguments, target=drawn_by)
    elif teacher is not None:
        task = TimerDistillation(*arguments, teacher=teacher, teacher_noise=teacher_noise, var_reg=var_reg)
    else:
        task = TimerTraining(*arguments)
    max_steps = optimisation.epochs * steps_per_epoch
    options = TrainerOptions(max_steps=max_steps, device=device, checkpoint_steps=steps_per_epoch, log_lines=3)
    fit(task, data, run, options, validation=Validation(task.validate, ("loss",), steps_per_epoch), title=title)
    best = type(module).from_pretrained(run.path / "model")
    module.load_state_dict(best.state_dict())
    return module.cpu().eval()


def _step_seed(seed: int, step: int) -> int:
    return int(np.random.SeedSequence((seed, step)).generate_state(1)[0])
