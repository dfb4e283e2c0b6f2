"""AdamW in two groups, and the learning rate over the steps, as MOIRAI was trained (Woo et al. 2024, appendix B)."""

import math
from functools import partial

from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

BETAS, EPS = (0.9, 0.98), 1e-6


def split_decayed(module: nn.Module) -> tuple[list[str], list[str]]:
    """Names of the parameters that weight decay applies to, and of those that it does not.

    Undecayed: biases (of any shape: one per patch size is a matrix), the weights of norms, and embeddings, to which the
    mask encoding and the variate bias belong. Decayed: every other matrix.
    """
    kept = set()
    for prefix, owner in module.named_modules():
        for name, _ in owner.named_parameters(prefix, recurse=False):
            is_norm = "norm" in type(owner).__name__.lower()
            if is_norm or isinstance(owner, nn.Embedding) or name.rpartition(".")[2] == "bias":
                kept.add(name)
    trained = [name for name, parameter in module.named_parameters() if parameter.requires_grad]
    return [name for name in trained if name not in kept], [name for name in trained if name in kept]


def make_optimizer(module: nn.Module, lr: float, weight_decay: float) -> AdamW:
    """AdamW (Loshchilov & Hutter 2019) with betas (.9, .98) and ε 1e-6; `weight_decay` for `split_decayed`'s first."""
    parameters = dict(module.named_parameters())
    decayed, undecayed = split_decayed(module)
    groups = [
        {"params": [parameters[name] for name in decayed], "weight_decay": weight_decay},
        {"params": [parameters[name] for name in undecayed], "weight_decay": 0.0},
    ]
    return AdamW([group for group in groups if group["params"]], lr=lr, betas=BETAS, eps=EPS, fused=True)


def lr_factor(step: int, warmup_steps: int, max_steps: int, cycles: int = 1) -> float:
    """Learning rate at `step` as a share of the highest: linear warm-up, then cosine with hard restarts.

    s / w for s < w = warmup_steps; then ½ (1 + cos π {c·(s − w)/(n − w)}), {·} the fractional part, c cycles until
    n = max_steps; 0 from there on. Step 0 has rate 0, as published.
    """
    if step < warmup_steps:
        return step / warmup_steps
    if step >= max_steps:
        return 0.0
    progress = (step - warmup_steps) / (max_steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * (cycles * progress % 1.0)))


def make_schedule(optimizer: AdamW, warmup_steps: int, max_steps: int, cycles: int = 1) -> LambdaLR:
    """The schedule of `lr_factor`, to be stepped after each optimiser step.

    Raises ValueError for a warm-up that is longer than the run; one as long as the run is all warm-up.
    """
    if not 0 <= warmup_steps <= max_steps or cycles < 1:
        raise ValueError(
            f"warmup_steps must be between 0 and max_steps={max_steps} and cycles at least 1, "
            f"got {warmup_steps} and {cycles}"
        )
    return LambdaLR(optimizer, partial(lr_factor, warmup_steps=warmup_steps, max_steps=max_steps, cycles=cycles))
