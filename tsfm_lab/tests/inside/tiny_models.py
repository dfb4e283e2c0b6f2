"""One tiny model of each kind that can be looked into, and a packed batch for it."""

import torch

from tsfm_lab.models import (
    Moirai2HybridModule,
    Moirai2Module,
    MoiraiHybridModule,
    MoiraiModule,
    MoiraiMoEHybridModule,
    MoiraiMoEModule,
)
from tsfm_lab.tests.models.packed_rows import make_packed_batch

SIZES = {"d_model": 128, "num_layers": 2, "max_seq_len": 48}
PATCHES = {"patch_sizes": (8, 16)}
EXPERTS = {"num_experts": 4, "router": "linear", "d_ff": 32}
KINDS = {
    "moirai": (MoiraiModule, PATCHES),
    "hybrid": (MoiraiHybridModule, PATCHES),
    "moe": (MoiraiMoEModule, PATCHES | EXPERTS),
    "moe_hybrid": (MoiraiMoEHybridModule, PATCHES | EXPERTS),
    "moirai2": (Moirai2Module, {"patch_size": 16}),
    "moirai2_hybrid": (Moirai2HybridModule, {"patch_size": 16}),
}


def make_model(name, seed=0, **options):
    torch.manual_seed(seed)
    module, own = KINDS[name]
    return module.from_preset("small", **SIZES, **own, **options).eval()


def make_batch(module, seed=0):
    """Rows of several samples of several variates, with padding."""
    return make_packed_batch(rows=2, tokens=60, seed=seed, patch_sizes=module.patch_sizes)
