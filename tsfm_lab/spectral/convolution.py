"""The convolution interface: a fixed bank of causal filters, applied to a whole sequence or token by token.

f_k(t) = Σ_{l=0}^{t} ψ_k(l) x(t − l), channel by channel. The two branches of an STU are one bank of 2K filters,
ψ = [φ, (−1)ᵗ φ], because sgn ⊙ (φ ∗ (sgn ⊙ x)) = ((−1)ᵗ φ) ∗ x: one transform of x serves both.
Liu et al. 2024, arXiv:2409.10489, Section 2.
"""

import warnings
from functools import cached_property, lru_cache
from typing import NamedTuple

import torch
from einops import einsum, rearrange
from torch import Tensor

from tsfm_lab.spectral.diagonal_lds import DiagonalLDS, fit_diagonal_lds
from tsfm_lab.spectral.filters import get_spectral_filters


class BankState(NamedTuple):
    """What a bank remembers of the past, the same size at any length.

    h: (b s n d), the state of the diagonal system of each branch s.
    length: steps seen so far.
    """

    h: Tensor
    length: int


class FilterBank:
    """The bank ψ of L steps: φ alone (`use_hankel_L`), or both branches [φ, (−1)ᵗ φ].

    Fixed, never trained, so it is no module: it keeps its filters on the CPU in float64, and beside them what each
    device and dtype needs; layers with the same filters share one bank (`get_filter_bank`).

    Parameters
    ----------
    phi: (t k), the filters.
    use_hankel_L: phi serves negative eigenvalues itself: one branch.
    state_dtype: of the state in `step` and `prefill`. float64, because the diagonal system reaches its small filters as
        differences of large terms (read-out up to 1e2 … 1e4 against filters of 1e-6): float32 loses the last ones, and
        asking for it warns when it does.

    Attributes
    ----------
    psi: (t k), float64, the whole bank: k = K or 2K.
    seq_len: L, steps.
    num_features: filters in the bank, 2K or K.
    num_branches: 2 or 1.
    """

    @torch.inference_mode(False)  # constants made while forecasting must serve training too
    def __init__(self, phi: Tensor, use_hankel_L: bool = False, state_dtype: torch.dtype = torch.float64):
        if phi.ndim != 2:
            raise ValueError(f"phi must be (seq_len, num_filters), got shape {tuple(phi.shape)}")
        phi = phi.detach().to("cpu", torch.float64)
        if not phi.isfinite().all():
            raise ValueError("phi must be finite, got NaN or infinity")
        sign = 1.0 - 2.0 * (torch.arange(len(phi), device=phi.device) % 2)
        self.num_branches = 1 if use_hankel_L else 2
        self.psi = phi if use_hankel_L else torch.cat([phi, sign[:, None] * phi], dim=1)
        self.seq_len, self.num_features = self.psi.shape
        self.state_dtype = state_dtype
        self._constants: dict[tuple, Tensor] = {}

    @cached_property
    def lds(self) -> DiagonalLDS:
        """φ as a diagonal system, fitted on first use in at most a second; (−1)ᵗ φ is the same with poles −α.

        Raises as `fit_diagonal_lds`.
        """
        lds = fit_diagonal_lds(self.psi[:, : self.num_features // self.num_branches], self.num_branches == 1)
        self._warn_of_rounding(lds)
        return lds

    def spectrum(self, length: int, num_lags: int, device: torch.device, dtype: torch.dtype) -> Tensor:
        """(f k) complex: the real transform of ψ's first `num_lags` steps, zero-padded to `length` steps."""
        return self._constant(
            ("spectrum", length, num_lags), device, dtype, lambda: torch.fft.rfft(self.psi[:num_lags], n=length, dim=0)
        )

    def features(self, x: Tensor) -> Tensor:
        """f = ψ ∗ x: (b t d) -> (b t k d), k times the size of x. Up to L steps; shorter x use ψ's first rows."""
        t = x.shape[1]
        self.check_length(t)
        spectrum = self.spectrum(2 * t, t, x.device, x.dtype)
        X = torch.fft.rfft(rearrange(x, "b t d -> b 1 d t"), n=2 * t)
        f = torch.fft.irfft(X * rearrange(spectrum, "f k -> k 1 f"), n=2 * t)[..., :t]
        return rearrange(f, "b k d t -> b t k d")

    def initial_state(self, batch_size: int, num_channels: int, device: torch.device | str | None = None) -> BankState:
        """The state before the first step."""
        shape = (batch_size, self.num_branches, self.lds.alpha.numel(), num_channels)
        return BankState(torch.zeros(shape, dtype=self.state_dtype, device=device), 0)

    def step(self, x_t: Tensor, state: BankState | None = None) -> tuple[Tensor, BankState]:
        """The next step's features: h ← α ⊙ h + x_t, f_t = Cᵀ h; time and memory do not depend on L or on the past.

        Parameters
        ----------
        x_t: (b d).
        state: from `prefill` or the step before; None at the first step.

        Returns
        -------
        features: (b k d), in x_t's dtype.
        state: the new one; the old one stays valid, so a caller may go back to it.

        Raises
        ------
        ValueError: the step lies beyond L. The filters end there, and their exponentials continue them as they please
            (at L 64, K 24 to 10⁶ times their size): use a bank of a longer seq_len.
        """
        state = self.initial_state(x_t.shape[0], x_t.shape[1], x_t.device) if state is None else state
        self.check_length(state.length + 1)
        alpha, C = self.system(x_t.device)
        h = alpha[..., None] * state.h + rearrange(x_t, "b d -> b 1 1 d").to(self.state_dtype)
        features = rearrange(C.T @ h, "b s k d -> b (s k) d").to(x_t.dtype)
        return features, BankState(h, state.length + 1)

    def prefill(self, x: Tensor, state: BankState | None = None) -> tuple[Tensor, BankState]:
        """The features of a whole piece and the state after it: what `step` gives token by token, in one go.

        Parameters
        ----------
        x: (b t d), the first steps, or those that follow `state`.

        Returns
        -------
        features: (b t k d).
        state: after the last step.

        Raises
        ------
        ValueError: the piece ends beyond L; see `step`.
        """
        features = self.features(x)
        if state is not None:
            features = features + self.recall(state, x.shape[1]).to(x.dtype)
        return features, self.advance(x, state)

    def recall(self, state: BankState, num_steps: int) -> Tensor:
        """What the past alone contributes to the next `num_steps` steps: (b t k d), in the state's dtype."""
        self.check_length(state.length + num_steps)
        alpha, C = self.system(state.h.device)
        lag = torch.arange(1, num_steps + 1, device=alpha.device)
        decayed = rearrange(alpha[..., None] ** lag, "s n t -> t s n 1") * state.h[:, None]
        return rearrange(C.T @ decayed, "b t s k d -> b t (s k) d")

    def advance(self, x: Tensor, state: BankState | None = None) -> BankState:
        """The state after the piece x (b t d), without its features: h ← αᵗ ⊙ h + Σ_l αˡ ⊙ x(t − 1 − l)."""
        b, t, d = x.shape
        state = self.initial_state(b, d, x.device) if state is None else state
        self.check_length(state.length + t)
        alpha, _ = self.system(x.device)
        lag = torch.arange(t - 1, -1, -1, device=alpha.device)
        taken_in = einsum(alpha[..., None] ** lag, x.to(self.state_dtype), "s n t, b t d -> b s n d")
        return BankState(alpha[..., None] ** t * state.h + taken_in, state.length + t)

    def check_length(self, length: int) -> None:
        """Raise if a sequence of `length` steps is empty, or longer than the filters."""
        if length < 1:
            raise ValueError(f"a sequence must have at least 1 step, got {length}")
        if length > self.seq_len:
            raise ValueError(
                f"sequence of {length} steps is longer than the filters, seq_len={self.seq_len}: "
                f"build them with seq_len >= {length}, or shorten the sequence"
            )

    def system(self, device: torch.device, dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor]:
        """The poles of each branch (s n) and their read-out C (n k) on a device, in the state's dtype unless given."""
        dtype = self.state_dtype if dtype is None else dtype
        signs = (1.0, -1.0)[: self.num_branches]
        alpha = self._constant(
            ("alpha",), device, dtype, lambda: torch.stack([sign * self.lds.alpha for sign in signs])
        )
        return alpha, self._constant(("C",), device, dtype, lambda: self.lds.C)

    @torch.inference_mode(False)
    def _constant(self, name: tuple, device: torch.device, dtype: torch.dtype, compute) -> Tensor:
        """A float64 CPU constant, converted to a device and dtype once."""
        key = (*name, device, dtype)
        if key not in self._constants:
            value = compute()
            self._constants[key] = value.to(device, dtype.to_complex() if value.is_complex() else dtype)
        return self._constants[key]

    def _warn_of_rounding(self, lds: DiagonalLDS) -> None:
        """Warn if the state's dtype loses filters that the fit itself holds."""
        alpha, C = lds.alpha.to(self.state_dtype), lds.C.to(self.state_dtype)
        response = (alpha ** torch.arange(self.seq_len)[:, None] @ C).double()
        phi = self.psi[:, : len(lds.errors)]
        error = ((response - phi).norm(dim=0) / phi.norm(dim=0)).max().item()
        if error > max(1e-2, 10 * lds.errors.max().item()):
            warnings.warn(
                f"{self.state_dtype} does not hold the state of these filters: the smallest comes out with relative "
                f"error {error:.0e}; use state_dtype=torch.float64",
                stacklevel=3,
            )


@lru_cache(maxsize=32)
def get_filter_bank(seq_len: int, num_filters: int, use_hankel_L: bool = False) -> FilterBank:
    """The bank of `get_spectral_filters(seq_len, num_filters, use_hankel_L)`, made once and shared."""
    phi = get_spectral_filters(seq_len, num_filters, use_hankel_L, dtype=torch.float64)
    return FilterBank(phi, use_hankel_L)
