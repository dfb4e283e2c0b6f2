"""The trained models of the speculative bench: a target on ETTh1 and its drafts, made once and kept among the runs."""

from __future__ import annotations

from dataclasses import replace

from tsfm_lab.models.patch_forecaster import PatchForecaster
from tsfm_lab.models.timer_xl import TimerXL
from tsfm_lab.runs import open_run
from tsfm_lab.training.timer_config import SpeculativeConfig
from tsfm_lab.training.timer_drafts import distill_draft_of_kind
from tsfm_lab.training.timer_stages import distill_draft, make_draft, refine_target, train_target, with_sigma

CONTEXT = 672  # steps
HORIZON = 768  # steps

# A cached roll-out reads 7 tokens of context and 7 of its own, all in the statistics of the first 7: so are the windows
# that the target learns on.
BENCH_CONFIG = SpeculativeConfig(
    scale="bench",
    data="ETTh1",
    seq_len=CONTEXT + HORIZON - 96,
    norm_prefix_len=CONTEXT,
    test_pred_len=(HORIZON,),
    max_val_windows=512,
    d_model=256,
    n_heads=4,
    d_ff=512,
    e_layers=8,
    batch_size=32,
    epoch_steps=100,
    train_epochs=10,
    pretrain_epochs=0,
    distill_epochs=10,
    learning_rate=5e-4,
    draft_learning_rate=2e-3,
    draft_dropout=0.0,
    draft_stochastic=False,
    sigma="correlated",
    refine_epochs=4,
    refine_learning_rate=2e-4,
    draft_windows=6144,
    draft_epoch_steps=200,
    valid_last=False,
    device="cpu",
)

DRAFTS = ("timer_xl_draft", "early_exit:4", "early_exit:2", "feature", "linear", "stu", "ttm", "timer")
PUBLISHED = "stochastic"  # the source's: a .25 draft with a variance of its own, distilled on the data


def load_target() -> TimerXL:
    """The target with its own covariance, calibrated on validation; trained where it is not yet."""
    run = open_run("bench_speculative", BENCH_CONFIG)
    return refine_target(BENCH_CONFIG, run, with_sigma(BENCH_CONFIG, train_target(BENCH_CONFIG, run)))


def load_draft(kind: str, target: TimerXL) -> PatchForecaster:
    """A draft of this target, one of `DRAFTS` or `PUBLISHED`; distilled where it is not yet."""
    run = open_run("bench_speculative", BENCH_CONFIG)
    if kind != PUBLISHED:
        return distill_draft_of_kind(kind, BENCH_CONFIG, run, target)
    published = replace(BENCH_CONFIG, draft_windows=0, draft_stochastic=True, draft_dropout=0.1)
    return distill_draft(published, run, make_draft(published), target, f"draft-{PUBLISHED}")


def window_sizes(horizon: int) -> dict[str, int | bool]:
    """Windows of one context and the `horizon` steps after it."""
    return {"seq_len": CONTEXT, "input_token_len": 96, "output_token_len": horizon, "autoregressive": False}
