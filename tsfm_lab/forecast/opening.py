"""A forecaster by name: a classical one, a checkpoint that ships, a run's or any folder, or a model of the hub."""

import json
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.constants import CONFIG_NAME
from huggingface_hub.errors import HFValidationError

from tsfm_lab.data.registry import LOTSA_MIXTURES, entries, pools, registered_sets
from tsfm_lab.forecast.forecaster import Forecaster
from tsfm_lab.forecast.kinds import make_forecaster
from tsfm_lab.forecast.naive import ClassicalForecaster, Drift, Naive, SeasonalNaive
from tsfm_lab.forecast.quantile_linear import QuantileLinear
from tsfm_lab.forecast.statistical import ARIMA, ETS, Theta
from tsfm_lab.models import load_model

CLASSICAL: dict[str, type[ClassicalForecaster]] = {
    "naive": Naive,
    "seasonal_naive": SeasonalNaive,
    "drift": Drift,
    "ets": ETS,
    "theta": Theta,
    "arima": ARIMA,
    "quantile_linear": QuantileLinear,
}
# published models and the corpora that they were trained on, by the beginning of their hub ids
PUBLISHED = {"Salesforce/moirai-1.": LOTSA_MIXTURES[:1], "Salesforce/moirai-moe-1.": LOTSA_MIXTURES[:1]}
SHIPPED = Path(str(files("tsfm_lab.models"))) / "pretrained"
PRETRAINING_RECORD = "pretraining.json"  # beside a shipped checkpoint: the configuration, device and date of its run


def load(name_or_path: str | Path, *, device: str | None = None, **options: Any) -> Forecaster:
    """Open a forecaster.

    Parameters
    ----------
    name_or_path: the name of a classical forecaster (`CLASSICAL`) or of a checkpoint that ships with the package; a
        folder with config.json and model.safetensors; the directory of a trained model within a run; or a hub id.
    device: where a model's weights lie; None: on a GPU where there is one.
    options: of the forecaster's constructor: prediction_length, context_length, target_dim, season, patch_size, …

    Returns
    -------
    The forecaster; its `pretraining` names the sets of the registry that it was trained on, where that is recorded.

    Raises
    ------
    ValueError: there is no such model, with the names that there are; or its config.json or weights do not fit.
    """
    name = str(name_or_path)
    if name in CLASSICAL:
        return CLASSICAL[name](**options)
    source = _find(name)
    try:
        module = load_model(source)
    except (OSError, HFValidationError) as error:  # the hub's errors of a missing model or network are OSErrors
        raise ValueError(f"{_missing(name)}. {type(error).__name__}: {error}") from error
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    forecaster = make_forecaster(module.to(device), **options)
    forecaster.pretraining = pretraining_of(source)
    return forecaster


def shipped() -> list[str]:
    """Names of the checkpoints that come with the package."""
    return sorted(path.parent.name for path in SHIPPED.glob(f"*/{CONFIG_NAME}"))


def pretraining_of(source: str) -> tuple[str, ...] | None:
    """The registry's sets that a checkpoint was trained on: by the record of its run, or as published.

    None where nothing is recorded, or a folder that the registry does not know is among the data.
    """
    for beginning, corpora in PUBLISHED.items():
        if source.startswith(beginning):
            return tuple(registered_sets(corpora))
    records = (Path(source) / PRETRAINING_RECORD, Path(source).parent / CONFIG_NAME)
    config = next((json.loads(record.read_text()) for record in records if record.exists()), {})
    fields = [config[key] for key in ("data", "pretrain_data") if config.get(key)]
    names = [name for field in fields for name in ([field] if isinstance(field, str) else field)]
    known = {"synthetic", *LOTSA_MIXTURES, *entries(), *pools()}
    bases = {name.partition("=")[0] for name in names}
    if not names or any(base not in known and not base.startswith("synthetic/") for base in bases):
        return None
    return tuple(registered_sets(names))


def _find(name: str) -> str:
    """The folder or hub id that a name stands for."""
    if name in shipped():
        return str(SHIPPED / name)
    for folder in (Path(name), Path(name) / "model"):
        if (folder / "model.safetensors").exists():
            return str(folder)
    if Path(name).exists() or "/" not in name or name.startswith((".", "/")):
        raise ValueError(_missing(name))
    return name


def _missing(name: str) -> str:
    near = get_close_matches(name, [*CLASSICAL, *shipped()], n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return (
        f"there is no model {name!r}{hint} Classical forecasters: {', '.join(CLASSICAL)}. "
        f"Shipped checkpoints: {', '.join(shipped()) or 'none'}. Else give a folder with {CONFIG_NAME} and "
        "model.safetensors, a run's directory of a trained model, or the id of a model on the hub, 'owner/name'"
    )
