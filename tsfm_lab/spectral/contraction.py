"""y(t) = Σ_l W(l) x(t − l) with W(l) = Σ_k ψ_k(l) M_k, contracted in the frequency domain."""

import torch
from einops import rearrange
from torch import Tensor

# Frequencies are taken in blocks so that G stays below this many numbers, 32 MB in complex64.
BLOCK_NUMBERS = 1 << 22


class SpectralContraction(torch.autograd.Function):
    """Y[f] = X[f] G[f] with G[f] = Σ_k P[f, k] M_k, frequency by frequency: never a (b t k d) tensor.

    P: (f k) complex, X: (f b i) complex, M: (k i o) real -> Y: (f b o) complex.
    G is made per block of frequencies and again in the backward pass, which with D = ∂Y is
    ∂X = D Gᴴ, ∂G = Xᴴ D, ∂M = Re(Pᴴ ∂G).
    """

    @staticmethod
    def forward(ctx, P: Tensor, X: Tensor, M: Tensor) -> Tensor:
        ctx.save_for_backward(P, X, M)
        Y = X.new_empty(*X.shape[:2], M.shape[2])
        for block in _blocks(P, M):
            torch.bmm(X[block], _mix(P[block], M), out=Y[block])
        return Y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, D: Tensor) -> tuple[None, Tensor | None, Tensor | None]:
        P, X, M = ctx.saved_tensors
        grad_X, grad_M = torch.empty_like(X), torch.zeros_like(M)
        for block in _blocks(P, M):
            if ctx.needs_input_grad[1]:
                grad_X[block] = torch.bmm(D[block], _mix(P[block], M).mH)
            if ctx.needs_input_grad[2]:
                grad_G = torch.bmm(X[block].mH, D[block])
                parts = torch.view_as_real(rearrange(grad_G, "f i o -> f (i o)"))
                P_parts = torch.view_as_real(P[block])
                grad_M += sum((P_parts[..., c].T @ parts[..., c]).view_as(M) for c in (0, 1))
        return None, grad_X, grad_M


def _blocks(P: Tensor, M: Tensor) -> list[slice]:
    size = max(1, BLOCK_NUMBERS // (M.shape[1] * M.shape[2]))
    return [slice(start, min(start + size, len(P))) for start in range(0, len(P), size)]


def _mix(P: Tensor, M: Tensor) -> Tensor:
    """G (f i o) = Σ_k P (f k) M (k i o)."""
    flat = rearrange(M, "k i o -> k (i o)")
    return torch.complex(P.real @ flat, P.imag @ flat).view(len(P), *M.shape[1:])
