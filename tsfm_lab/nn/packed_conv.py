"""Depthwise convolution inside each segment of a packed batch: y_t = Σ_l h_l u_{t−l}, never across a segment's edge.

Bucketed segments, one autograd function: forward and backward are gathers and FFTs with time on the last axis; blocks
of at most `TOEPLITZ_MAX` slots use a batched product with the Toeplitz matrix of the filter, which is faster there.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tsfm_lab.nn.packing import Bucket, SegmentPlan

TOEPLITZ_MAX = 32


@torch.compiler.disable  # the buckets' shapes change with every batch; what surrounds them compiles once
def convolve_segments(u: Tensor, taps: Tensor, segments: SegmentPlan, num_future: int = 0) -> Tensor:
    """y_t = Σ_l h_l u_{t−l} over the tokens of t's own segment, channel by channel, exact to rounding.

    Computed in float32 (float64 for float64 input) also under autocast: half precision has neither the transforms on
    every device nor the range that sums of a slowly decaying filter need.

    Parameters
    ----------
    u: (d n), the n = b·t flat tokens of the batch, time last.
    taps: (d w), the filter from lag −num_future to lag w − num_future − 1, in tokens.
    segments: the batch's plan.
    num_future: lags before zero; 0 is causal.

    Returns
    -------
    (d n); zero at padding tokens.

    Raises
    ------
    ValueError: u is not for the plan's batch, or a segment is longer than the filter.
    """
    segments.check_fits(u.shape[1], taps.shape[1] - num_future)
    dtype = torch.promote_types(u.dtype, torch.float32)
    with torch.autocast(u.device.type, enabled=False):
        return _SegmentConvolution.apply(u.to(dtype), taps.to(dtype), segments, num_future).to(u.dtype)


class _SegmentConvolution(torch.autograd.Function):
    """u (d n), taps (d w) -> y (d n); with the adjoint h̄ ∗ ∂y for u and the correlation of u and ∂y for the taps."""

    @staticmethod
    def forward(ctx, u: Tensor, taps: Tensor, segments: SegmentPlan, num_future: int) -> Tensor:
        ctx.save_for_backward(u, taps)
        ctx.segments, ctx.num_future = segments, num_future

        def convolve(bucket: Bucket) -> Tensor:
            product = _toeplitz_product if bucket.length <= TOEPLITZ_MAX else _fft_product
            return product(bucket.take(u), _wrap_taps(taps, num_future, bucket.length))

        return segments.put_back(map(convolve, segments.buckets), like=u)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        u, taps = ctx.saved_tensors
        grad = grad.contiguous()
        grad_taps = torch.zeros_like(taps)

        def convolve_adjoint(bucket: Bucket) -> Tensor:
            gradients = _toeplitz_gradients if bucket.length <= TOEPLITZ_MAX else _fft_gradients
            kernel = _wrap_taps(taps, ctx.num_future, bucket.length)
            grad_x, grad_kernel = gradients(bucket.take(u), bucket.take(grad), kernel)
            _add_unwrapped(grad_taps, grad_kernel, ctx.num_future)
            return grad_x

        grad_u = ctx.segments.put_back(map(convolve_adjoint, ctx.segments.buckets), like=u)
        return grad_u, grad_taps, None, None


def _wrap_taps(taps: Tensor, num_future: int, length: int) -> Tensor:
    """Circular filter (d 2·length): lag l at l, lag −l at 2·length − l; lags past the block are cut."""
    past = min(length, taps.shape[1] - num_future)
    future = min(length - 1, num_future)
    kernel = taps.new_zeros(taps.shape[0], 2 * length)
    kernel[:, :past] = taps[:, num_future : num_future + past]
    kernel[:, 2 * length - future :] = taps[:, num_future - future : num_future]
    return kernel


def _add_unwrapped(grad_taps: Tensor, grad_kernel: Tensor, num_future: int) -> None:
    """Adjoint of `_wrap_taps`, accumulated into `grad_taps`."""
    length = grad_kernel.shape[1] // 2
    past = min(length, grad_taps.shape[1] - num_future)
    future = min(length - 1, num_future)
    grad_taps[:, num_future : num_future + past] += grad_kernel[:, :past]
    grad_taps[:, num_future - future : num_future] += grad_kernel[:, 2 * length - future :]


def _fft_product(x: Tensor, kernel: Tensor) -> Tensor:
    """x: (d s l), kernel: (d 2l) circular -> y (d s l); twice the length, so that nothing wraps around."""
    length = x.shape[-1]
    Y = torch.fft.rfft(x, n=2 * length).mul_(torch.fft.rfft(kernel)[:, None])
    return torch.fft.irfft(Y, n=2 * length)[..., :length]


def _fft_gradients(x: Tensor, g: Tensor, kernel: Tensor) -> tuple[Tensor, Tensor]:
    """∂y = g (d s l) -> ∂x (d s l) = h̄ ∗ g and ∂kernel_l (d 2l) = Σ_s Σ_t g_{s,t} x_{s,t−l}."""
    length = x.shape[-1]
    X, G = torch.fft.rfft(x, n=2 * length), torch.fft.rfft(g, n=2 * length)
    grad_kernel = torch.fft.irfft((X.conj_physical_() * G).sum(1), n=2 * length)
    grad_x = torch.fft.irfft(G.mul_(torch.fft.rfft(kernel).conj()[:, None]), n=2 * length)[..., :length]
    return grad_x, grad_kernel


def _toeplitz_product(x: Tensor, kernel: Tensor) -> Tensor:
    """`_fft_product` as one matrix product per channel, (s l) times (l l)."""
    return torch.bmm(x, _toeplitz(kernel))


def _toeplitz_gradients(x: Tensor, g: Tensor, kernel: Tensor) -> tuple[Tensor, Tensor]:
    """`_fft_gradients` by matrix products; ∂kernel sums ∂toeplitz along its diagonals."""
    lags = _lags(x.shape[-1], x.device)
    grad_kernel = torch.zeros_like(kernel).index_add_(1, lags, torch.bmm(x.mT, g).flatten(1))
    return torch.bmm(g, _toeplitz(kernel).mT), grad_kernel


def _toeplitz(kernel: Tensor) -> Tensor:
    """(d 2l) circular -> (d l l), entry [source, target] = tap of lag target − source."""
    length = kernel.shape[1] // 2
    return kernel.index_select(1, _lags(length, kernel.device)).unflatten(1, (length, length))


def _lags(length: int, device: torch.device) -> Tensor:
    """(source · target,): the lag target − source as an index into a circular filter of 2·length taps."""
    slot = torch.arange(length, device=device)
    return ((slot[None, :] - slot[:, None]) % (2 * length)).flatten()
