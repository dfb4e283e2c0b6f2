"""Centroids for routing: clusters of the token representations of a MOIRAI that has been trained."""

from collections.abc import Iterable

import numpy as np
import torch
from scipy.cluster.vq import kmeans2
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from tsfm_lab.data.packing import PackedBatch
from tsfm_lab.models.moirai import PackedForecaster
from tsfm_lab.models.moirai_moe import ExpertDecoder
from tsfm_lab.nn.moe import CentroidRouter


@torch.no_grad()
def token_representations(module: PackedForecaster, batches: Iterable[PackedBatch]) -> list[Tensor]:
    """What each layer's feed-forward reads of the visible tokens of `batches`: per layer (n d) float32, on the CPU."""
    found: list[list[Tensor]] = [[] for _ in module.encoder.layers]
    device = next(module.parameters()).device

    def keep(index: int, visible: Tensor) -> RemovableHandle:
        def hook(ffn: nn.Module, inputs: tuple[Tensor]) -> None:
            found[index].append(inputs[0].flatten(0, -2)[visible].float().cpu())

        return module.encoder.layers[index].ffn.register_forward_pre_hook(hook)

    for batch in batches:
        visible = ((batch["sample_id"] > 0) & ~batch["prediction_mask"]).flatten().to(device)
        hooks = [keep(index, visible) for index in range(len(found))]
        try:
            module(**{name: value.to(device) for name, value in batch.items()})
        finally:
            for hook in hooks:
                hook.remove()
    return [torch.cat(parts) for parts in found]


def cluster_tokens(
    module: PackedForecaster,
    batches: Iterable[PackedBatch],
    num_experts: int,
    *,
    max_tokens: int = 20_000,
    seed: int = 0,
) -> Tensor:
    """Centroids of k-means over the token representations of each layer of a trained MOIRAI: (l e d) float64.

    Liu et al. 2024, arXiv:2410.10469, §3.2. max_tokens: of each layer, drawn evenly from those of the batches.

    Raises
    ------
    ValueError: the batches have fewer visible tokens than there are to be centroids.
    """
    layers = token_representations(module, batches)
    n = len(layers[0])
    if n < num_experts:
        raise ValueError(f"{num_experts} centroids need as many tokens at least, got {n}: give more batches")
    some = np.unique(np.linspace(0, n - 1, min(n, max_tokens)).astype(int))
    centroids = [
        kmeans2(tokens[some].double().numpy(), num_experts, iter=20, minit="++", seed=seed)[0] for tokens in layers
    ]
    return torch.from_numpy(np.stack(centroids))


@torch.no_grad()
def set_centroids(module: ExpertDecoder, centroids: Tensor) -> None:
    """Give the routers of a MOIRAI-MoE their centroids, (l e d).

    Raises
    ------
    ValueError: the model does not route by centroids, or the shape is not that of its layers, experts and width.
    """
    routers = [layer.ffn.router for layer in module.encoder.layers]
    if not all(isinstance(router, CentroidRouter) for router in routers):
        raise ValueError("centroids are for a model with router='centroid', this one routes by linear gates")
    expected = (len(routers), *routers[0].centroid.shape)
    if tuple(centroids.shape) != expected:
        raise ValueError(
            f"centroids must be (layers experts d_model) = {expected}, got {tuple(centroids.shape)}: cluster the "
            "tokens of a model of the same depth and width"
        )
    for router, centroid in zip(routers, centroids, strict=True):
        router.centroid.copy_(centroid)
