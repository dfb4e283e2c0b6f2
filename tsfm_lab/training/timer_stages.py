"""The stages of a Timer experiment, each in a directory of its own: train a target, pretrain a draft, distil it."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from tsfm_lab.models.patch_forecaster import PatchForecaster
from tsfm_lab.models.timer import Timer
from tsfm_lab.models.timer_xl import TimerXL
from tsfm_lab.models.timer_xl_draft import TimerXLDraft
from tsfm_lab.models.ttm import TinyTimeMixer
from tsfm_lab.runs import RunDirectory
from tsfm_lab.training.calibration import calibrate_sigma
from tsfm_lab.training.timer_config import TimerConfig
from tsfm_lab.training.timer_data import WindowData, make_windows, some_windows
from tsfm_lab.training.timer_task import Optimisation, train_timer

TARGETS = {"timer_xl": TimerXL, "timer": Timer}


def make_target(config: TimerConfig) -> PatchForecaster:
    """An untrained target of the configured class and sizes; its weights depend on the seed."""
    torch.manual_seed(config.seed)
    return TARGETS[config.model](**_target_sizes(config))


def make_draft(config: TimerConfig) -> PatchForecaster:
    """An untrained draft: a scaled-down Timer-XL, a Timer of the same sizes, or a mixer of the same width and depth."""
    torch.manual_seed(config.seed)
    draft = TimerXLDraft(**_draft_sizes(config))
    sizes = {"input_token_len": config.input_token_len, "output_token_len": config.output_token_len}
    shared = {**sizes, "dropout": config.dropout, "use_norm": config.use_norm}
    if config.draft_model == "timer":
        return Timer(**shared, **draft.hyperparameters, activation=config.activation)
    if config.draft_model == "ttm":
        width, layers = draft.hyperparameters["d_model"], draft.hyperparameters["e_layers"]
        return TinyTimeMixer(config.seq_len, **shared, d_model=width, e_layers=layers)
    return draft


def train_target(config: TimerConfig, run: RunDirectory) -> PatchForecaster:
    """The target with its best weights on validation: trained on config.data in run/target, or the given checkpoint."""
    checkpoint = config.distill_target_ckpt if config.is_training else config.test_dir
    if checkpoint:
        return load_checkpoint(checkpoint, make_target(config), config.test_file_name)
    data, validation = _data(config, config.data)
    how = _optimisation(config, config.train_epochs, config.learning_rate)
    return train_timer(
        make_target(config), data, validation, run.child("target"), how, device=config.device, title="target"
    )


def with_sigma(config: TimerConfig, target: TimerXL) -> TimerXL:
    """The target with the σ that makes its forecast a law: its learned one, or one from its errors on validation."""
    return target if config.sigma == "learned" else calibrate_sigma(target, validation_batches(config))


def pretrain_draft(config: TimerConfig, run: RunDirectory) -> PatchForecaster:
    """A draft pretrained on config.pretrain_data in run/draft-pretrained, or the given one, or an untrained one.

    A stochastic draft's variance is not trained here: the loss is the squared error of its mean.
    """
    draft = make_draft(config)
    if config.pretrain_model_path:
        return load_checkpoint(config.pretrain_model_path, draft, config.test_file_name)
    if not config.pretrain_epochs or not config.is_training:
        return draft
    data, validation = _data(config, config.pretrain_data, multivariate=False)
    how = _optimisation(config, config.pretrain_epochs, config.draft_learning_rate)
    child = run.child("draft-pretrained")
    return train_timer(draft, data, validation, child, how, device=config.device, title="draft, pretraining")


def distill_draft(
    config: TimerConfig,
    run: RunDirectory,
    draft: PatchForecaster,
    target: PatchForecaster,
    name: str = "draft-distilled",
) -> PatchForecaster:
    """A copy of `draft` distilled from `target` on config.data in run/<name>; without config.distill, trained on it.

    Without config.is_training the copy is left as it is, to be tested.
    """
    if not config.is_training:
        return deepcopy(draft).eval()
    data, validation = _data(config, config.data)
    how = _optimisation(config, config.distill_epochs, config.draft_learning_rate)
    noise, var_reg = config.draft_teacher_noise, config.draft_nll_var_reg
    child = run.child(name, draft_teacher_noise=noise, draft_nll_var_reg=var_reg)
    teaching = {"teacher": target, "teacher_noise": noise, "var_reg": var_reg, "input_noise": config.draft_input_noise}
    teaching = teaching if config.distill else {}
    return train_timer(deepcopy(draft), data, validation, child, how, **teaching, device=config.device, title=name)


def load_checkpoint(path: str, model: PatchForecaster, file_name: str = "checkpoint.pth") -> PatchForecaster:
    """A checkpoint of the model's class: a folder of `save_pretrained`, or an OpenLTM .pth, by its path or its folder.

    Raises
    ------
    ValueError: when a .pth does not fit the model's sizes, or a token length differs from the model's.
    """
    place = Path(path)
    if (place / "config.json").exists() or not place.exists():  # a name of the hub, where there is no such place
        found = type(model).from_pretrained(path)
    else:
        found = type(model).from_pth(place / file_name if place.is_dir() else place, **model.config)
    for name in ("input_token_len", "output_token_len"):
        if getattr(found, name) != getattr(model, name):
            raise ValueError(f"{path} has {name} {getattr(found, name)}, the configuration {getattr(model, name)}")
    return found


def validation_batches(config: TimerConfig) -> DataLoader:
    """The validation windows of config.data, as training uses them."""
    return _data(config, config.data)[1]


def _data(config: TimerConfig, names: str | tuple[str, ...], **options: Any) -> tuple[WindowData, DataLoader]:
    sizes = {name: getattr(config, name) for name in ("seq_len", "input_token_len", "output_token_len")}
    sizes |= {"multivariate": config.multivariate, "seed": config.seed, **options}
    fraction = {} if config.subset_rand_ratio == 1 else {"fraction": config.subset_rand_ratio}
    train = make_windows(names, "train", **sizes, **fraction)
    data = WindowData(train, config.batch_size, seed=config.seed, num_workers=config.num_workers)
    val = make_windows(names, "val", **sizes)
    return data, some_windows(val, config.max_val_windows, config.batch_size)


def _optimisation(config: TimerConfig, epochs: int, learning_rate: float) -> Optimisation:
    shared = ("epoch_steps", "batch_size", "weight_decay", "cosine", "tmax", "lr_decay", "patience")
    shared += ("norm_prefix_len", "valid_last", "seed")
    return Optimisation(epochs=epochs, learning_rate=learning_rate, **{name: getattr(config, name) for name in shared})


def _target_sizes(config: TimerConfig) -> dict[str, Any]:
    names = ("input_token_len", "output_token_len", "d_model", "n_heads", "d_ff", "e_layers", "dropout", "activation")
    sizes = {name: getattr(config, name) for name in (*names, "use_norm")}
    if config.model != "timer_xl":
        return sizes
    return {**sizes, "covariate": config.covariate, "sigma": "learned" if config.sigma == "learned" else None}


def _draft_sizes(config: TimerConfig) -> dict[str, Any]:
    names = ("input_token_len", "output_token_len", "d_model", "n_heads", "d_ff", "e_layers", "dropout", "activation")
    scales = ("draft_scale_d_model", "draft_scale_n_heads", "draft_scale_d_ff", "draft_scale_e_layers")
    return {name: getattr(config, name) for name in (*names, *scales, "draft_stochastic", "covariate", "use_norm")}
