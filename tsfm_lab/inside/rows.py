"""Series of one length as a packed batch to look at: one row each, no padding, every value known."""

import numpy as np
import torch
from torch import nn

from tsfm_lab.data.packing import PackedBatch
from tsfm_lab.forecast.tokens import pack_windows
from tsfm_lab.forecast.windows import Windows


def pack_rows(values: np.ndarray, module: nn.Module, patch_size: int, horizon: int) -> PackedBatch:
    """The batch in which each of s series is a row, its last `horizon` steps under the prediction mask.

    Parameters
    ----------
    values: (s t) or, of several variates, (s c t); no missing values.
    module: the model that is to read it, on whose device the batch lies.
    patch_size, horizon: steps; both the context and the horizon are whole patches.

    Raises
    ------
    ValueError: the module has no such patch size, lengths are no whole patches, or a value is not finite.
    """
    values = np.asarray(values, dtype=np.float32)
    values = values[:, None] if values.ndim == 2 else values
    if patch_size not in module.patch_sizes:
        raise ValueError(f"patch_size must be one of {tuple(module.patch_sizes)}, got {patch_size}")
    context = values.shape[-1] - horizon
    if horizon < 1 or context < 1 or context % patch_size or horizon % patch_size:
        raise ValueError(
            f"context and horizon must be whole patches of {patch_size} steps, got {context} and {horizon} steps"
        )
    if not np.isfinite(values).all():
        raise ValueError("values must be finite; fill or leave out series with gaps")
    past, future = (
        Windows(part, np.zeros((len(part), part.shape[-1]), dtype=bool)) for part in np.split(values, [context], axis=2)
    )
    batch = pack_windows(past, horizon, patch_size, max(module.patch_sizes), future)
    device = next(module.parameters()).device
    return {name: value.to(device) for name, value in batch.items()}


def visible_tokens(batch: PackedBatch) -> torch.Tensor:
    """(b t) bool: tokens of a series whose values the model reads, neither padding nor to be predicted."""
    return (batch["sample_id"] > 0) & ~batch["prediction_mask"]
