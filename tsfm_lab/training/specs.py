"""The models of an experiment by name: "moirai", "moirai_hybrid", or a variant, "moirai_hybrid+num_eigh=8"."""

import json
from typing import Any

import torch

from tsfm_lab.models import MODELS
from tsfm_lab.models.moirai_hybrid import matched_stu_d_ff
from tsfm_lab.training.presets.pretrain_stu import PretrainStu
from tsfm_lab.training.pretrain import MoiraiHybridPretrain, MoiraiPretrain

PRETRAINING = {"moirai": MoiraiPretrain, "moirai_hybrid": MoiraiHybridPretrain}


def parse_spec(spec: str) -> tuple[str, dict[str, Any]]:
    """Model type and constructor's options: "moirai_hybrid+causal=false" -> ("moirai_hybrid", {"causal": False}).

    Raises ValueError for an unknown model or an entry without "=".
    """
    model_type, *options = spec.split("+")
    if model_type not in PRETRAINING:
        raise ValueError(f"model must be one of {', '.join(PRETRAINING)}, got {model_type!r}")
    pairs = [option.partition("=") for option in options]
    if not all(name and equals for name, equals, _ in pairs):
        raise ValueError(f"a variant is written {model_type}+option=value, got {spec!r}")
    return model_type, {name: _value(text) for name, _, text in pairs}


def make_pretraining(spec: str, config: PretrainStu, *, seed: int, max_steps: int | None = None) -> MoiraiPretrain:
    """The Lightning module of a model; equal specs and seeds have equal weights.

    spec: see `parse_spec`; the option match_parameters=true widens the hybrid to the baseline's count.
    max_steps: of this run, where it is not the configuration's; the warm-up is the same share of it.
    Raises ValueError for an option that the model does not have.
    """
    model_type, options = parse_spec(spec)
    sizes = {name: getattr(config, name) for name in ("d_model", "num_layers", "patch_sizes", "max_seq_len")}
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
    return PRETRAINING[model_type](
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
