"""Presets of notebooks/04_pretrain_stu: MOIRAI against its STU hybrid, pretrained on the same batches."""

from dataclasses import dataclass
from typing import Literal

from tsfm_lab.runs.config import unhashed


@dataclass(frozen=True)
class PretrainStu:
    """The experiment of source 000: what is trained, on what, for how long, and how it is judged."""

    scale: str

    # what is compared
    models: tuple[str, ...] = ("moirai", "moirai_hybrid")
    seeds: tuple[int, ...] = (0, 1)  # of weights and batches; every model sees the same batches under one seed
    variants: tuple[str, ...] = ()  # hybrids with other options, e.g. "num_eigh=8" or "layer_pattern=stu causal=false"
    variant_steps: int = 0  # optimiser steps of each variant, and of the models that they are compared with

    # data
    data: tuple[str, ...] = ("synthetic", "elnino", "macrodata")  # collections of the pretraining mixture
    held_out: tuple[str, ...] = ("co2", "nile")  # collections that forecasts are scored on
    held_out_series: int = 20  # series of each held-out collection, at most
    held_out_windows: int = 4  # last windows of each series

    # model
    d_model: int = 64
    num_layers: int = 4
    patch_sizes: tuple[int, ...] = (8, 16, 32)  # steps
    max_seq_len: int = 128  # tokens of a packed row

    # optimisation
    batch_rows: int = 16  # packed rows of the global batch
    max_steps: int = 200
    steps_per_epoch: int = 100  # only counts epochs: batches are a function of the step
    lr: float = 1e-3
    weight_decay: float = 0.1
    gradient_clip: float = 1.0  # norm
    warmup_steps: int | None = None  # None: warmup_fraction of max_steps
    warmup_fraction: float = 0.1
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    compile: bool = False
    val_every: int = 50  # steps between two scorings on the held-out series

    # machine: nothing here changes what is computed
    micro_rows: int | None = unhashed(None)  # rows of one forward pass; lower it when memory is short; None: all rows
    num_workers: int = unhashed(0)  # processes that make batches
    device: Literal["auto", "cpu", "gpu"] = unhashed("auto")
    checkpoint_steps: int = unhashed(1000)
    checkpoint_minutes: float = unhashed(10.0)
    tensorboard: bool = unhashed(False)

    def __post_init__(self) -> None:
        for name in ("max_steps", "batch_rows", "steps_per_epoch", "val_every", "held_out_windows", "held_out_series"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.models or not self.seeds:
            raise ValueError(f"models and seeds must name at least one each, got {self.models} and {self.seeds}")
        if not 0 <= self.warmup_fraction <= 1:
            raise ValueError(f"warmup_fraction must be between 0 and 1 of max_steps, got {self.warmup_fraction}")
        if self.micro_rows is not None and not 1 <= self.micro_rows <= self.batch_rows:
            raise ValueError(f"micro_rows must be between 1 and batch_rows={self.batch_rows}, got {self.micro_rows}")


PRETRAIN_STU = {"smoke": PretrainStu(scale="smoke")}
