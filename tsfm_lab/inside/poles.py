"""The poles of a learnt filter, h_l = Σ_n c_n α_nˡ: exactly with those of its bank, or with a few of its own."""

from dataclasses import dataclass
from math import log

import torch
from einops import rearrange
from torch import Tensor

from tsfm_lab.nn.packed_stu import STUCore


@torch.no_grad()
def bank_system(stu: STUCore) -> tuple[Tensor, Tensor]:
    """α (n) and c (c n) with h_l = Σ_n c_n α_nˡ for each filter of a causal STU, up to its length; float64.

    The poles are those of the bank, ±α of its diagonal system: the same in every layer and before training. What a
    layer learns are the residues c = C M. They are large and cancel, so that no single pole says anything of a filter;
    `fit_poles` finds a few that do.

    Raises
    ------
    ValueError: the layer is two-sided.
    """
    if not stu.causal:
        raise ValueError("a two-sided STU is no system of poles: its filters run both ways; look at a causal one")
    lds = stu.bank.lds
    if stu.use_approx:
        rows = stu.M_filters.double().cpu()
        plus, minus = (rows, rows) if len(rows) == len(lds.errors) else rows.chunk(2)
    else:
        plus, minus = (rearrange(m.double().cpu(), "k i o -> k (i o)") for m in (stu.M_phi_plus, stu.M_phi_minus))
    return torch.cat([lds.alpha, -lds.alpha]), torch.cat([lds.C @ plus, lds.C @ minus]).T


@dataclass(frozen=True)
class PoleFit:
    """h_l ≈ Re Σ_n c_n α_nˡ with few poles, those with the most energy first.

    poles, residues: (n) complex128. error: ‖h − ĥ‖ / ‖h‖ over the filter's lags.
    """

    poles: Tensor
    residues: Tensor
    error: float

    def respond(self, length: int) -> Tensor:
        """ĥ at lags 0 … length − 1: (l) float64."""
        return (self.poles ** torch.arange(length)[:, None] @ self.residues).real


def fit_poles(h: Tensor, tolerance: float = 0.05, max_poles: int = 12) -> PoleFit:
    """The fewest poles (at most `max_poles`) with which a filter is met to `tolerance`; else the best fit so far.

    Kung 1978, as ESPRIT (Roy, Kailath 1989): the Hankel matrix H_ij = h_{i+j} of a sum of n exponentials has rank n,
    and its leading left singular vectors U satisfy U↑ A = U↓, rows shifted by one; the poles are A's eigenvalues and
    least squares gives the residues. A filter whose odd lags vanish is one of l/2: its poles are ±√ of that one's.

    Parameters
    ----------
    h: (l), a real filter from lag 0 on, 4 lags at least.

    Raises
    ------
    ValueError: h is shorter, not finite, or zero; or tolerance or max_poles is not positive.
    """
    h = h.detach().double().cpu()
    if h.dim() != 1 or len(h) < 4 or not h.isfinite().all() or not h.any():
        raise ValueError(f"h must be a finite filter of 4 lags at least that is not zero, got shape {tuple(h.shape)}")
    if tolerance <= 0 or max_poles < 1:
        raise ValueError(f"tolerance and max_poles must be positive, got {tolerance} and {max_poles}")
    paired = len(h) >= 8 and not h[1::2].any()
    if paired and max_poles < 2:
        raise ValueError(
            f"the poles of a filter whose odd lags vanish come in pairs: give max_poles 2, got {max_poles}"
        )
    thinned = h[::2] if paired else h
    rows = len(thinned) // 2
    U = torch.linalg.svd(thinned.unfold(0, len(thinned) - rows + 1, 1)[:rows])[0]
    best = None
    for order in range(1, min(max_poles // (2 if paired else 1), rows - 1) + 1):
        poles = torch.linalg.eigvals(torch.linalg.lstsq(U[:-1, :order], U[1:, :order]).solution)
        if paired:
            poles = torch.cat([poles.sqrt(), -poles.sqrt()])
        fit = _fit_residues(h, poles)
        best = fit if best is None or fit.error < best.error else best
        if best.error <= tolerance:
            break
    return best


def half_life(poles: Tensor) -> Tensor:
    """ln 2 / −ln |α|, the lags after which a pole's response has halved; infinite from |α| = 1 on.

    `(...) complex or real -> (...) float64`.
    """
    decay = -poles.abs().double().log()
    return torch.where(decay > 0, log(2) / decay, torch.inf)


def _fit_residues(h: Tensor, poles: Tensor) -> PoleFit:
    """Least squares on columns of unit norm; poles in the order of their own response's energy."""
    E = poles ** torch.arange(len(h))[:, None]
    norm = E.norm(dim=0)
    scaled = torch.linalg.lstsq(E / norm, h.to(E.dtype)[:, None], driver="gelsd").solution[:, 0]
    order = scaled.abs().argsort(descending=True)
    error = ((E / norm @ scaled).real - h).norm() / h.norm()
    return PoleFit(poles[order], (scaled / norm)[order], error.item())
