"""A small random target and a draft of every kind, which disagree often enough to be refused now and then."""

import torch

from tsfm_lab.models.early_exit import early_exit
from tsfm_lab.models.feature_draft import FeatureDraft
from tsfm_lab.models.linear_forecaster import LinearForecaster
from tsfm_lab.models.stu_forecaster import STUForecaster
from tsfm_lab.models.timer import Timer
from tsfm_lab.models.timer_xl import TimerXL
from tsfm_lab.models.timer_xl_draft import TimerXLDraft
from tsfm_lab.models.ttm import TinyTimeMixer

P = 4
TOKENS = {"input_token_len": P, "output_token_len": P}
KINDS = ("timer_xl_draft", "timer", "ttm", "early_exit", "feature", "linear", "stu")


def make_target(sigma=0.5, *, correlated=False, **options):
    torch.manual_seed(0)
    sizes = {**TOKENS, "d_model": 16, "n_heads": 2, "d_ff": 32, "e_layers": 3, **options}
    target = TimerXL(**sizes, sigma="learned" if sigma == "learned" else None).eval()
    if isinstance(sigma, float):
        correlation = 0.9 ** (torch.arange(P)[:, None] - torch.arange(P)).abs()
        target.set_sigma(torch.linspace(sigma, 1.5 * sigma, P), correlation if correlated else None)
    return target


def make_draft(kind, target, **options):
    torch.manual_seed(1)
    if kind == "timer_xl_draft":
        sizes = {"d_model": 32, "n_heads": 2, "d_ff": 32, "e_layers": 2, "draft_scale_d_model": 0.5}
        draft = TimerXLDraft(**TOKENS, **sizes, **options)
    elif kind == "early_exit":
        draft = early_exit(target, 2)
    elif kind == "feature":
        draft = FeatureDraft.of(target, hidden=8)
    else:
        draft = {
            "timer": lambda: Timer(**TOKENS, d_model=16, n_heads=2, d_ff=16, e_layers=1),
            "ttm": lambda: TinyTimeMixer(3 * P, P, P, d_model=16, e_layers=1, adaptive_levels=2, decoder_width=8),
            "linear": lambda: LinearForecaster(3, **TOKENS),
            "stu": lambda: STUForecaster(**TOKENS, d_model=16, d_ff=16, num_eigh=8),
        }[kind]()
    return draft.eval()


def make_context(batch=3, tokens=5):
    return 3 + 2 * torch.randn(batch, tokens * P, 1, generator=torch.Generator().manual_seed(2))
