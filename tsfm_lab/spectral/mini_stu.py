"""MiniSTU: one spectral transform unit, y = Σ_k M⁺_k (φ_k ∗ x) + M⁻_k ((−1)ᵗφ_k ∗ x)."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from tsfm_lab.spectral.backend import MIX, choose_backend
from tsfm_lab.spectral.convolution import BankState, FilterBank, get_filter_bank

BACKENDS = (*MIX, "auto")
ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "tanh": nn.Tanh}


class MiniSTU(nn.Module):
    """y(t) = Σ_l Σ_k φ_k(l) [M⁺_k + (−1)ˡ M⁻_k]ᵀ x(t − l), then an optional MLP over channels.

    Liu et al. 2024, arXiv:2409.10489, Section 2, without the autoregressive terms.

    Parameters
    ----------
    seq_len: L, the longest input, steps.
    num_filters: K.
    input_dim, output_dim: channels in and out.
    use_hankel_L: one branch, filters of the Hankel-L form.
    use_mlp: a per-step MLP on the output, of `mlp_num_layers` linear layers with `mlp_hidden_dim` channels (None: twice
        output_dim) between them; one layer is a plain linear map.
    mlp_dropout: between the layers, in training.
    mlp_activation: "relu", "gelu" or "tanh".
    precomputed_filters: (seq_len num_filters), used in place of `get_spectral_filters`.
    backend: how the same function of the same weights is computed: "spectral" (frequency domain), "lds" (chunks and a
        linear system between them) or "auto", the one measured to be faster for the sizes at hand.

    Attributes
    ----------
    M_phi_plus, M_phi_minus: (k i o), scale (K · input_dim)^−½ at the start; no M_phi_minus with Hankel-L.
    bank: the `FilterBank` of both branches.
    """

    def __init__(
        self,
        seq_len: int,
        num_filters: int,
        input_dim: int,
        output_dim: int,
        use_hankel_L: bool = False,
        use_mlp: bool = False,
        mlp_hidden_dim: int | None = None,
        mlp_num_layers: int = 2,
        mlp_dropout: float = 0.0,
        mlp_activation: str = "relu",
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
        precomputed_filters: Tensor | None = None,
        backend: str = "spectral",
    ):
        super().__init__()
        if backend not in BACKENDS:
            raise ValueError(f"unknown backend {backend!r}: choose one of {', '.join(BACKENDS)}")
        for name, value in (("input_dim", input_dim), ("output_dim", output_dim)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.seq_len, self.num_filters = seq_len, num_filters
        self.input_dim, self.output_dim = input_dim, output_dim
        self.backend = backend
        if precomputed_filters is None:
            self.bank = get_filter_bank(seq_len, num_filters, use_hankel_L)
        elif tuple(precomputed_filters.shape) != (seq_len, num_filters):
            raise ValueError(
                f"precomputed_filters must be (seq_len, num_filters) = ({seq_len}, {num_filters}), "
                f"got {tuple(precomputed_filters.shape)}"
            )
        else:
            self.bank = FilterBank(precomputed_filters, use_hankel_L)

        options = {"dtype": dtype, "device": device}
        shape, scale = (num_filters, input_dim, output_dim), (num_filters * input_dim) ** -0.5
        self.M_phi_plus = nn.Parameter(torch.randn(shape, **options) * scale)
        self.M_phi_minus = None if use_hankel_L else nn.Parameter(torch.randn(shape, **options) * scale)
        self.mlp = None
        if use_mlp:
            hidden_dim = 2 * output_dim if mlp_hidden_dim is None else mlp_hidden_dim
            self.mlp = _build_mlp(output_dim, hidden_dim, mlp_num_layers, mlp_dropout, mlp_activation, options)

    def forward(self, x: Tensor) -> Tensor:
        """x: (b t i) -> (b t o), or unbatched (t i) -> (t o); t <= seq_len, shorter inputs use the filters' first rows.

        Raises
        ------
        ValueError: wrong rank or channels, more than seq_len steps, or an input that is NaN or infinite.
        """
        i = self.input_dim
        self._check_input(x, (2, 3), f"(b t {i}) or (t {i})")
        if x.ndim == 2:
            return self(x[None])[0]
        self.bank.check_length(x.shape[1])
        y = self._mix(x.to(self.M_phi_plus.dtype))
        return y if self.mlp is None else self.mlp(y)

    def step(self, x_t: Tensor, state: BankState | None = None) -> tuple[Tensor, BankState]:
        """One more step, x_t: (b i) -> y_t: (b o): what `forward` gives there, at a cost independent of the past.

        state: from `prefill` or the step before, None at the first; `FilterBank.step` says what ends at L.
        """
        self._check_input(x_t, (2,), f"(b {self.input_dim})")
        features, state = self.bank.step(x_t.to(self.M_phi_plus.dtype), state)
        y_t = self._contract(features)
        return (y_t if self.mlp is None else self.mlp(y_t)), state

    def prefill(self, x: Tensor, state: BankState | None = None) -> tuple[Tensor, BankState]:
        """`forward` of the first steps, or of those after `state`: x (b t i) -> y (b t o), and the new state."""
        self._check_input(x, (3,), f"(b t {self.input_dim})")
        x = x.to(self.M_phi_plus.dtype)
        y = self._mix(x)
        if state is not None:
            y = y + self._contract(self.bank.recall(state, x.shape[1]).to(x.dtype))
        return (y if self.mlp is None else self.mlp(y)), self.bank.advance(x, state)

    def resolve_backend(self, batch_size: int, length: int) -> str:
        """The backend that serves inputs (batch_size length i): "auto" measures once, then remembers.

        Write the answer into a run's config and build the next module with it, so that a resumed run repeats it.
        """
        if self.backend != "auto":
            return self.backend
        return choose_backend(self.bank, self._M().detach(), batch_size, length)

    def get_num_params(self) -> int:
        """Number of trained parameters."""
        return sum(parameter.numel() for parameter in self.parameters())

    def _M(self) -> Tensor:
        """(k i o) of the whole bank: both branches along k."""
        return self.M_phi_plus if self.M_phi_minus is None else torch.cat([self.M_phi_plus, self.M_phi_minus])

    def _contract(self, features: Tensor) -> Tensor:
        """y = Σ_k M_kᵀ f_k: (… k i) -> (… o), branch by branch, for joining them would copy all weights."""
        weights = [M for M in (self.M_phi_plus, self.M_phi_minus) if M is not None]
        branches = features.split(self.num_filters, dim=-2)
        return sum(torch.tensordot(f, M, dims=2) for f, M in zip(branches, weights, strict=True))

    def _mix(self, x: Tensor) -> Tensor:
        name = self.resolve_backend(*x.shape[:2])
        compute_dtype = torch.promote_types(x.dtype, torch.float32)  # neither FFT nor the past fits half precision
        with torch.autocast(x.device.type, enabled=False):
            return MIX[name](x.to(compute_dtype), self.bank, self._M().to(compute_dtype)).to(x.dtype)

    def _check_input(self, x: Tensor, ranks: tuple[int, ...], expected: str) -> None:
        if x.ndim not in ranks:
            raise ValueError(f"x must be {expected}, got shape {tuple(x.shape)}")
        if x.shape[-1] != self.input_dim:
            raise ValueError(f"x must have input_dim={self.input_dim} channels, got shape {tuple(x.shape)}")
        if not x.isfinite().all():
            raise ValueError("x must be finite, got NaN or infinity: impute missing values first")


def _build_mlp(
    dim: int, hidden_dim: int, num_layers: int, dropout: float, activation: str, options: dict
) -> nn.Sequential:
    """dim -> hidden_dim -> … -> dim, `num_layers` linear maps with the activation and dropout between them."""
    if activation.lower() not in ACTIVATIONS:
        raise ValueError(f"unknown mlp_activation {activation!r}: choose one of {', '.join(ACTIVATIONS)}")
    if num_layers < 1:
        raise ValueError(f"mlp_num_layers must be at least 1, got {num_layers}")
    widths = [dim, *[hidden_dim] * (num_layers - 1), dim]
    layers: list[nn.Module] = []
    for width, next_width in pairwise(widths):
        layers += [nn.Linear(width, next_width, **options), ACTIVATIONS[activation.lower()](), nn.Dropout(dropout)]
    return nn.Sequential(*layers[:-2])
