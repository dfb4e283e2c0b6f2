"""What the forecasters of trained models share: the model is one that they can decode, and opens from a folder."""

from abc import abstractmethod
from pathlib import Path
from typing import Any, Self

import torch
from torch import nn

from tsfm_lab.forecast.forecaster import Forecaster


class ModelForecaster(Forecaster):
    """Base of the forecasters around a model. A subclass says with `is_for` which models it decodes.

    module: the model. sizes: of `Forecaster`'s constructor, in its order.
    Raises ValueError for a model that another forecaster is for.
    """

    def __init__(self, module: nn.Module, *sizes: int | None):
        if not self.is_for(module):
            raise ValueError(
                f"{type(self).__name__} cannot decode a {type(module).__name__}; "
                "tsfm_lab.load opens every model with its own forecaster"
            )
        super().__init__(*sizes)
        self.module = module.eval()

    @staticmethod
    @abstractmethod
    def is_for(module: nn.Module) -> bool:
        """Whether this forecaster decodes such a model."""

    @classmethod
    def from_pretrained(cls, folder_or_hub_id: str | Path, **options: Any) -> Self:
        """Open a saved model, plain or hybrid as its config.json says; `options` are the constructor's."""
        from tsfm_lab.models import load_model

        return cls(load_model(folder_or_hub_id), **options)

    @property
    def device(self) -> torch.device:
        """Where the module lies."""
        return next(self.module.parameters()).device
