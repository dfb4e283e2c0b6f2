"""Which of the two evaluations of an STU is faster here: measured once per size, then remembered."""

import time

import torch
from torch import Tensor

from tsfm_lab.spectral.chunked import mix_chunked
from tsfm_lab.spectral.contraction import mix_spectral
from tsfm_lab.spectral.convolution import FilterBank

MIX = {"spectral": mix_spectral, "lds": mix_chunked}
ROUNDS = 3

_chosen: dict[tuple, str] = {}


def choose_backend(bank: FilterBank, M: Tensor, batch_size: int, length: int) -> str:
    """The name in MIX that takes least time, forward and backward, for an input (batch_size length i).

    Sizes are rounded up to powers of two. Measured on M's device and in its dtype, with the threads at hand, in ROUNDS
    interleaved rounds after a warm-up, and remembered for the process. "lds" is no candidate for filters that are not
    sums of exponentials. The choice changes the last digits of a result, not the function: record it where a run must
    repeat bit for bit.

    M: (k i o).
    """
    b, t = (1 << (size - 1).bit_length() for size in (batch_size, length))
    t = min(t, bank.seq_len)
    key = (M.device, M.dtype, M.shape, bank.seq_len, b, t, torch.get_num_threads())
    if key not in _chosen:
        try:
            bank.lds  # noqa: B018
        except ValueError:
            return "spectral"
        x = torch.ones(b, t, M.shape[1], device=M.device, dtype=M.dtype)
        best = dict.fromkeys(MIX, float("inf"))
        for round_ in range(1 + ROUNDS):
            for name in MIX:
                seconds = _time_training_step(name, x, bank, M)
                if round_ > 0:
                    best[name] = min(best[name], seconds)
        _chosen[key] = min(best, key=best.__getitem__)
    return _chosen[key]


@torch.enable_grad()
def _time_training_step(name: str, x: Tensor, bank: FilterBank, M: Tensor) -> float:
    """Seconds for one forward and backward pass."""
    x, M = x.detach().requires_grad_(), M.detach().requires_grad_()
    _synchronize(x.device)
    start = time.perf_counter()
    MIX[name](x, bank, M).sum().backward()
    _synchronize(x.device)
    return time.perf_counter() - start


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
