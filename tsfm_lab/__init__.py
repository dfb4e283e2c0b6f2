"""A research workbook for time-series foundation models: spectral layers, experts, distillation, faster decoding."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from tsfm_lab.evaluation import FineTuned
    from tsfm_lab.forecast import Forecaster

__version__ = "0.1.0"


def load(name_or_path: "str | Path", **options: Any) -> "Forecaster":
    """Open a forecaster by name, folder or hub id: see `tsfm_lab.forecast.load`."""
    from tsfm_lab.forecast import load

    return load(name_or_path, **options)


def finetune(
    model: "str | Path | Forecaster", data: Any, prediction_length: int | None = None, **how: Any
) -> "FineTuned":
    """Fine-tune a model on your data and say whether it helped: see `tsfm_lab.evaluation.finetune`."""
    from tsfm_lab.evaluation import finetune

    return finetune(model, data, prediction_length, **how)
