"""Drafts of every kind for one target, by name, each distilled in a directory of its own."""

from dataclasses import replace

import torch

from tsfm_lab.models.early_exit import early_exit
from tsfm_lab.models.feature_draft import FeatureDraft
from tsfm_lab.models.linear_forecaster import LinearForecaster
from tsfm_lab.models.patch_forecaster import PatchForecaster
from tsfm_lab.models.stu_forecaster import STUForecaster
from tsfm_lab.models.timer_xl import TimerXL
from tsfm_lab.runs import RunDirectory
from tsfm_lab.training.timer_config import TimerConfig
from tsfm_lab.training.timer_stages import distill_draft, make_draft

KINDS = ("timer_xl_draft", "timer", "ttm", "early_exit:<layers>", "feature", "linear", "stu")


def make_draft_of_kind(kind: str, config: TimerConfig, target: TimerXL) -> PatchForecaster:
    """An untrained draft: timer_xl_draft, timer and ttm as the stages make them; the others of the draft's sizes.

    early_exit:<layers> keeps so many of the target's layers, feature reads its features, linear reads the context
    (config.norm_prefix_len where the windows go on behind it), stu has spectral layers.

    Raises
    ------
    ValueError: for an unknown kind.
    """
    torch.manual_seed(config.seed)
    context = config.norm_prefix_len or config.seq_len
    sizes = {name: getattr(config, name) for name in ("input_token_len", "output_token_len", "use_norm")}
    if kind in ("timer_xl_draft", "timer", "ttm"):
        return make_draft(replace(config, draft_model=kind, seq_len=context if kind == "ttm" else config.seq_len))
    name, _, layers = kind.partition(":")
    if name == "early_exit" and layers.isdecimal():
        return early_exit(target, int(layers))
    if kind == "linear":
        return LinearForecaster(context // config.input_token_len, **sizes)
    scaled = make_draft(replace(config, draft_model="timer_xl_draft")).hyperparameters
    if kind == "feature":
        return FeatureDraft.of(target, hidden=scaled["d_model"])
    if kind == "stu":
        widths = {name: scaled[name] for name in ("d_model", "d_ff", "e_layers")}
        return STUForecaster(**sizes, **widths, dropout=config.dropout_of_draft)
    raise ValueError(f"draft must be one of {', '.join(KINDS)}, got {kind!r}")


def distill_draft_of_kind(kind: str, config: TimerConfig, run: RunDirectory, target: TimerXL) -> PatchForecaster:
    """`make_draft_of_kind`, distilled from the target on config.data in run/draft-<kind>."""
    draft = make_draft_of_kind(kind, config, target)
    return distill_draft(config, run, draft, target, f"draft-{kind.replace(':', '-')}")
