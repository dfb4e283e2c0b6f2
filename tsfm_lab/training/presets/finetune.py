"""Presets of notebooks/08_finetune: a pretrained model, fine-tuned in three ways and judged before and after."""

from dataclasses import dataclass, replace
from typing import Literal

from tsfm_lab.runs.config import unhashed


@dataclass(frozen=True)
class FinetuneStudy:
    """What notebook 08 fine-tunes, on what, and how it is judged."""

    scale: str

    # model and data
    model: str = "moirai-tiny"  # whatever tsfm_lab.load opens: a shipped checkpoint, a run's model, an id on the hub
    data: tuple[str, ...] = ("co2",)  # sets of the registry, or files; each by itself
    series: int | None = None  # the first ones of each set; None: all
    prediction_length: int | None = 26  # steps; None: the registry's first horizon
    context_length: int = 256  # steps of history that the model sees
    num_samples: int = 50  # draws of a forecast
    val_windows: int = 4  # windows of each series that choose weights and learning rate
    test_windows: int = 4  # windows of each series that are forecast before and after

    # fine-tuning
    modes: tuple[str, ...] = ("head", "low_rank", "full")
    seeds: tuple[int, ...] = (0, 1)  # of adaptors, batches and draws
    lr: float = 1e-3  # the highest of the schedule
    lrs: tuple[float, ...] = (5e-7, 1e-4, 1e-3, 1e-2)  # that the search tries; the first is the peer's
    max_steps: int = 40
    val_every: int = 8  # steps
    patience: int = 4  # validations
    batch_size: int = 4  # rows of packed windows
    rank: int = 8  # of the low-rank adaptors

    # overfitting
    small_data: str = "nile"  # too little to learn from
    small_length: int | None = 6  # steps; None: the registry's first horizon
    small_lr: float = 3e-3
    small_steps: int = 120

    # machine
    device: Literal["auto", "cpu", "gpu"] = unhashed("cpu")

    def __post_init__(self) -> None:
        for name in ("data", "modes", "seeds", "lrs"):
            if not getattr(self, name):
                raise ValueError(f"{name} must name at least one, got none")
        for name in ("context_length", "num_samples", "max_steps", "val_every", "small_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("series", "prediction_length", "small_length"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


_SMOKE = FinetuneStudy(scale="smoke")

_LAB = replace(
    _SMOKE,
    scale="lab",
    data=("ETTh1", "national_illness", "monash_us_births", "co2"),
    series=100,
    prediction_length=None,
    context_length=512,
    num_samples=100,
    seeds=(0, 1, 2),
    lr=1e-4,
    lrs=(5e-7, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3),
    max_steps=300,
    val_every=20,
    patience=5,
    batch_size=16,
    device="auto",
)

# a published checkpoint on more sets: TSLib's and Monash's, as far as they are held out of its pretraining
_FULL = replace(
    _LAB,
    scale="full",
    model="Salesforce/moirai-1.1-R-small",
    data=("ETTh1", "ETTh2", "ETTm1", "ETTm2", "weather", "exchange_rate", "national_illness", "co2", "nile"),
    series=None,
    context_length=1000,
    lr=1e-5,
    lrs=(5e-7, 1e-6, 3e-6, 1e-5, 3e-5, 1e-4),
    max_steps=1000,
    val_every=50,
    batch_size=32,
)

FINETUNE = {"smoke": _SMOKE, "lab": _LAB, "full": _FULL}
