"""What a layer is worth: a model without the update of one layer, and its scores."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from tsfm_lab.data.packing import PackedBatch
from tsfm_lab.models.moirai2 import QuantileDecoder
from tsfm_lab.training.losses import PackedNLLLoss, PackedQuantileLoss

PARTS = ("mix", "feed")  # attention or STU; feed-forward or experts


@contextmanager
def without_update(module: nn.Module, layer: int, parts: tuple[str, ...] = PARTS) -> Iterator[nn.Module]:
    """The packed model in which a layer's x ← x + f(norm(x)) is x ← x, for its "mix", its "feed" or both.

    In a layer that norms behind the sum, x ← norm(x) remains. The update is made zero where it is computed, so that
    whatever calls the layers sees it. A decoder that reads a layer's parts itself does not: `scale="frozen"` of
    `MoiraiMoEForecast` is left as it was.

    Raises
    ------
    ValueError: there is no such layer or part.
    """
    layers = module.encoder.layers
    if not 0 <= layer < len(layers):
        raise ValueError(f"layer must be one of 0 … {len(layers) - 1}, got {layer}")
    if not parts or not set(parts) <= set(PARTS):
        raise ValueError(f"parts must be of {PARTS}, got {parts}")
    chosen = layers[layer]
    mix = chosen.stu if hasattr(chosen, "stu") else chosen.self_attn
    sources = {"mix": mix, "feed": chosen.ffn}
    hooks = [sources[part].register_forward_hook(lambda _, inputs, output: torch.zeros_like(output)) for part in parts]
    try:
        yield module
    finally:
        for hook in hooks:
            hook.remove()


def ablate_layers(
    module: nn.Module,
    score: Callable[[nn.Module], Mapping[str, float]],
    choices: tuple[tuple[str, ...], ...] = (("mix",), ("feed",), PARTS),
) -> list[dict[str, Any]]:
    """Scores of the whole model, then without each layer's parts in turn: rows of layer, kind, without and scores.

    score: of a module, e.g. `evaluation.HeldOutScore`. layer is None in the first row.
    """
    rows = [{"layer": None, "kind": "", "without": "", **score(module)}]
    for number, layer in enumerate(module.encoder.layers):
        for parts in choices:
            with without_update(module, number, parts):
                found = score(module)
            kind = "STU" if hasattr(layer, "stu") else "attention"
            rows.append({"layer": number, "kind": kind, "without": "+".join(parts), **found})
    return rows


@torch.no_grad()
def packed_loss(module: nn.Module, batch: PackedBatch) -> float:
    """The loss that a packed model is trained with, on `batch`: negative log-likelihood, or quantile loss in scales."""
    quantiles = isinstance(module, QuantileDecoder)
    loss = PackedQuantileLoss(module.quantile_levels) if quantiles else PackedNLLLoss()
    return loss(module.forward_predicted(**batch), batch).item()
