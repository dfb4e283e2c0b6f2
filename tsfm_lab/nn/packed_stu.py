"""Spectral Transform Unit on plain batches (`STUCore`) and on packed rows (`PackedSTU`)."""

from __future__ import annotations

import torch
from einops import einsum, reduce
from torch import Tensor, nn

from tsfm_lab.nn.packed_contract import contract_segments
from tsfm_lab.nn.packed_conv import convolve_segments
from tsfm_lab.nn.packing import SegmentPlan, plan_segments
from tsfm_lab.spectral.convolution import BankState, get_filter_bank

BRANCHES = ("shared", "separate")


class STUCore(nn.Module):
    """y_t = Σ_{l≥0} h_l x_{t−l}, a convolution whose filters h lie in the span of φ_k and (−1)^l φ_k.

    Liu et al. 2024, arXiv:2409.10489. The approximation ("tensordot") factorises the filters:
    x' = x M_inputs, h = φ M_filters, one filter per channel; the full form has h_l = Σ_k φ_{l,k} M_k, a matrix per lag.

    Parameters
    ----------
    d_model: channels in and out.
    seq_len: lags of the filters, in tokens; no sequence may be longer.
    num_eigh: K, the number of filters φ_k.
    use_approx: M_inputs (d d) and M_filters (k d) instead of M_phi_plus and M_phi_minus (k d d), 45 times fewer
        parameters at d = 384.
    branches: of the approximation. "shared": φ_k and (−1)^l φ_k have one weight, as published; then
        h_l = (1 + (−1)^l) Σ_k φ_{l,k} M_k and **every odd lag is zero**: even and odd tokens never mix.
        "separate": M_filters has a row for each of the 2K filters. The full form always has both.
    causal: False adds a second set of filters for l ≤ 0 (names end in `_future`): y_t += Σ_{l≥0} h'_l x_{t+l}.

    Raises
    ------
    ValueError: unknown branches.
    """

    def __init__(
        self,
        d_model: int,
        seq_len: int = 512,
        num_eigh: int = 24,
        use_approx: bool = True,
        branches: str = "shared",
        causal: bool = True,
    ):
        super().__init__()
        if branches not in BRANCHES:
            raise ValueError(f"branches must be one of {', '.join(BRANCHES)}, got {branches!r}")
        self.d_model, self.seq_len, self.use_approx, self.causal = d_model, seq_len, use_approx, causal
        self.bank = get_filter_bank(seq_len, num_eigh)  # φ_k, then (−1)^l φ_k
        directions = ("",) if causal else ("", "_future")
        if use_approx:
            plus, minus = self.bank.psi.T.to(torch.get_default_dtype()).chunk(2)
            psi = plus + minus if branches == "shared" else torch.cat([plus, minus])
            self.register_buffer("psi", psi.contiguous(), persistent=False)  # (k l) or (2k l)
            self.M_inputs = nn.Parameter(torch.randn(d_model, d_model) * d_model**-0.5)
            for direction in directions:
                weight = torch.randn(len(psi), d_model) * num_eigh**-0.5
                self.register_parameter(f"M_filters{direction}", nn.Parameter(weight))
        else:
            for direction in directions:
                for branch in ("plus", "minus"):
                    weight = torch.randn(num_eigh, d_model, d_model) * (num_eigh * d_model) ** -0.5
                    self.register_parameter(f"M_phi_{branch}{direction}", nn.Parameter(weight))

    def forward(self, x: Tensor) -> Tensor:
        """`x: (b t d) -> y: (b t d)`, each row one sequence; (t d) for (t d).

        Raises
        ------
        ValueError: x has another width, or more than seq_len tokens.
        """
        if x.dim() == 2:
            return self(x[None])[0]
        rows = torch.ones(x.shape[:2], dtype=torch.long, device=x.device)
        return self.mix(x, plan_segments(rows, segment_by="sample"))

    def mix(self, x: Tensor, segments: SegmentPlan) -> Tensor:
        """`x: (b t d) -> y: (b t d)` within each segment of the plan; zero at padding."""
        if x.dim() != 3 or x.shape[-1] != self.d_model:
            raise ValueError(f"x must be (b t d) with d={self.d_model}, got shape {tuple(x.shape)}")
        if tuple(x.shape[:2]) != segments.shape:
            raise ValueError(f"the segment plan is for (b t) = {segments.shape}, got {tuple(x.shape[:2])}")
        tokens = x.flatten(0, 1).mT  # (d n): time last, for the transforms
        if self.use_approx:
            num_future = 0 if self.causal else self.seq_len - 1
            y = convolve_segments(self.M_inputs.mT @ tokens, self.taps(), segments, num_future)
        else:
            M_future = None if self.causal else torch.cat([self.M_phi_plus_future, self.M_phi_minus_future])
            y = contract_segments(tokens, self.bank, self._matrices(), segments, M_future)
        return y.mT.unflatten(0, x.shape[:2])

    def taps(self) -> Tensor:
        """The approximation's filter of each channel: (d l), from lag 0 or (two-sided) from lag 1 − seq_len on."""
        with torch.autocast(self.psi.device.type, enabled=False):
            past = self.M_filters.mT @ self.psi
            if self.causal:
                return past
            future = self.M_filters_future.mT @ self.psi
            return torch.cat([future[:, 1:].flip(1), past[:, :1] + future[:, :1], past[:, 1:]], dim=1)

    def step(self, x_t: Tensor, state: BankState | None = None) -> tuple[Tensor, BankState]:
        """The next token's output, `x_t: (b d) -> (y_t: (b d), state)`; cost and memory do not depend on the past.

        Raises
        ------
        ValueError: the layer is two-sided, or the token lies beyond seq_len.
        """
        self._require_causal()
        if not self.use_approx:
            f, state = self.bank.step(x_t, state)
            return einsum(f, self._matrices(), "b k i, k i o -> b o"), state
        f, state = self.bank.step(x_t @ self.M_inputs, state)
        rows = self.M_filters.shape[0]
        f = reduce(f, "b (branch k) d -> b k d", "sum", k=rows)  # shared branches: one weight for both
        return einsum(f, self.M_filters, "b k d, k d -> b d"), state

    def prefill(self, x: Tensor) -> tuple[Tensor, BankState]:
        """All outputs of a first piece and the state after it: `x: (b t d) -> (y: (b t d), state)`."""
        self._require_causal()
        return STUCore.forward(self, x), self.bank.advance(x @ self.M_inputs if self.use_approx else x)

    def _matrices(self) -> Tensor:
        """The full form's weights of the bank, (2k d d)."""
        return torch.cat([self.M_phi_plus, self.M_phi_minus])

    def _require_causal(self) -> None:
        if not self.causal:
            raise ValueError("a two-sided STU needs the whole sequence: decode token by token with causal=True")


class PackedSTU(STUCore):
    """`STUCore` over packed rows: each segment of the plan is a sequence of its own.

    Parameters as `STUCore`; seq_len is the longest admissible segment.
    """

    def forward(self, x: Tensor, segments: SegmentPlan) -> Tensor:
        """`x: (b t d) -> y: (b t d)`; nothing crosses a segment's edge, padding gets 0.

        Raises
        ------
        ValueError: x and the plan do not fit, or a segment has more than seq_len tokens.
        """
        return self.mix(x, segments)
