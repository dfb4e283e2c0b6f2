"""Presets of notebooks/07_evaluation: which models are scored on which benchmarks."""

from dataclasses import dataclass, replace

from tsfm_lab.data.registry import entries, gift_eval_configurations
from tsfm_lab.runs.config import unhashed

LSF = (
    *("ETTh1", "ETTh2", "ETTm1", "ETTm2", "weather", "exchange_rate", "national_illness"),
    *("electricity", "traffic", "solar", "PEMS03", "PEMS04", "PEMS07", "PEMS08"),
)
MONASH = tuple(entry.name for entry in entries().values() if entry.pool == "heldout_monash")
GIFT_EVAL = gift_eval_configurations()


@dataclass(frozen=True)
class EvaluationSuite:
    """What notebook 07 scores."""

    scale: str

    # models
    models: tuple[str, ...] = ("seasonal_naive", "naive", "drift", "ets", "theta")  # whatever tsfm_lab.load opens
    trained: tuple[str, ...] = ("moirai", "moirai_hybrid")  # pretrained by notebook 04's recipe of this scale
    seeds: tuple[int, ...] = (0,)  # of the trained models
    pretrain_steps: int | None = 80  # optimiser steps; None: those of notebook 04, whose finished runs are opened
    context_length: int = 256  # steps of history that the trained models see
    num_samples: int = 50  # draws of a forecast

    # benchmarks; names of the registry
    lsf: tuple[str, ...] = ("co2", "elnino", "macrodata")
    lsf_horizons: tuple[int, ...] | None = (4, 12)  # steps; None: the registry's
    lsf_windows: int | None = 3  # of each set and horizon, evenly spaced; None: all, the published protocol
    monash: tuple[str, ...] = ("co2", "nile")
    monash_series: int | None = None  # the first ones of each set; None: all, the published protocol
    gift_eval: tuple[str, ...] = ("co2", "nile")

    resamples: int = 2000  # of the bootstrap
    device: str = unhashed("cpu")  # of the trained models

    def __post_init__(self) -> None:
        if "seasonal_naive" not in self.models:
            raise ValueError(f"models must have seasonal_naive, to which all scores relate, got {self.models}")
        if not (self.lsf or self.monash or self.gift_eval):
            raise ValueError("lsf, monash or gift_eval must name at least one set, got none")
        for name in ("context_length", "num_samples", "resamples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("pretrain_steps", "lsf_windows", "monash_series"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


_SMOKE = EvaluationSuite(scale="smoke")

_LAB = replace(
    _SMOKE,
    scale="lab",
    seeds=(0, 1),
    pretrain_steps=None,
    context_length=512,
    num_samples=100,
    lsf=LSF[:7],
    lsf_horizons=None,
    lsf_windows=10,
    monash=("monash_hospital", "monash_tourism_monthly", "monash_m4_hourly", "monash_us_births", "monash_saugeenday"),
    monash_series=100,
    gift_eval=("co2", "nile"),
    device="cuda",
)

_FULL = replace(
    _LAB,
    scale="full",
    models=("seasonal_naive", "naive", "drift", "ets", "theta", "arima", "quantile_linear"),
    seeds=(0, 1, 2),
    context_length=1000,
    lsf=LSF,
    lsf_windows=None,
    monash=MONASH,
    monash_series=None,
    gift_eval=GIFT_EVAL,
)

EVALUATION = {"smoke": _SMOKE, "lab": _LAB, "full": _FULL}
