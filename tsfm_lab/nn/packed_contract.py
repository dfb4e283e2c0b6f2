"""Convolution with a matrix per lag inside each segment of a packed batch: y_t = Σ_l x_{t−l} W_l."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor

from tsfm_lab.nn.packing import SegmentPlan
from tsfm_lab.spectral.contraction import SpectralContraction
from tsfm_lab.spectral.convolution import FilterBank


@torch.compiler.disable  # the buckets' shapes change with every batch; what surrounds them compiles once
def contract_segments(
    x: Tensor, bank: FilterBank, M: Tensor, segments: SegmentPlan, M_future: Tensor | None = None
) -> Tensor:
    """y_t = Σ_l x_{t−l} W_l (+ Σ_l x_{t+l} W'_l) over the tokens of t's own segment, l ≥ 0; W_l = Σ_k ψ_{l,k} M_k.

    Frequency by frequency (`SpectralContraction`), so that no (n k d) tensor is built. Reversed lags conjugate the
    spectrum: a two-sided filter is one contraction with twice as many terms and the same two transforms.

    Parameters
    ----------
    x: (i n), the n = b·t flat tokens of the batch, time last.
    bank: k filters ψ, in tokens.
    M, M_future: (k i o), weights of the bank for l tokens ago and l tokens ahead.
    segments: the batch's plan.

    Returns
    -------
    (o n); zero at padding tokens.

    Raises
    ------
    ValueError: x is not for the plan's batch, or a segment is longer than the filters.
    """
    segments.check_fits(x.shape[1], bank.seq_len)
    dtype = torch.promote_types(x.dtype, torch.float32)
    weights = (M if M_future is None else torch.cat([M, M_future])).to(dtype)
    with torch.autocast(x.device.type, enabled=False):
        slots = SegmentGather.apply(x.to(dtype), segments, True)
        outputs = [weights[0].mT @ slots[:, :0]]  # (o 0): a batch of padding alone has gradients too, zeros
        sizes = [bucket.gather.numel() for bucket in segments.buckets]
        for block, bucket in zip(slots.split(sizes, dim=1), segments.buckets, strict=True):
            length = bucket.length
            P = bank.spectrum(2 * length, min(length, bank.seq_len), x.device, dtype)
            P = P if M_future is None else torch.cat([P, P.conj()], dim=1)
            P = rearrange(torch.view_as_real(P), "f k c -> f c k")
            X = torch.fft.rfft(block.unflatten(1, bucket.gather.shape), n=2 * length)
            Y = SpectralContraction.apply(P, rearrange(X, "i s f -> f s i"), weights)
            y = torch.fft.irfft(rearrange(Y, "f s o -> o s f"), n=2 * length)[..., :length]
            outputs.append(y.flatten(1))
        return SegmentGather.apply(torch.cat(outputs, dim=1), segments, False).to(x.dtype)


class SegmentGather(torch.autograd.Function):
    """Tokens (d n) -> slots (d m) of all buckets, or back; each is the other's adjoint, so both directions gather.

    Indexing's own backward would scatter-add.
    """

    @staticmethod
    def forward(ctx, x: Tensor, segments: SegmentPlan, into_slots: bool) -> Tensor:
        ctx.segments, ctx.into_slots = segments, into_slots
        return segments.take(x) if into_slots else segments.put_back([x], like=x)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        return SegmentGather.apply(grad, ctx.segments, not ctx.into_slots), None, None
