"""The same y(t) = Σ_{l<=t} W(l)ᵀ x(t − l) in chunks with a linear system between them: the "lds" backend.

Inside a chunk of c steps the frequency-domain contraction, on the same c + 1 frequencies for all chunks. Across
chunks the bank's diagonal system: its state h at a chunk's start holds the whole past, which adds
Σ_n α_nᵖ⁺¹ (C M)_nᵀ h_n at offset p. So there are c + 1 mixing matrices and one per pole, whatever the length.
After Shah et al. 2025 (SpectraLDS), arXiv:2505.17868; differs from it: exact filters inside a chunk, float64 states.
"""

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from tsfm_lab.spectral.contraction import BLOCK_NUMBERS, mix_spectral
from tsfm_lab.spectral.convolution import FilterBank


def mix_chunked(x: Tensor, bank: FilterBank, M: Tensor, chunk_size: int | None = None) -> Tensor:
    """x: (b t i), M: (k i o) -> y: (b t o), as `mix_spectral` up to the fit of the bank's system (1e-8).

    chunk_size: c, steps; None: the size of least cost.
    """
    b, t, _ = x.shape
    bank.check_length(t)
    alpha, C = bank.system(x.device, torch.float64)
    c = choose_chunk_size(b * t, alpha.numel(), bank.num_features) if chunk_size is None else chunk_size
    if c >= t:
        return mix_spectral(x, bank, M)
    chunks = rearrange(F.pad(x, (0, 0, 0, -t % c)), "b (m c) i -> (b m) c i", c=c)
    y = rearrange(mix_spectral(chunks, bank, M), "(b m) c o -> c m b o", b=b)
    offset_first = rearrange(chunks, "(b m) c i -> c m b i", b=b)
    for alpha_s, M_s in zip(alpha, M.chunk(len(alpha)), strict=True):
        y = y + HistoryContraction.apply(offset_first, M_s, alpha_s, C)
    return rearrange(y, "c m b o -> b (m c) o")[:, :t]


def choose_chunk_size(num_tokens: int, num_poles: int, num_features: int) -> int:
    """The power of two next to the c of least cost: 2 k c products for G, 2 n num_tokens / c for the past."""
    least = math.sqrt(num_poles * num_tokens / num_features)
    return max(16, 2 ** round(math.log2(least)))


class HistoryContraction(torch.autograd.Function):
    """y_j(p) = Σ_n α_nᵖ⁺¹ N_nᵀ h_jn with N_n = Σ_k C_nk M_k, from the states h_{j+1} = α^c h_j + u_j before each chunk.

    x: (c m b i), offset in the chunk first; M: (k i o); alpha: (n); C: (n k) -> (c m b o), in x's dtype.

    Computed in float64, because the read-out C (1e2 and more) takes small filters as differences of large terms. Only
    x and M are kept for the backward pass, in which the scan runs the other way.
    """

    @staticmethod
    def forward(ctx, x: Tensor, M: Tensor, alpha: Tensor, C: Tensor) -> Tensor:
        ctx.save_for_backward(x, M, alpha, C)
        c, m, b, _ = x.shape
        x64, M64 = x.double(), M.double()
        y = x64.new_zeros(c, m * b * M.shape[2])
        for alpha_block, C_block in _pole_blocks(alpha, C, M):
            g = _states(x64, alpha_block) @ _mix(C_block, M64)
            y.addmm_(_answers(alpha_block, c), g.flatten(1))
        return y.view(c, m, b, -1).to(x.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_y: Tensor) -> tuple[Tensor, Tensor, None, None]:
        x, M, alpha, C = ctx.saved_tensors
        c, m, b, i = x.shape
        grad_y, x64, M64 = grad_y.double().flatten(1), x.double(), M.double()
        grad_x, grad_M = torch.zeros_like(x64).flatten(1), torch.zeros_like(M64).flatten(1)
        with torch.autocast(x.device.type, enabled=False):
            for alpha_block, C_block in _pole_blocks(alpha, C, M):
                grad_g = (_answers(alpha_block, c).T @ grad_y).view(len(alpha_block), m * b, -1)
                grad_h = (grad_g @ _mix(C_block, M64).mT).view(-1, m, b, i)
                grad_u = _scan_chunks(alpha_block**c, grad_h.flip(1)).flip(1)
                grad_x.addmm_(_intakes(alpha_block, c), grad_u.flatten(1))
                grad_M.addmm_(C_block.T, (_states(x64, alpha_block).mT @ grad_g).flatten(1))
        return grad_x.view_as(x).to(x.dtype), grad_M.view_as(M).to(M.dtype), None, None


def _pole_blocks(alpha: Tensor, C: Tensor, M: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Blocks of (n) and (n k) whose matrices N stay within BLOCK_NUMBERS."""
    size = max(1, BLOCK_NUMBERS // (2 * M.shape[1] * M.shape[2]))
    return zip(alpha.split(size), C.split(size), strict=True)


def _mix(C: Tensor, M: Tensor) -> Tensor:
    """N (n i o) = Σ_k C_nk M_k."""
    return (C @ M.flatten(1)).view(-1, *M.shape[1:])


def _intakes(alpha: Tensor, c: int) -> Tensor:
    """(c n): α^{c−1−p}, how offset p of a chunk enters the state after it."""
    return alpha ** torch.arange(c - 1, -1, -1, device=alpha.device)[:, None]


def _answers(alpha: Tensor, c: int) -> Tensor:
    """(c n): αᵖ⁺¹, how the state before a chunk answers at offset p."""
    return alpha ** torch.arange(1, c + 1, device=alpha.device)[:, None]


def _states(x: Tensor, alpha: Tensor) -> Tensor:
    """The states before each chunk: x (c m b i) -> h (n (m b) i)."""
    c, m, b, i = x.shape
    u = (_intakes(alpha, c).T @ x.flatten(1)).view(-1, m, b, i)
    return _scan_chunks(alpha**c, u).flatten(1, 2)


def _scan_chunks(decay: Tensor, u: Tensor) -> Tensor:
    """h_{j+1} = decay ⊙ h_j + u_j from h_0 = 0: decay (n), u (n m b i) -> h (n m b i)."""
    h = torch.empty_like(u)
    h[:, 0] = 0
    for j in range(u.shape[1] - 1):
        torch.addcmul(u[:, j], decay[:, None, None], h[:, j], out=h[:, j + 1])
    return h
