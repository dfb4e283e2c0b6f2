"""What the tokens look like between the layers of a packed model."""

import torch
from einops import rearrange
from torch import Tensor, nn

from tsfm_lab.data.packing import PackedBatch
from tsfm_lab.inside.rows import visible_tokens


@torch.no_grad()
def layer_representations(module: nn.Module, batch: PackedBatch) -> list[Tensor]:
    """The embedded tokens, then the output of each layer: L + 1 tensors (b t d), as the forward pass has them."""
    found: list[Tensor] = []
    first, *_ = layers = module.encoder.layers
    hooks = [first.register_forward_pre_hook(lambda _, inputs: found.append(inputs[0]))]
    hooks += [layer.register_forward_hook(lambda _, inputs, output: found.append(output)) for layer in layers]
    try:
        module(**batch)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def visible_representations(module: nn.Module, batch: PackedBatch) -> list[Tensor]:
    """As `layer_representations`, of the tokens whose values the model reads: L + 1 tensors (n d)."""
    visible = visible_tokens(batch)
    return [x[visible] for x in layer_representations(module, batch)]


def mean_representations(module: nn.Module, batch: PackedBatch) -> list[Tensor]:
    """As `layer_representations`, the mean over each row's visible tokens: L + 1 tensors (b d)."""
    weight = rearrange(visible_tokens(batch), "b t -> b t 1").float()
    return [(x * weight).sum(1) / weight.sum(1) for x in layer_representations(module, batch)]
