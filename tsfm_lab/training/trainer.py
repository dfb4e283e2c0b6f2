"""Training of any of the workbook's Lightning modules in a run directory: resumable, recorded, quiet."""

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import lightning
import torch

from tsfm_lab.data.loader import PretrainData
from tsfm_lab.data.stream import TrainingStream
from tsfm_lab.runs import RunDirectory, atomic_write
from tsfm_lab.runs.preemption import Preempted
from tsfm_lab.training.checkpoints import AtomicCheckpointIO, Checkpoints, latest_checkpoint
from tsfm_lab.training.distributed import process_layout
from tsfm_lab.training.pretrain import NonFiniteLoss
from tsfm_lab.training.progress import Progress
from tsfm_lab.training.recorder import Recorder, StepClock, Validation

_ADVISERS = (
    r"lightning\.pytorch\.trainer\.configuration_validator",
    r"lightning\.pytorch\.trainer\.connectors\.data_connector",
    r"lightning\.pytorch\.utilities\._pytree",
    r"lightning\.fabric\.plugins\.environments\.slurm",
)
PRECISIONS = {"fp32": "32-true", "tf32": "32-true", "bf16": "bf16-mixed"}


@dataclass(frozen=True)
class TrainerOptions:
    """How a run is carried out."""

    max_steps: int
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    device: Literal["auto", "cpu", "gpu"] = "auto"
    compile: bool = False  # the encoder, by torch.compile
    num_workers: int = 0  # processes that make batches
    checkpoint_steps: int = 1000
    checkpoint_minutes: float = 10.0
    tensorboard: bool = False
    log_lines: int = 6  # of progress in a stored notebook


def fit(
    model: lightning.LightningModule,
    data: TrainingStream | lightning.LightningDataModule,
    run: RunDirectory,
    options: TrainerOptions,
    *,
    validation: Validation | None = None,
    title: str = "",
    data_checksums: Mapping[str, str] | None = None,
) -> None:
    """Train `model` up to `max_steps`, going on where an earlier attempt in the same run directory stopped.

    model: its `training_step` returns loss, grad_norm, lr and tokens; its weights are the trained ones afterwards, also
    where the run had finished before. `model.module` is saved as `run.path/"model"` in the end.

    Raises
    ------
    Preempted: a signal asked to stop; the checkpoint is written.
    NonFiniteLoss: naming the file in the run directory that holds the batch.
    torch.OutOfMemoryError: naming the preset's field to lower.
    """
    if run.finished:
        _restore(model, run)
        return
    run.start(device=_device_name(options.device), data_checksums=data_checksums)
    try:
        with _quiet(), _matmul_precision(options.precision):
            _fit(model, data, run, options, validation, title)
        if model.trainer.is_global_zero:
            model.module.save_pretrained(run.path / "model")
    except BaseException as error:
        run.finish("preempted" if isinstance(error, Preempted) else "failed")
        if isinstance(error, NonFiniteLoss):
            raise _with_batch_saved(error, run) from error
        if isinstance(error, torch.OutOfMemoryError):
            raise torch.OutOfMemoryError(
                f"{error}\nGPU out of memory: lower micro_rows (packed rows of one forward pass) in the preset; the "
                "steps stay the same. If it is 1 already, lower max_seq_len or d_model."
            ) from error
        raise
    run.finish()
    model.trainer.strategy.barrier()  # no rank reads the run's files before rank 0 has written them


def _fit(
    model: lightning.LightningModule,
    data: TrainingStream | lightning.LightningDataModule,
    run: RunDirectory,
    options: TrainerOptions,
    validation: Validation | None,
    title: str,
) -> None:
    if isinstance(data, TrainingStream):
        data = PretrainData(data, num_workers=options.num_workers)
    if options.compile:
        model.module.encoder.compile(dynamic=True)
    path, step = latest_checkpoint(run.checkpoints) or (None, 0)
    clock = StepClock()
    recorder = Recorder(run, clock, validation=validation, tensorboard=options.tensorboard, resume_step=step)
    saver = Checkpoints(run.checkpoints, every_steps=options.checkpoint_steps, every_minutes=options.checkpoint_minutes)
    layout = process_layout()
    trainer = lightning.Trainer(
        **{**layout, "plugins": [*layout["plugins"], AtomicCheckpointIO()]},
        accelerator=options.device,
        precision=PRECISIONS[options.precision],
        max_steps=options.max_steps,
        callbacks=[recorder, Progress(title, options.log_lines), saver, clock],
        default_root_dir=run.path,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(model, datamodule=data, ckpt_path=path, weights_only=True if path else None)


def _restore(model: lightning.LightningModule, run: RunDirectory) -> None:
    found = latest_checkpoint(run.checkpoints)
    if found is None:
        raise FileNotFoundError(f"{run.path} is finished but has no checkpoint; remove it to train again")
    state = torch.load(found[0], map_location="cpu", weights_only=True)["state_dict"]
    model.load_state_dict(state)


def _with_batch_saved(error: NonFiniteLoss, run: RunDirectory) -> NonFiniteLoss:
    file = run.path / f"nonfinite-step{error.step}-rank{error.rank}.pt"
    with atomic_write(file, "wb") as stream:
        torch.save(error.batch, stream)
    message = f"{error}; the batch is saved as {file}, the run stopped before the step"
    return NonFiniteLoss(message, error.batch, error.rows, error.step, error.rank)


def _device_name(device: str) -> str:
    on_gpu = device == "gpu" or (device == "auto" and torch.cuda.is_available())
    return torch.cuda.get_device_name() if on_gpu else f"cpu, {torch.get_num_threads()} threads"


@contextmanager
def _matmul_precision(precision: str) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else before)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Lightning's banner, tips and advice on loaders and launching out of the output; other warnings stay."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for module in _ADVISERS:
                warnings.filterwarnings("ignore", module=module)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
