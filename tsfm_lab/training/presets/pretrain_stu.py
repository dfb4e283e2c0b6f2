"""Presets of notebooks/04_pretrain_stu: MOIRAI against its STU hybrid, pretrained on the same batches."""

from dataclasses import dataclass, replace
from typing import Literal

from tsfm_lab.runs.config import unhashed

# what source 000 leaves open: filters, layers, branches, segments, direction, parameterisation, parameters
ABLATION = (
    "moirai",
    "moirai_hybrid",
    "moirai_hybrid+num_eigh=8",
    "moirai_hybrid+num_eigh=16",
    "moirai_hybrid+layer_pattern=stu",
    "moirai_hybrid+branches=separate",
    "moirai_hybrid+segment_by=sample",
    "moirai_hybrid+causal=false",
    "moirai_hybrid+use_approx=false",
    "moirai_hybrid+match_parameters=true",
)

# the four architectures and the STU form of each
FAMILY = ("moirai", "hybrid", "moe", "moe_hybrid", "moirai2", "moirai2_hybrid")


@dataclass(frozen=True)
class PretrainStu:
    """The experiment of source 000: what is trained, on what, for how long, and how it is judged."""

    scale: str

    # what is compared; a model is one of FAMILY or a variant of one, "moirai_hybrid+num_eigh=8+causal=false"
    models: tuple[str, ...] = ("moirai", "moirai_hybrid")
    seeds: tuple[int, ...] = (0, 1)  # of weights and batches; every model sees the same batches under one seed
    variants: tuple[str, ...] = ABLATION  # a second, shorter comparison under the first seed; may be empty
    variant_steps: int = 40  # optimiser steps of each variant
    resume_steps: int = 12  # of the run that is interrupted half-way and resumed

    # data; names as in tsfm_lab.training.corpora
    data: tuple[str, ...] = ("synthetic", "elnino=20", "macrodata=20")  # "=weight": counts as that many series
    synthetic_series: int = 200
    synthetic_length: int = 512  # steps
    held_out: tuple[str, ...] = ("co2", "nile")  # sets of the registry that forecasts are scored on
    held_out_series: int = 20  # series of each held-out set, at most
    held_out_windows: int = 4  # last windows of each series
    context_length: int = 256  # steps of history that a scored forecast sees
    num_samples: int = 100  # draws of a scored forecast

    # model
    d_model: int = 64
    num_layers: int = 3
    patch_sizes: tuple[int, ...] = (8, 16, 32)  # steps
    max_seq_len: int = 64  # tokens of a packed row

    # optimisation
    batch_rows: int = 8  # packed rows of the global batch
    max_steps: int = 150
    steps_per_epoch: int = 100  # only counts epochs: batches are a function of the step
    lr: float = 1e-3
    weight_decay: float = 0.1
    gradient_clip: float = 1.0  # norm
    warmup_steps: int | None = None  # None: warmup_fraction of max_steps
    warmup_fraction: float = 0.1
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    compile: bool = False
    val_every: int = 50  # steps between two scorings on the held-out sets

    # machine: nothing here changes what is computed, but for the order of sums
    micro_rows: int | None = unhashed(None)  # rows of one forward pass; lower it when memory is short; None: all rows
    num_workers: int = unhashed(0)  # processes that make batches
    device: Literal["auto", "cpu", "gpu"] = unhashed("auto")
    checkpoint_steps: int = unhashed(1000)
    checkpoint_minutes: float = unhashed(10.0)
    tensorboard: bool = unhashed(False)

    def __post_init__(self) -> None:
        positive = ("max_steps", "batch_rows", "steps_per_epoch", "val_every", "held_out_windows", "held_out_series")
        for name in (*positive, "variant_steps", "resume_steps", "synthetic_series", "num_samples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("models", "seeds", "data", "held_out"):
            if not getattr(self, name):
                raise ValueError(f"{name} must name at least one, got none")
        if not 0 <= self.warmup_fraction <= 1:
            raise ValueError(f"warmup_fraction must be between 0 and 1 of max_steps, got {self.warmup_fraction}")
        if self.warmup_steps is not None and not 0 <= self.warmup_steps <= self.max_steps:
            raise ValueError(f"warmup_steps must be between 0 and max_steps={self.max_steps}, got {self.warmup_steps}")
        if self.micro_rows is not None and not 1 <= self.micro_rows <= self.batch_rows:
            raise ValueError(f"micro_rows must be between 1 and batch_rows={self.batch_rows}, got {self.micro_rows}")


_SMOKE = PretrainStu(scale="smoke")

# the published sizes, a tenth of the published tokens
_LAB = replace(
    _SMOKE,
    scale="lab",
    variants=(),
    resume_steps=20,
    synthetic_series=2000,
    synthetic_length=1024,
    data=("synthetic", "elnino=100", "macrodata=100"),
    context_length=512,
    d_model=384,
    num_layers=6,
    patch_sizes=(8, 16, 32, 64, 128),
    max_seq_len=512,
    batch_rows=32,
    max_steps=1500,
    precision="tf32",
    val_every=250,
    num_workers=8,
    tensorboard=True,
)

# source 000: 100 epochs of 100 batches of 128 rows, LOTSA v1 unweighted; its 10,000 steps are all warm-up
_FULL = replace(
    _LAB,
    scale="full",
    data=("lotsa_v1_unweighted",),
    context_length=1000,
    batch_rows=128,
    max_steps=10_000,
    warmup_steps=10_000,
    precision="fp32",
    val_every=500,
)

PRETRAIN_STU = {"smoke": _SMOKE, "lab": _LAB, "full": _FULL}
