"""A draft that reads its target's mind: the features behind the last forecast, and the patch that came of it."""

from __future__ import annotations

from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from tsfm_lab.models.patch_forecaster import CausalForecaster, PatchForecaster, Statistics, TokenLaw, merge_tokens


class FeatureDraft(PatchForecaster):
    """f̂_{n+1} = f_n + W₂ gelu(W₁ [f_n, x_{n+1}]), forecast W f̂_{n+1} + b; then from f̂_{n+1} and its own patch.

    f_n are the target's features of token n, from which it forecast patch n + 1; x_{n+1} is the patch that was drawn.
    The feature-level drafting of EAGLE (Li et al. 2024, arXiv:2401.15077) without attention: one small step a token.

    Parameters
    ----------
    d_model: the target's width. hidden: width of the step.
    The others are TimerXL's. `of` makes one for a target, `attach` gives a loaded one its target for training.
    """

    model_type: ClassVar[str] = "feature_draft"

    def __init__(
        self,
        input_token_len: int = 96,
        output_token_len: int = 96,
        d_model: int = 1024,
        hidden: int = 256,
        use_norm: bool = True,
    ):
        super().__init__()
        self.input_token_len, self.output_token_len, self.use_norm = input_token_len, output_token_len, use_norm
        self.linear1 = nn.Linear(d_model + input_token_len, hidden)
        self.linear2 = nn.Linear(hidden, d_model)
        self.head = nn.Linear(d_model, output_token_len)
        self._target: tuple[CausalForecaster, ...] = ()

    @classmethod
    def of(cls, target: CausalForecaster, hidden: int = 256) -> Self:
        """A draft for this target, whose head it begins with."""
        sizes = {name: getattr(target, name) for name in ("input_token_len", "output_token_len", "use_norm")}
        draft = cls(**sizes, d_model=target.head.in_features, hidden=hidden).attach(target)
        draft.head.load_state_dict(target.head.state_dict())
        return draft

    def attach(self, target: CausalForecaster) -> Self:
        """Take the features that `law` needs from this target; it is neither trained nor saved with the draft."""
        self._target = (target,)
        return self

    def step(self, features: Tensor, token: Tensor) -> Tensor:
        """Features of the next token: `features: (… d), token: (… p) -> (… d)`."""
        return features + self.linear2(F.gelu(self.linear1(torch.cat([features, token], dim=-1))))

    def token_law(self, features: Tensor) -> TokenLaw:
        """The law of the steps after a token, in normalised units: `(… d) -> (… p)`."""
        return TokenLaw(self.head(features), None)

    def law(self, x: Tensor, statistics: Statistics | None = None) -> TokenLaw:
        """Means after every token but the first, each one step from the target's features of the token before it.

        `x: (b t c) -> (b (n−1)·output_token_len c)`. Raises ValueError without a target or for a single token.
        """
        if not self._target:
            raise ValueError("a FeatureDraft needs its target's features: call attach(target)")
        x = self.whole_tokens(x)
        if x.shape[1] < 2 * self.input_token_len:
            raise ValueError(f"x must hold at least {2 * self.input_token_len} steps, two tokens, got {x.shape[1]}")
        statistics = statistics or self.statistics(x)
        tokens = rearrange(self.normalise(x, statistics), "b (n p) c -> (b c) n p", p=self.input_token_len)
        with torch.no_grad():
            features = self._target[0].encode_tokens(tokens[:, :-1])
        law = merge_tokens(self.token_law(self.step(features, tokens[:, 1:])), "(b c) n p -> b (n p) c", x.shape[2])
        return self.denormalise(law, statistics)
