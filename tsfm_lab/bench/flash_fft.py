"""FlashFFTConv as the convolution of PackedSTU, on GPUs where the package is installed."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

import torch
from torch import Tensor

from tsfm_lab.nn.packed_stu import STUCore
from tsfm_lab.nn.packing import SegmentPlan

SHORTEST = 128  # its smallest transform is 256 points, half of them padding


def has_flash_fft() -> bool:
    """Whether FlashFFTConv is installed: https://github.com/HazyResearch/flash-fft-conv, CUDA only."""
    return find_spec("flashfftconv") is not None


def make_flash_mixer(stu: STUCore, segments: SegmentPlan) -> Callable[[Tensor], Tensor]:
    """`x: (b t d) -> (b t d)` as `stu.mix` of a causal approximation, in bfloat16 transforms of FlashFFTConv.

    Fu et al. 2023, arXiv:2311.05908.
    """
    from flashfftconv import FlashFFTConv

    lengths = {max(bucket.length, SHORTEST) for bucket in segments.buckets}
    convolutions = {n: FlashFFTConv(2 * n, dtype=torch.bfloat16).to(segments.inverse.device) for n in lengths}

    def mix(x: Tensor) -> Tensor:
        u = (x.flatten(0, 1) @ stu.M_inputs).to(torch.bfloat16)
        taps = stu.taps()
        outputs = []
        for bucket in segments.buckets:
            n = max(bucket.length, SHORTEST)
            block = u[bucket.gather.flatten()].index_fill(0, bucket.empty, 0.0).unflatten(0, bucket.gather.shape)
            block = torch.nn.functional.pad(block.mT, (0, n - bucket.length))
            y = convolutions[n](block.contiguous(), taps[:, :n].contiguous())
            outputs.append(y[..., : bucket.length].mT.flatten(0, 1))
        slots = torch.cat([*outputs, u.new_zeros(1, u.shape[1])])
        return slots[segments.inverse].to(x.dtype)

    return mix
