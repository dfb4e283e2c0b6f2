"""Lightning modules of pretraining: a packed batch in, one step of AdamW on a packed loss."""

from contextlib import nullcontext
from typing import Any, ClassVar

import lightning
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from tsfm_lab.data.packing import PackedBatch
from tsfm_lab.nn.attention_blocks import plan_blocks
from tsfm_lab.nn.packing import plan_segments
from tsfm_lab.training.losses import PackedNLLLoss, PackedQuantileLoss
from tsfm_lab.training.optimizer import make_optimizer, make_schedule

PLANS = ("segments", "blocks")


class NonFiniteLoss(ArithmeticError):
    """The loss or its gradient was not finite; the weights are those of before the step.

    batch: this rank's rows of the step. rows: those of them whose loss is not finite; none where only the gradient is.
    """

    def __init__(self, message: str, batch: PackedBatch, rows: list[int], step: int, rank: int):
        super().__init__(message)
        self.batch, self.rows, self.step, self.rank = batch, rows, step, rank


class MoiraiPretrain(lightning.LightningModule):
    """Pretraining of a packed forecaster, Woo et al. 2024 (arXiv:2402.02592), §3.2.

    One batch is one optimiser step, whatever the number of ranks and of forward passes: the loss is the mean over the
    series of the *global* batch. Random draws of a step (dropout) are a function of (seed, step, rank).

    Parameters
    ----------
    module: `MoiraiModule` or another with its `forward_predicted`. loss: of what that returns.
    max_steps: where the schedule ends; warmup_steps: of linear warm-up, 10,000 as published.
    lr, weight_decay: of AdamW; gradient_clip: largest norm of the gradient.
    micro_rows: packed rows of one forward pass; fewer need less memory for the same step. None: all of the rank's.
    seed: of the random draws within a step.
    """

    automatic_optimization = False
    figures: ClassVar[tuple[str, ...]] = ()  # further columns of metrics.csv, which `_step_figures` fills

    def __init__(
        self,
        module: nn.Module,
        *,
        loss: PackedNLLLoss | PackedQuantileLoss | None = None,
        max_steps: int,
        warmup_steps: int = 10_000,
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        gradient_clip: float = 1.0,
        micro_rows: int | None = None,
        seed: int = 0,
    ):
        super().__init__()
        self.module, self.loss = module, PackedNLLLoss() if loss is None else loss
        self.max_steps, self.warmup_steps = max_steps, warmup_steps
        self.lr, self.weight_decay, self.gradient_clip = lr, weight_decay, gradient_clip
        self.micro_rows, self.seed = micro_rows, seed

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = make_optimizer(self.module, self.lr, self.weight_decay)
        return {"optimizer": optimizer, "lr_scheduler": make_schedule(optimizer, self.warmup_steps, self.max_steps)}

    def plans(self, rows: PackedBatch) -> dict[str, Any]:
        """What `forward_predicted` would otherwise derive from the ids: the attention blocks."""
        return {"blocks": plan_blocks(rows["sample_id"], rows["variate_id"], coarse=self.device.type == "cuda")}

    def on_before_batch_transfer(self, batch: PackedBatch, dataloader_idx: int) -> tuple[list[dict[str, Any]], Tensor]:
        """Cut the batch into pieces of `micro_rows` and make their plans, on the CPU.

        Returns the pieces and, (2) float32, the batch's series with something to predict and its tokens but padding.
        """
        rows = len(batch["sample_id"])
        size = min(self.micro_rows or rows, rows)
        made = {name: value for name, value in batch.items() if name in PLANS and size == rows}
        fields = {name: value.split(size) for name, value in batch.items() if name not in PLANS}
        pieces = [dict(zip(fields, parts, strict=True)) for parts in zip(*fields.values(), strict=True)]
        sizes = torch.stack([self.loss.num_series(batch), (batch["sample_id"] > 0).sum()]).float()
        return [{**piece, **self.plans({**piece, **made}), **made} for piece in pieces], sizes

    def training_step(self, batch: tuple[list[dict[str, Any]], Tensor], batch_idx: int) -> dict[str, Any]:
        """One optimiser step; returns loss (global batch), grad_norm (before clipping), lr, tokens and figures."""
        pieces, sizes = batch
        step, optimizer = self.trainer.global_step, self.optimizers()
        self._seed_draws(step)
        num_series, tokens = self._sum_over_ranks(sizes)
        optimizer.zero_grad()
        total = torch.zeros((), device=self.device)
        for piece in pieces:
            objective, part = self._objective(piece, num_series, tokens)
            sync = nullcontext() if piece is pieces[-1] else self._without_sync()
            with sync, torch.autocast(self.device.type, enabled=False):
                self.manual_backward(objective * self.trainer.world_size)  # DDP takes the mean over ranks
            total += part
        grad_norm = nn.utils.clip_grad_norm_(self.module.parameters(), self.gradient_clip)
        loss = self._sum_over_ranks(total)
        values = torch.stack([loss, grad_norm, tokens]).tolist()
        if not np.isfinite(values).all():
            self._stop(pieces, step, *values[:2])
        lr = optimizer.param_groups[0]["lr"]
        optimizer.step()
        self.lr_schedulers().step()
        return {"loss": loss, "grad_norm": values[1], "lr": lr, "tokens": int(values[2]), **self._step_figures()}

    def _seed_draws(self, step: int) -> None:
        seed = int(np.random.SeedSequence((self.seed, step, self.global_rank)).generate_state(1)[0])
        # torch.manual_seed would also queue a call, with its stack, for every kind of device that is not there
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def _objective(self, piece: dict[str, Any], num_series: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """What a forward pass adds to what is minimised, and to the loss: scalars.

        num_series, tokens: of the global batch.
        """
        predicted = self.module.forward_predicted(**piece)
        part = self.loss.summed(predicted, piece) / num_series
        return part, part.detach()

    def _step_figures(self) -> dict[str, float]:
        """The values of `figures`, of the global batch."""
        return {}

    def _sum_over_ranks(self, value: Tensor) -> Tensor:
        return self.trainer.strategy.reduce(value, reduce_op="sum")

    def _without_sync(self) -> Any:
        wrapper = self.trainer.strategy.model
        return wrapper.no_sync() if isinstance(wrapper, DistributedDataParallel) else nullcontext()

    def _stop(self, pieces: list[dict[str, Any]], step: int, loss: float, grad_norm: float) -> None:
        """Raise NonFiniteLoss with the rows of this rank that are to blame."""
        rows, first = [], 0
        with torch.no_grad():
            for piece in pieces:
                bad = self.loss.broken_rows(self.module.forward_predicted(**piece), piece)
                rows += (first + bad.nonzero().flatten()).tolist()
                first += len(bad)
        names = [name for name in pieces[0] if name not in PLANS]
        batch = {name: torch.cat([piece[name] for piece in pieces]).cpu() for name in names}
        message = f"loss {loss}, gradient norm {grad_norm} at step {step} (seed {self.seed}, rank {self.global_rank}"
        raise NonFiniteLoss(f"{message}, rows {rows})", batch, rows, step, self.global_rank)


class MoiraiHybridPretrain(MoiraiPretrain):
    """`MoiraiPretrain` for `MoiraiHybridModule`: a batch also carries the segment plan of the STU layers."""

    def plans(self, rows: PackedBatch) -> dict[str, Any]:
        """The attention blocks, and the segments where the loader has not made them."""
        plans = super().plans(rows)
        if "segments" not in rows:
            ids, coarse = (rows["sample_id"], rows["variate_id"]), self.device.type == "cuda"
            plans["segments"] = plan_segments(*ids, self.module.segment_by, coarse)
        return plans


MoiraiPretrainModule = MoiraiPretrain


class CausalPretrain(MoiraiPretrain):
    """`MoiraiPretrain` for causal decoders: a batch carries its causal attention blocks."""

    def plans(self, rows: PackedBatch) -> dict[str, Any]:
        """The causal attention blocks."""
        ids, coarse = (rows[name] for name in ("sample_id", "variate_id", "time_id")), self.device.type == "cuda"
        return {"blocks": plan_blocks(*ids, coarse=coarse)}
