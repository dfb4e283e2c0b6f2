"""Draft of Timer-XL: its architecture with every size scaled down, forecasting a mean and, if asked, a variance."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from tsfm_lab.models.patch_forecaster import TokenLaw
from tsfm_lab.models.timer_xl import TimerXL, clamp_log_variance, log_variance_head


def scale_width(
    d_model: int, n_heads: int, scale_d_model: float | None, scale_n_heads: float | None
) -> tuple[int, int]:
    """(d_model, n_heads) of a draft: near the scaled sizes, with a head dimension that is a multiple of 4.

    Minimises |e·h − d| + 20·|h − H| over h = max(1, H−2) … H+2 with e = max(4, d // h // 4 · 4), where d and H are the
    scaled sizes; the first of equals wins. A scale of None leaves its size alone, and with both None nothing changes.
    """
    if scale_d_model is None and scale_n_heads is None:
        return d_model, n_heads
    d = round(d_model * (1.0 if scale_d_model is None else scale_d_model))
    target_heads = round(n_heads * (1.0 if scale_n_heads is None else scale_n_heads))

    def width(heads: int) -> int:
        return max(4, d // heads // 4 * 4) * heads

    candidates = range(max(1, target_heads - 2), target_heads + 3)
    heads = min(candidates, key=lambda h: abs(width(h) - d) + 20 * abs(h - target_heads))
    return max(16, width(heads)), heads


class TimerXLDraft(TimerXL):
    """A small Timer-XL whose sizes are a target's times four separate scales (the rule of STRIDE, arXiv:2511.18191).

    .25 of (1024, 8, 2048, 8) gives d_model 256, 2 heads, d_ff 512, 2 layers.

    Parameters
    ----------
    d_model, n_heads, d_ff, e_layers: the **target's** sizes.
    draft_scale_*: the draft's share of each; None leaves it alone.
    draft_stochastic: the heads are `head_mean` and `head_logvar`, so that the draft is a Gaussian with its own
        variance for every step; else `head`, a point forecast.
    The others are TimerXL's. `hyperparameters` holds the scaled sizes.

    Raises
    ------
    ValueError: when a scale is not positive, or the scaled sizes cannot be rotated (width 16 and three heads, say).
    """

    model_type: ClassVar[str] = "timer_xl_draft"

    def __init__(
        self,
        input_token_len: int = 96,
        output_token_len: int = 96,
        d_model: int = 1024,
        n_heads: int = 8,
        d_ff: int = 2048,
        e_layers: int = 8,
        draft_scale_d_model: float | None = 0.25,
        draft_scale_n_heads: float | None = 0.25,
        draft_scale_d_ff: float | None = 0.25,
        draft_scale_e_layers: float | None = 0.25,
        draft_stochastic: bool = False,
        dropout: float = 0.1,
        activation: str = "relu",
        covariate: bool = False,
        use_norm: bool = True,
    ):
        scales = (draft_scale_d_model, draft_scale_n_heads, draft_scale_d_ff, draft_scale_e_layers)
        if any(scale is not None and scale <= 0 for scale in scales):
            raise ValueError(f"a draft's scales must be positive or None, got {scales}")
        width, heads = scale_width(d_model, n_heads, draft_scale_d_model, draft_scale_n_heads)
        hyperparameters = {
            "d_model": width,
            "n_heads": heads,
            "d_ff": d_ff if draft_scale_d_ff is None else max(64, round(d_ff * draft_scale_d_ff)),
            "e_layers": e_layers if draft_scale_e_layers is None else max(1, round(e_layers * draft_scale_e_layers)),
        }
        super().__init__(
            input_token_len,
            output_token_len,
            **hyperparameters,
            dropout=dropout,
            activation=activation,
            covariate=covariate,
            use_norm=use_norm,
        )
        self.hyperparameters = hyperparameters
        self.stochastic = draft_stochastic
        if draft_stochastic:
            del self.head
            self.head_mean = nn.Linear(width, output_token_len)
            self.head_logvar = log_variance_head(width, output_token_len)

    def token_law(self, features: Tensor) -> TokenLaw:
        if not self.stochastic:
            return TokenLaw(self.head(features), None)
        return TokenLaw(self.head_mean(features), clamp_log_variance(self.head_logvar(features)))

    def set_sigma(self, sigma: Tensor, correlation: Tensor | None = None) -> None:
        """Refused: a draft with a head for its variance has one, another is given the target's when it is used."""
        raise ValueError("a draft has no sigma of its own: share the target's, or use draft_stochastic=True")
