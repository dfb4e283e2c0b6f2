"""What an STU layer has learnt to convolve with: its filters lag by lag, from its own parameters."""

import torch
from einops import einsum, rearrange
from torch import Tensor, nn

from tsfm_lab.nn.packed_stu import STUCore


def stu_layers(module: nn.Module) -> dict[int, STUCore]:
    """layer → STU of a packed model; empty where all layers attend."""
    return {number: layer.stu for number, layer in enumerate(module.encoder.layers) if hasattr(layer, "stu")}


@torch.no_grad()
def channel_filters(stu: STUCore) -> Tensor:
    """The filters h of an STU, lag by lag: (c w) float64, in tokens.

    The approximation has one a channel, y_d = h_d ∗ (x M_inputs)_d: c = d. The full form has one for each pair of
    channels, y_o = Σ_i h_io ∗ x_i: c = i·o. A causal layer's begin at lag 0; a two-sided one's at lag 1 − seq_len.
    """
    if stu.use_approx:
        return stu.taps().double().cpu()
    past = _full_filters(stu, "")
    if stu.causal:
        return past
    future = _full_filters(stu, "_future")
    return torch.cat([future[:, 1:].flip(1), past[:, :1] + future[:, :1], past[:, 1:]], dim=1)


@torch.no_grad()
def output_energy(stu: STUCore) -> Tensor:
    """Energy that each output channel takes from each distance |lag|, Σ_i W_{l,io}²: (o l) float64.

    W_l is the matrix by which lag l acts on the layer's input, M_inputs diag(h_l) in the approximation.
    """
    filters = channel_filters(stu)
    if stu.use_approx:
        energy = stu.M_inputs.double().cpu().square().sum(0)[:, None] * filters.square()
    else:
        energy = rearrange(filters.square(), "(i o) w -> i o w", i=stu.d_model).sum(0)
    if stu.causal:
        return energy
    future, past = energy.split([stu.seq_len - 1, stu.seq_len], dim=1)
    past[:, 1:] += future.flip(1)
    return past


def _full_filters(stu: STUCore, direction: str) -> Tensor:
    """(i·o l): Σ_k φ_{l,k} (M_k⁺ + (−1)^l M_k⁻)."""
    weights = [getattr(stu, f"M_phi_{branch}{direction}").double().cpu() for branch in ("plus", "minus")]
    return rearrange(einsum(stu.bank.psi, torch.cat(weights), "l k, k i o -> i o l"), "i o l -> (i o) l")
