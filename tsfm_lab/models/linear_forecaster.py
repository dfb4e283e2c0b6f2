"""The smallest draft: one linear map from the last few patches to the next."""

from __future__ import annotations

from typing import ClassVar

from einops import rearrange
from torch import Tensor, nn

from tsfm_lab.models.patch_forecaster import PatchForecaster, Statistics, TokenLaw


class LinearForecaster(PatchForecaster):
    """x̂_{n+1} = W [x_{n−w+1}, …, x_n] + b on patches of P normalised values, after every patch from the w-th on.

    Parameters
    ----------
    num_tokens: w, patches read.
    input_token_len, output_token_len: of a patch and of the forecast, steps.
    use_norm: as TimerXL's.

    Raises
    ------
    ValueError: when num_tokens is not positive.
    """

    model_type: ClassVar[str] = "linear"

    def __init__(
        self, num_tokens: int = 7, input_token_len: int = 96, output_token_len: int = 96, use_norm: bool = True
    ):
        super().__init__()
        if num_tokens < 1:
            raise ValueError(f"num_tokens must be at least 1, got {num_tokens}")
        self.input_token_len, self.output_token_len, self.use_norm = input_token_len, output_token_len, use_norm
        self.context_length = num_tokens * input_token_len  # steps
        self.head = nn.Linear(self.context_length, output_token_len)

    def law(self, x: Tensor, statistics: Statistics | None = None) -> TokenLaw:
        """Means after each patch from the w-th on: `x: (b t c) -> (b (n−w+1)·output_token_len c)`.

        Raises ValueError when x is shorter than w patches.
        """
        x = self.whole_tokens(x)
        if x.shape[1] < self.context_length:
            raise ValueError(f"x must hold at least {self.context_length} steps, got {x.shape[1]}")
        statistics = statistics or self.statistics(x)
        windows = self.normalise(x, statistics).unfold(1, self.context_length, self.input_token_len)  # (b n c t)
        return self.denormalise(TokenLaw(rearrange(self.head(windows), "b n c p -> b (n p) c"), None), statistics)
