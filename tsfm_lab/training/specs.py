"""The models of an experiment by name: "moirai", "hybrid", or a variant, "moirai_hybrid+num_eigh=8"."""

import json
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch

from tsfm_lab.models import MODELS
from tsfm_lab.models.moirai_hybrid import matched_stu_d_ff
from tsfm_lab.training.presets.pretrain_stu import PretrainStu
from tsfm_lab.training.pretrain import MoiraiHybridPretrain, MoiraiPretrain
from tsfm_lab.training.pretrain_moirai2 import Moirai2HybridPretrain, Moirai2Pretrain
from tsfm_lab.training.pretrain_moirai_moe import MoiraiMoEHybridPretrain, MoiraiMoEPretrain


@dataclass(frozen=True)
class Kind:
    """How the models of one `model_type` are trained."""

    pretraining: type[MoiraiPretrain]
    task: str  # what the loss is of; losses of other tasks do not compare
    patch_sizes: tuple[int, ...] | None = None  # steps, where the architecture fixes them; None: the preset's


KINDS = {
    "moirai": Kind(MoiraiPretrain, "masked patches"),
    "moirai_hybrid": Kind(MoiraiHybridPretrain, "masked patches"),
    "moirai_moe": Kind(MoiraiMoEPretrain, "next patch"),
    "moirai_moe_hybrid": Kind(MoiraiMoEHybridPretrain, "next patch"),
    "moirai2": Kind(Moirai2Pretrain, "quantiles of the next patches", (16,)),
    "moirai2_hybrid": Kind(Moirai2HybridPretrain, "quantiles of the next patches", (16,)),
}
# a linear router can be trained from nothing; centroids need a trained MOIRAI, see `experiment.train`
SHORT_NAMES = {
    "hybrid": "moirai_hybrid",
    "moe": "moirai_moe+router=linear",
    "moe_hybrid": "moirai_moe_hybrid+router=linear",
}


def parse_spec(spec: str) -> tuple[str, dict[str, Any]]:
    """Model type and constructor's options: "hybrid+causal=false" -> ("moirai_hybrid", {"causal": False}).

    Raises ValueError for an unknown model or an entry without "=".
    """
    name, *options = spec.split("+")
    model_type, *implied = SHORT_NAMES.get(name, name).split("+")
    options = [*implied, *options]
    if model_type not in KINDS:
        raise ValueError(f"model must be one of {', '.join((*KINDS, *SHORT_NAMES))}, got {name!r}")
    pairs = [option.partition("=") for option in options]
    if not all(name and equals for name, equals, _ in pairs):
        raise ValueError(f"a variant is written {model_type}+option=value, got {spec!r}")
    return model_type, {name: _value(text) for name, _, text in pairs}


def patch_sizes_of(spec: str, config: PretrainStu) -> tuple[int, ...]:
    """Steps; of a model and of its batches: by its spec, "moe+patch_sizes=[16]", its architecture or the preset."""
    model_type, options = parse_spec(spec)
    return tuple(options.get("patch_sizes", KINDS[model_type].patch_sizes or config.patch_sizes))


def same_task(first: str, second: str) -> bool:
    """Whether the losses of two models compare: same batches, and what is predicted from what."""
    (one, options), (other, others) = parse_spec(first), parse_spec(second)
    return KINDS[one].task == KINDS[other].task and options.get("patch_sizes") == others.get("patch_sizes")


def make_pretraining(spec: str, config: PretrainStu, *, seed: int, max_steps: int | None = None) -> MoiraiPretrain:
    """The Lightning module of a model; equal specs and seeds have equal weights.

    spec: see `parse_spec`; the option match_parameters=true widens the hybrid to the baseline's count.
    max_steps: of this run, where it is not the configuration's; the warm-up is the same share of it.
    Raises ValueError for an option that the model does not have.
    """
    model_type, options = parse_spec(spec)
    kind = KINDS[model_type]
    sizes = {name: getattr(config, name) for name in ("d_model", "num_layers", "max_seq_len")}
    sizes["patch_sizes"] = patch_sizes_of(spec, config)
    options.pop("patch_sizes", None)
    if "patch_size" in signature(MODELS[model_type]).parameters:  # an architecture of one patch size
        (sizes["patch_size"],) = sizes.pop("patch_sizes")
    if options.pop("match_parameters", False):
        names = ("num_eigh", "branches", "causal")
        options["stu_d_ff"] = matched_stu_d_ff(config.d_model, **{n: options[n] for n in names if n in options})
    torch.manual_seed(seed)
    try:
        module = MODELS[model_type].from_preset("small", **sizes, **options)
    except TypeError as error:
        raise ValueError(f"{spec!r}: {error}") from error
    steps, fraction = max_steps or config.max_steps, config.warmup_fraction
    if config.warmup_steps is not None:
        fraction = config.warmup_steps / config.max_steps
    return kind.pretraining(
        module,
        max_steps=steps,
        warmup_steps=round(fraction * steps),
        lr=config.lr,
        weight_decay=config.weight_decay,
        gradient_clip=config.gradient_clip,
        micro_rows=config.micro_rows,
        seed=seed,
    )


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
