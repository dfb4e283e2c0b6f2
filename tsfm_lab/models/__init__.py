"""Models: one architecture per file, opened by the `model_type` in their config.json."""

import json
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from huggingface_hub.constants import CONFIG_NAME

from tsfm_lab.models.checkpoint import CheckpointMixin, load_strictly, open_pth
from tsfm_lab.models.early_exit import early_exit
from tsfm_lab.models.feature_draft import FeatureDraft
from tsfm_lab.models.linear_forecaster import LinearForecaster
from tsfm_lab.models.moirai import MoiraiModule, published_mixture
from tsfm_lab.models.moirai2 import Moirai2Module
from tsfm_lab.models.moirai2_hybrid import Moirai2HybridModule
from tsfm_lab.models.moirai_hybrid import MoiraiHybridModule
from tsfm_lab.models.moirai_moe import MoiraiMoEModule
from tsfm_lab.models.moirai_moe_hybrid import MoiraiMoEHybridModule
from tsfm_lab.models.stu_forecaster import STUForecaster
from tsfm_lab.models.timer import Timer
from tsfm_lab.models.timer_base import TimerBase
from tsfm_lab.models.timer_xl import TimerXL
from tsfm_lab.models.timer_xl_draft import TimerXLDraft
from tsfm_lab.models.ttm import TinyTimeMixer

MODELS: dict[str, type[CheckpointMixin]] = {
    model.model_type: model
    for model in (
        *(MoiraiModule, MoiraiHybridModule, MoiraiMoEModule, MoiraiMoEHybridModule, Moirai2Module, Moirai2HybridModule),
        *(TimerXL, TimerXLDraft, Timer, TimerBase, TinyTimeMixer, FeatureDraft, LinearForecaster, STUForecaster),
    )
}

__all__ = [
    "MODELS",
    "CheckpointMixin",
    "FeatureDraft",
    "LinearForecaster",
    "Moirai2HybridModule",
    "Moirai2Module",
    "MoiraiHybridModule",
    "MoiraiMoEHybridModule",
    "MoiraiMoEModule",
    "MoiraiModule",
    "STUForecaster",
    "Timer",
    "TimerBase",
    "TimerXL",
    "TimerXLDraft",
    "TinyTimeMixer",
    "early_exit",
    "load_model",
    "load_strictly",
    "open_pth",
    "published_mixture",
]


def load_model(folder_or_hub_id: str | Path, **options: Any) -> CheckpointMixin:
    """Open a saved model of any architecture; a published config.json, without `model_type`, is known by its fields.

    Raises
    ------
    ValueError: config.json is of none of the known models, or does not fit the weights.
    """
    folder = Path(folder_or_hub_id)
    file = folder / CONFIG_NAME if folder.is_dir() else Path(hf_hub_download(str(folder_or_hub_id), CONFIG_NAME))
    config = json.loads(file.read_text())
    model_type = config.get("model_type", _published_type(config))
    if model_type not in MODELS:
        raise ValueError(f"{file} is of model_type {model_type!r}; known are {sorted(MODELS)}")
    return MODELS[model_type].from_pretrained(folder_or_hub_id, **options)


def _published_type(config: dict[str, Any]) -> str | None:
    """The model type of a published config.json, by the fields that only it has."""
    if "num_predict_token" in config:
        return "moirai2"
    if "patch_sizes" not in config:
        return None
    return "moirai_moe" if "d_ff" in config else "moirai"
