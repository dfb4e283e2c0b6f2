"""y(t) = Σ_{l<=t} W(l)ᵀ x(t − l) with W(l) = Σ_k ψ_k(l) M_k, in the frequency domain: the "spectral" backend.

Features first, as the equation of an STU is written, would take a (b t k d) tensor and 48 d_in · d_out products a
token. Here the weights are mixed into one matrix per frequency, G[f] = Σ_k P[f, k] M_k, and Y[f] = X[f] G[f].
"""

from collections.abc import Iterator

import torch
from einops import rearrange
from torch import Tensor

from tsfm_lab.spectral.convolution import FilterBank

# Frequencies are taken in blocks, so that the matrices G of a block stay within 32 MB of float32: they are read back
# from the cache, and memory does not grow with the length.
BLOCK_NUMBERS = 1 << 23


def mix_spectral(x: Tensor, bank: FilterBank, M: Tensor) -> Tensor:
    """x: (b t i), M: (k i o) -> y: (b t o), exact to rounding; t at most the bank's seq_len."""
    t = x.shape[1]
    bank.check_length(t)
    P = rearrange(torch.view_as_real(bank.spectrum(2 * t, t, x.device, x.dtype)), "f k c -> f c k")
    X = torch.fft.rfft(rearrange(x, "b t i -> b i t"), n=2 * t)
    Y = SpectralContraction.apply(P, rearrange(X, "b i f -> f b i"), M)
    y = torch.fft.irfft(rearrange(Y, "f b o -> b o f"), n=2 * t)[..., :t]
    return rearrange(y, "b o t -> b t o")


class SpectralContraction(torch.autograd.Function):
    """Y[f] = X[f] G[f] with G[f] = Σ_k P[f, k] M_k.

    P: (f c k) real, c = 2 the real and imaginary parts; X: (f b i) complex; M: (k i o) real -> Y: (f b o) complex.

    All products are real: [Re Y; Im Y] = [[Re X, −Im X], [Im X, Re X]] [Re G; Im G], and G stacked so along i is what
    one product P M leaves in memory. G is made again in the backward pass, where with D = ∂Y
    ∂X = D Gᴴ, ∂G = Xᴴ D, ∂M = Re(Pᴴ ∂G).
    """

    @staticmethod
    def forward(ctx, P: Tensor, X: Tensor, M: Tensor) -> Tensor:
        ctx.save_for_backward(P, X, M)
        Y = X.new_empty(*X.shape[:2], M.shape[2])
        for block, G in _blocks(P, M):
            Y[block] = _from_stacked_rows(_as_real_matrix(X[block]) @ G)
        return Y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, D: Tensor) -> tuple[None, Tensor, Tensor]:
        P, X, M = ctx.saved_tensors
        grad_X, grad_M = torch.empty_like(X), torch.zeros_like(M)
        with torch.autocast(D.device.type, enabled=False):
            for block, G in _blocks(P, M):
                D_rows = _stack_rows(D[block])
                grad_X[block] = _as_real_matrix_adjoint(D_rows @ G.mT)
                grad_G = _as_real_matrix(X[block]).mT @ D_rows
                grad_M += torch.mm(
                    rearrange(P[block], "f c k -> k (f c)"), rearrange(grad_G, "f (c i) o -> (f c) (i o)", c=2)
                ).view_as(M)
        return None, grad_X, grad_M


def _blocks(P: Tensor, M: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Blocks of frequencies and their G: (f (c i) o)."""
    _, i, o = M.shape
    size = max(1, BLOCK_NUMBERS // (2 * i * o))
    for start in range(0, len(P), size):
        block = slice(start, start + size)
        G = torch.mm(rearrange(P[block], "f c k -> (f c) k"), rearrange(M, "k i o -> k (i o)"))
        yield block, rearrange(G, "(f c) (i o) -> f (c i) o", c=2, i=i)


def _as_real_matrix(X: Tensor) -> Tensor:
    """(f b i) complex -> (f 2b 2i) real, [[Re X, −Im X], [Im X, Re X]]."""
    return torch.cat([torch.cat([X.real, -X.imag], dim=2), torch.cat([X.imag, X.real], dim=2)], dim=1)


def _as_real_matrix_adjoint(A: Tensor) -> Tensor:
    """Adjoint of `_as_real_matrix`: (f 2b 2i) real -> (f b i) complex."""
    (a, b), (c, d) = (half.chunk(2, dim=2) for half in A.chunk(2, dim=1))
    return torch.complex(a + d, c - b)


def _stack_rows(Y: Tensor) -> Tensor:
    """(f b o) complex -> (f 2b o) real, [Re Y; Im Y]."""
    return torch.cat([Y.real, Y.imag], dim=1)


def _from_stacked_rows(Y: Tensor) -> Tensor:
    """Inverse of `_stack_rows`."""
    return torch.complex(*Y.chunk(2, dim=1))
