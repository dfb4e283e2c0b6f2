"""The published experiment's way to run an STU over packed rows: the reference that PackedSTU is compared with."""

from __future__ import annotations

import torch
from torch import Tensor

from tsfm_lab.nn.packed_stu import STUCore


def mix_by_source_loop(stu: STUCore, x: Tensor, sample_id: Tensor) -> Tensor:
    """Unpack by sample_id, convolve each sample with a transform of full length, repack.

    `x: (b t d), sample_id: (b t) int, 0 = padding -> (b t d)`; the same function as `PackedSTU` of a causal
    approximation with segment_by="sample".
    """
    n = 2 * stu.seq_len
    H = torch.fft.rfft(stu.taps().mT, n=n, dim=0)
    y = torch.zeros_like(x)
    for row in range(len(x)):
        for sample in sample_id[row].unique().tolist():
            if sample == 0:
                continue
            member = sample_id[row] == sample
            u = x[row, member] @ stu.M_inputs
            y[row, member] = torch.fft.irfft(torch.fft.rfft(u, n=n, dim=0) * H, n=n, dim=0)[: len(u)]
    return y
