"""Saving and loading of models: config.json + model.safetensors, a folder or the hub, nothing filled in silently."""

from __future__ import annotations

import json
from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from huggingface_hub import PyTorchModelHubMixin, hf_hub_download
from huggingface_hub.constants import CONFIG_NAME, SAFETENSORS_SINGLE_FILE
from safetensors.torch import load_file, save_file
from torch import Tensor, nn


def load_strictly(model: nn.Module, state: Mapping[str, Tensor], source: str = "the checkpoint") -> None:
    """Copy `state` into `model`, key for key and shape for shape.

    Raises
    ------
    ValueError: when a key is missing, extra or of another shape, naming them all with both shapes.
    """
    own = model.state_dict()
    shapes = [
        f"{key}: {tuple(state[key].shape)} in the checkpoint, {tuple(value.shape)} in the model"
        for key, value in own.items()
        if key in state and state[key].shape != value.shape
    ]
    problems = [
        f"{title} {found}"
        for title, found in (
            ("missing keys", [key for key in own if key not in state]),
            ("extra keys", [key for key in state if key not in own]),
            ("other shapes", shapes),
        )
        if found
    ]
    if problems:
        raise ValueError(
            f"{source} does not fit {type(model).__name__}: {'; '.join(problems)}. "
            "Build the model with the sizes that the checkpoint was trained with."
        )
    model.load_state_dict(state)


def open_pth(path: str | Path) -> dict[str, Tensor]:
    """Read the state dict of a `.pth` file of tensors alone (`weights_only`): nothing in the file is executed.

    A checkpoint written by data-parallel training carries the prefix `module.`, which is taken off.

    Raises
    ------
    ValueError: when the file holds anything but a dict of tensors.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what torch raises depends on how the file is broken
        raise ValueError(f"{path} is no checkpoint of tensors alone, so it was not opened: {error}") from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path} must hold a state dict (name → tensor), got {type(state).__name__}")
    return {key.removeprefix("module."): value for key, value in state.items()}


class CheckpointMixin(PyTorchModelHubMixin):
    """`save_pretrained`, `from_pretrained`, `push_to_hub`; a model's configuration is its constructor's arguments.

    config.json carries them and `model_type`. Loading refuses a configuration of another model type or with unknown
    entries, and weights that do not fit, where huggingface_hub's own mixin keeps what it can.
    """

    model_type: ClassVar[str]

    @property
    def config(self) -> dict[str, Any]:
        """The constructor's arguments, defaults included."""
        return dict(self._hub_mixin_config or {})

    def _save_pretrained(self, save_directory: Path) -> None:
        state = {key: value.contiguous() for key, value in self.state_dict().items()}
        save_file(state, save_directory / SAFETENSORS_SINGLE_FILE)
        config = {"model_type": self.model_type, **self.config}
        (save_directory / CONFIG_NAME).write_text(json.dumps(config, indent=2) + "\n")

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        **overrides: Any,
    ) -> Self:
        download = {
            "revision": revision,
            "cache_dir": cache_dir,
            "force_download": force_download,
            "local_files_only": local_files_only,
            "token": token,
        }

        def locate(name: str) -> Path:
            folder = Path(model_id)
            if not folder.is_dir():
                return Path(hf_hub_download(model_id, name, **download))
            if not (folder / name).exists():
                raise FileNotFoundError(f"{folder} has no {name}; a saved model is a folder with it")
            return folder / name

        for name in ("proxies", "resume_download"):  # huggingface_hub before 1.0 passes them on
            overrides.pop(name, None)
        arguments = {**cls.read_config(json.loads(locate(CONFIG_NAME).read_text())), **overrides}
        required = {name for name, p in signature(cls).parameters.items() if p.default is p.empty}
        if required - arguments.keys():
            raise ValueError(f"{cls.__name__} needs {sorted(required - arguments.keys())}, which config.json lacks")
        model = cls(**arguments)
        load_strictly(model, cls.read_state(load_file(locate(SAFETENSORS_SINGLE_FILE))), source=model_id)
        return model.eval()

    @classmethod
    def read_config(cls, config: dict[str, Any]) -> dict[str, Any]:
        """Constructor's arguments from the contents of config.json; a published format of another shape overrides it.

        Raises
        ------
        ValueError: for another `model_type` or an entry that the constructor does not know.
        """
        found = config.get("model_type", cls.model_type)
        if found != cls.model_type:
            raise ValueError(f"{cls.__name__} loads model_type {cls.model_type!r}, got {found!r}")
        arguments = {key: value for key, value in config.items() if key != "model_type"}
        unknown = sorted(arguments.keys() - cls._hub_mixin_init_parameters.keys())
        if unknown:
            raise ValueError(f"{cls.__name__} has no parameters {unknown}, which config.json names")
        return arguments

    @classmethod
    def read_state(cls, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The model's state dict from the file's; a published format with other names overrides it."""
        return state
