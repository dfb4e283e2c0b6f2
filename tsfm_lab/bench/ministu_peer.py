"""The published mini_stu of a flash-stu checkout, as a peer to measure against. Nothing of it is copied here."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import nn


def load_peers(folder: Path, seq_len: int, dim: int) -> dict[str, nn.Module]:
    """Its two backends, 24 filters, dim channels in and out, float32 on the CPU.

    folder: the checkout, holding `mini_stu/`. Its lds backend mixes float64 states with a float32 read-out, which fails
    on a CPU: all of it is made float32 here. Raises ValueError where there is no `mini_stu` in the folder.
    """
    if not (folder / "mini_stu" / "__init__.py").exists():
        raise ValueError(f"{folder} holds no mini_stu: name the checkout of a published mini_stu")
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    from mini_stu import MiniSTU

    torch._dynamo.reset()  # its scan is compiled for one length, and given up after eight
    spectral = MiniSTU(seq_len, 24, dim, dim, backend="spectral")
    lds = MiniSTU(seq_len, 24, dim, dim, backend="lds")
    system = lds.distill_stu.lds.float()
    system.a_cache.clear(), system.a_final_cache.clear()
    system.precompute_scan_A(seq_len)
    return {"peer_spectral": spectral, "peer_lds": lds}
