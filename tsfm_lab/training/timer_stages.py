"""The stages of a Timer experiment, each in a directory of its own: train a target, pretrain a draft, distil it."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch.utils.data import DataLoader, TensorDataset

from tsfm_lab.models.patch_forecaster import PatchForecaster
from tsfm_lab.models.timer import Timer
from tsfm_lab.models.timer_xl import TimerXL
from tsfm_lab.models.timer_xl_draft import TimerXLDraft
from tsfm_lab.models.ttm import TinyTimeMixer
from tsfm_lab.runs import RunDirectory
from tsfm_lab.runs.files import atomic_write
from tsfm_lab.training.calibration import calibrate_covariance, calibrate_sigma
from tsfm_lab.training.timer_config import TimerConfig
from tsfm_lab.training.timer_data import WindowData, make_windows, some_windows
from tsfm_lab.training.timer_draws import draw_windows
from tsfm_lab.training.timer_task import Optimisation, train_timer

CALIBRATION_WINDOWS = 2048  # at most
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
    shared = {**sizes, "dropout": config.dropout_of_draft, "use_norm": config.use_norm}
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
    """The target with what makes its forecast a law: a learned σ, or σ or a covariance from its validation errors."""
    if config.sigma == "learned":
        return target
    calibrate = calibrate_covariance if config.sigma == "correlated" else calibrate_sigma
    return calibrate(target, calibration_batches(config))


def refine_target(config: TimerConfig, run: RunDirectory, target: TimerXL) -> TimerXL:
    """A calibrated target trained on by MSE + δ²/p, δ under its correlated law, in run/target-refined, calibrated anew.

    Squared error weighs a patch's common error alone, as it is so much the largest; δ² weighs every
    direction of the patch by its own variance. Without config.refine_epochs, or config.is_training, the target itself.
    """
    if not (config.refine_epochs and config.is_training):
        return target
    data, validation = _data(config, config.data)
    how = _optimisation(config, config.refine_epochs, config.refine_learning_rate)
    child = run.child("target-refined")
    refined = train_timer(
        deepcopy(target), data, validation, child, how, device=config.device, title="target, by its law"
    )
    return with_sigma(config, refined)


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
    how = _optimisation(config, config.distill_epochs, config.draft_learning_rate, config.draft_epoch_steps)
    noise, var_reg = config.draft_teacher_noise, config.draft_nll_var_reg
    child = run.child(name, draft_teacher_noise=noise, draft_nll_var_reg=var_reg)
    if config.distill and config.draft_windows:
        data = WindowData(
            _drawn(config, run, target, "train", config.draft_windows), config.batch_size, seed=config.seed
        )
        validation = some_windows(_drawn(config, run, target, "val", config.max_val_windows), None, config.batch_size)
        teaching = {"drawn_by": target}
    else:
        data, validation = _data(config, config.data)
        teaching = {"teacher": target, "teacher_noise": noise, "var_reg": var_reg} if config.distill else {}
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


def calibration_batches(config: TimerConfig) -> DataLoader:
    """Validation windows of the context that is forecast from, and the patch after each."""
    sizes = {**_window_sizes(config), "seq_len": config.context_len, "autoregressive": False}
    windows = make_windows(config.data, "val", multivariate=config.multivariate, **sizes)
    return some_windows(windows, CALIBRATION_WINDOWS, 64)


def _window_sizes(config: TimerConfig) -> dict[str, int]:
    return {name: getattr(config, name) for name in ("seq_len", "input_token_len", "output_token_len")}


def _data(config: TimerConfig, names: str | tuple[str, ...], **options: Any) -> tuple[WindowData, DataLoader]:
    sizes = _window_sizes(config)
    sizes |= {"multivariate": config.multivariate, "seed": config.seed, **options}
    fraction = {} if config.subset_rand_ratio == 1 else {"fraction": config.subset_rand_ratio}
    train = make_windows(names, "train", **sizes, **fraction)
    data = WindowData(train, config.batch_size, seed=config.seed, num_workers=config.num_workers)
    val = make_windows(names, "val", **sizes)
    return data, some_windows(val, config.max_val_windows, config.batch_size)


def _drawn(config: TimerConfig, run: RunDirectory, target: TimerXL, part: str, count: int | None) -> TensorDataset:
    """Windows of a part of the data that the target drew, kept in the run's directory for all its drafts."""
    file = run.path / f"drawn-{part}.safetensors"
    if not file.exists():
        windows = make_windows(config.data, part, multivariate=False, **_window_sizes(config))
        count = len(windows) if count is None else count
        x, y = draw_windows(target.cpu(), windows, count, context=config.norm_prefix_len, seed=config.seed).tensors
        with atomic_write(file, "wb") as stream:
            stream.write(save({"x": x, "y": y}))
    drawn = load_file(file)
    return TensorDataset(drawn["x"], drawn["y"])


def _optimisation(
    config: TimerConfig, epochs: int, learning_rate: float, epoch_steps: int | None = None
) -> Optimisation:
    shared = ("batch_size", "weight_decay", "cosine", "tmax", "lr_decay", "patience")
    shared += ("norm_prefix_len", "valid_last", "seed")
    steps = epoch_steps or config.epoch_steps
    values = {name: getattr(config, name) for name in shared}
    return Optimisation(epochs=epochs, epoch_steps=steps, learning_rate=learning_rate, **values)


def _target_sizes(config: TimerConfig) -> dict[str, Any]:
    names = ("input_token_len", "output_token_len", "d_model", "n_heads", "d_ff", "e_layers", "dropout", "activation")
    sizes = {name: getattr(config, name) for name in (*names, "use_norm")}
    if config.model != "timer_xl":
        return sizes
    return {**sizes, "covariate": config.covariate, "sigma": "learned" if config.sigma == "learned" else None}


def _draft_sizes(config: TimerConfig) -> dict[str, Any]:
    names = ("input_token_len", "output_token_len", "d_model", "n_heads", "d_ff", "e_layers", "activation")
    scales = ("draft_scale_d_model", "draft_scale_n_heads", "draft_scale_d_ff", "draft_scale_e_layers")
    sizes = {name: getattr(config, name) for name in (*names, *scales, "draft_stochastic", "covariate", "use_norm")}
    return {**sizes, "dropout": config.dropout_of_draft}
