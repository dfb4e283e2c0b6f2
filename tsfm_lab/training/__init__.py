"""Training: presets by scale, losses, optimiser and schedule, the Lightning modules and the trainer.

The names below are imported on first use, so that reading a preset does not load Lightning.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "centroids": ("cluster_tokens", "set_centroids"),
    "corpora": ("pretraining_mixture",),
    "experiment": ("make_mixture", "make_stream", "train"),
    "finetune": (
        "Finetuning",
        "Moirai2Finetune",
        "Moirai2HybridFinetune",
        "MoiraiFinetune",
        "MoiraiFinetuneModule",
        "MoiraiHybridFinetune",
        "MoiraiMoEFinetune",
        "MoiraiMoEHybridFinetune",
    ),
    "losses": ("PackedNLLLoss", "PackedQuantileLoss"),
    "optimizer": ("make_optimizer", "make_schedule"),
    "pretrain": ("MoiraiHybridPretrain", "MoiraiPretrain", "MoiraiPretrainModule", "NonFiniteLoss"),
    "pretrain_moirai2": ("Moirai2HybridPretrain", "Moirai2Pretrain"),
    "pretrain_moirai_moe": ("MoiraiMoEHybridPretrain", "MoiraiMoEPretrain"),
    "recorder": ("Validation",),
    "specs": ("make_pretraining", "parse_spec", "same_task"),
    "trainer": ("TrainerOptions", "fit"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOME]
