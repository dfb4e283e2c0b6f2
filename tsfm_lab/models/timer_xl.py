"""Timer-XL: a decoder-only transformer over patches, with attention over time and variates."""

from __future__ import annotations

from typing import ClassVar

import torch
from einops import rearrange
from torch import Tensor, nn

from tsfm_lab.models.patch_forecaster import CausalForecaster, Statistics, TokenLaw, merge_tokens
from tsfm_lab.nn.kv_cache import KVCache
from tsfm_lab.nn.noise_scale import NoiseScale, PatchScale, StepScale
from tsfm_lab.nn.rotary import RotaryEmbedding
from tsfm_lab.nn.timer_layers import (
    TimerAttention,
    TimerBlocks,
    TimerLayer,
    VariateBias,
    activation_function,
    covariate_mask,
    multivariate_mask,
)

SIGMAS = (None, "calibrated", "correlated", "learned")


class TimerXL(CausalForecaster):
    """Next-token forecaster: patches of P values → causal transformer → the `output_token_len` values after each.

    Liu et al. 2025, "Timer-XL", arXiv:2410.04803, Eqs. 3–8. State-dict names and shapes are those of OpenLTM.

    Parameters
    ----------
    input_token_len, output_token_len: what a token reads and forecasts, in steps.
    activation: "relu" or "gelu".
    covariate: the last variate is forecast from all tokens of the others; else every variate from all the past.
    use_norm: each window is normalised by its own mean and standard deviation (`statistics`) and the forecast put back.
    sigma: what makes the forecast a law: None, a point forecast; "calibrated", a standard deviation for each of the
        output_token_len steps ahead, in units of the window's (buffer `sigma`, ones until calibrated on validation);
        "correlated", these and how the steps err together, Σ = diag(σ) C Cᵀ diag(σ) (buffer `correlation_factor` C,
        lower triangular with rows of length 1); "learned", a log-variance from the token's features (`head_logvar`).

    Raises
    ------
    ValueError: when d_model is not n_heads times a multiple of 4 (half of a head is rotated in pairs), or a name is
        unknown.
    """

    model_type: ClassVar[str] = "timer_xl"

    def __init__(
        self,
        input_token_len: int = 96,
        output_token_len: int = 96,
        d_model: int = 1024,
        n_heads: int = 8,
        d_ff: int = 2048,
        e_layers: int = 8,
        dropout: float = 0.1,
        activation: str = "relu",
        covariate: bool = False,
        use_norm: bool = True,
        sigma: str | None = None,
    ):
        super().__init__()
        if d_model % n_heads or d_model // n_heads % 4:
            raise ValueError(f"d_model must be n_heads={n_heads} times a multiple of 4, got {d_model}")
        if sigma not in SIGMAS:
            raise ValueError(f"sigma must be one of {SIGMAS}, got {sigma!r}")
        self.input_token_len, self.output_token_len = input_token_len, output_token_len
        self.covariate, self.use_norm = covariate, use_norm
        self.blocks_shape = (e_layers, n_heads, d_model // n_heads)
        self.embedding = nn.Linear(input_token_len, d_model)
        act = activation_function(activation)
        attentions = [TimerAttention(d_model, n_heads, dropout, VariateBias(n_heads)) for _ in range(e_layers)]
        layers = [TimerLayer(attention, d_model, d_ff, dropout, act) for attention in attentions]
        self.blocks = TimerBlocks(layers, d_model, RotaryEmbedding(d_model // n_heads, fraction=0.5))
        self.head = nn.Linear(d_model, output_token_len)
        if sigma in ("calibrated", "correlated"):
            self.register_buffer("sigma", torch.ones(output_token_len))
        if sigma == "correlated":
            self.register_buffer("correlation_factor", torch.eye(output_token_len))
        if sigma == "learned":
            self.head_logvar = log_variance_head(d_model, output_token_len)

    def law(self, x: Tensor, statistics: Statistics | None = None) -> TokenLaw:
        """The law of the steps after each token, in the data's units: `x: (b t c) -> (b n·output_token_len c)`."""
        x = self.whole_tokens(x)
        statistics = statistics or self.statistics(x)
        c = x.shape[2]
        tokens = rearrange(self.normalise(x, statistics), "b (n p) c -> b (c n) p", p=self.input_token_len)
        features = self.blocks(self.embedding(tokens), self._masks(c, tokens.shape[1] // c, x.device))
        return self.denormalise(merge_tokens(self.token_law(features), "b (c n) p -> b (n p) c", c), statistics)

    def _masks(self, num_variates: int, num_tokens: int, device: torch.device) -> list[Tensor] | None:
        if num_variates == 1:  # a bias that is one for all keys cancels in the softmax: plain causal attention
            return None
        make_mask = covariate_mask if self.covariate else multivariate_mask
        mask = make_mask(num_variates, num_tokens, device)
        biases = [layer.attention.inner_attention for layer in self.blocks.attn_layers]
        head_dim = self.blocks_shape[-1]
        return [bias(num_variates, num_tokens, mask, head_dim) for bias in biases]

    def encode_tokens(self, tokens: Tensor, cache: KVCache | None = None) -> Tensor:
        return self.blocks(self.embedding(tokens), cache=cache)

    def token_law(self, features: Tensor) -> TokenLaw:
        mean = self.head(features)
        if hasattr(self, "head_logvar"):
            return TokenLaw(mean, clamp_log_variance(self.head_logvar(features)))
        if hasattr(self, "sigma"):
            return TokenLaw(mean, 2 * self.sigma.log().expand_as(mean))
        return TokenLaw(mean, None)

    @property
    def noise_scale(self) -> NoiseScale | None:
        """What a patch's white noise is multiplied by, in units of the window's; None: a point forecast or learned."""
        if not hasattr(self, "sigma"):
            return None
        if not hasattr(self, "correlation_factor"):
            return StepScale(self.sigma)
        return PatchScale(self.sigma[:, None] * self.correlation_factor)

    def set_sigma(self, sigma: Tensor, correlation: Tensor | None = None) -> None:
        """Make the forecast a law with these standard deviations in units of the window's: `sigma: (output_token_len)`.

        correlation: (p p), of the steps' errors, p = output_token_len; None: they are independent.

        Raises
        ------
        ValueError: when a value is not positive, a shape is another, the correlation is no positive definite matrix
        with a diagonal of ones, or the model has a learned variance.
        """
        p = self.output_token_len
        if sigma.shape != (p,) or not (sigma > 0).all():
            raise ValueError(f"sigma must be {p} positive values, got {sigma.tolist()}")
        if hasattr(self, "head_logvar"):
            raise ValueError("this model has a learned variance; build it with sigma=None or 'calibrated'")
        weight = self.head.weight
        factor = None if correlation is None else _factor(correlation.detach(), p).to(weight)
        self.register_buffer("sigma", sigma.detach().to(weight))
        if hasattr(self, "correlation_factor"):
            del self.correlation_factor
        if factor is not None:
            self.register_buffer("correlation_factor", factor)
        self._hub_mixin_config["sigma"] = "calibrated" if correlation is None else "correlated"


def _factor(correlation: Tensor, p: int) -> Tensor:
    """C of a correlation matrix C Cᵀ: (p p)."""
    if correlation.shape != (p, p) or not torch.allclose(correlation.diagonal(), correlation.new_ones(p), atol=1e-5):
        raise ValueError(f"correlation must be ({p} {p}) with ones on its diagonal, got {tuple(correlation.shape)}")
    factor, info = torch.linalg.cholesky_ex(correlation.double())
    if info:
        raise ValueError("correlation must be positive definite: shrink it towards the diagonal")
    return factor


def log_variance_head(d_model: int, output_token_len: int) -> nn.Linear:
    """Linear head for a log-variance that starts near −2, i.e. σ ≈ .37 in units of the window's standard deviation."""
    head = nn.Linear(d_model, output_token_len)
    nn.init.constant_(head.bias, -2.0)
    return head


def clamp_log_variance(logvar: Tensor) -> Tensor:
    """Keep a log-variance within ±10, where its exponential and its inverse are safe."""
    return logvar.clamp(-10, 10)
