"""Check of a packed batch at the boundary, where a wrong one can still be explained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

BOOLEAN = ("observed_mask", "prediction_mask")
PER_VALUE = ("target", "observed_mask")
PER_TOKEN = ("sample_id", "time_id", "variate_id", "prediction_mask", "patch_size")
FIELDS = PER_VALUE + PER_TOKEN


def validate_packed_batch(batch: Mapping[str, Tensor], patch_sizes: Sequence[int]) -> None:
    """Check the seven fields of a packed batch for a model with these patch sizes; further fields are ignored.

    target: (b t p) float, p = max(patch_sizes); observed_mask: (b t p) bool; prediction_mask: (b t) bool;
    sample_id, time_id, variate_id, patch_size: (b t) integer. A few passes over the batch, meant for its CPU copy.

    Raises
    ------
    ValueError: a field that is missing or of another dtype or shape; negative ids; a patch size that the model does
    not have; an observed value that is not finite; a predicted token in the padding; nothing observed to predict.
    """
    missing = [name for name in FIELDS if name not in batch]
    if missing:
        raise ValueError(f"a packed batch must have the fields {', '.join(FIELDS)}; missing {missing}")
    _check_dtypes(batch)
    _check_shapes(batch, max(patch_sizes))
    _check_values(batch, patch_sizes)


def check_time_order(sample_id: Tensor, time_id: Tensor, variate_id: Tensor) -> None:
    """Check, for a causal model, that time never runs backwards along a series (sample, variate): ids (b t) int.

    Raises ValueError naming the first token where it does.
    """
    same = (sample_id[:, 1:] == sample_id[:, :-1]) & (variate_id[:, 1:] == variate_id[:, :-1])
    backwards = same & (sample_id[:, 1:] > 0) & (time_id[:, 1:] < time_id[:, :-1])
    if backwards.any():
        row, token = backwards.nonzero()[0].tolist()
        raise ValueError(
            f"time_id must not decrease along a series of a causal model, got {int(time_id[row, token + 1])} after "
            f"{int(time_id[row, token])} at token {token + 1} of row {row}; order each variate's tokens by time"
        )


def _check_dtypes(batch: Mapping[str, Tensor]) -> None:
    for name in FIELDS:
        dtype = batch[name].dtype
        if name == "target":
            fits, expected = dtype.is_floating_point, "a floating-point tensor"
        elif name in BOOLEAN:
            fits, expected = dtype == torch.bool, "a bool tensor"
        else:
            fits, expected = (
                not (dtype.is_floating_point or dtype.is_complex or dtype == torch.bool),
                "an integer tensor",
            )
        if not fits:
            raise ValueError(f"{name} must be {expected}, got {dtype}")


def _check_shapes(batch: Mapping[str, Tensor], p: int) -> None:
    shape = tuple(batch["target"].shape)
    if len(shape) != 3 or shape[-1] != p:
        raise ValueError(f"target must be (b t p) with p={p}, the largest patch size, got shape {shape}")
    for name in FIELDS:
        expected = shape if name in PER_VALUE else shape[:2]
        if tuple(batch[name].shape) != expected:
            raise ValueError(f"{name} must have shape {expected} to fit the target, got {tuple(batch[name].shape)}")


def _check_values(batch: Mapping[str, Tensor], patch_sizes: Sequence[int]) -> None:
    for name in ("sample_id", "time_id", "variate_id"):
        if (batch[name] < 0).any():
            raise ValueError(f"{name} must not be negative, got {int(batch[name].min())}")
    real, predicted, observed = batch["sample_id"] > 0, batch["prediction_mask"], batch["observed_mask"]
    sizes = batch["patch_size"]
    unknown = real & ~torch.isin(sizes, torch.as_tensor(patch_sizes, device=sizes.device))
    if unknown.any():
        wrong = sorted(set(sizes[unknown].tolist()))
        raise ValueError(f"patch_size must be one of {list(patch_sizes)} for every token, got {wrong}")
    if not torch.where(observed, batch["target"], 0.0).isfinite().all():
        raise ValueError("target has NaN or infinite values that observed_mask marks as observed; mask them")
    if (predicted & ~real).any():
        raise ValueError("prediction_mask marks tokens of the padding (sample_id 0); they have no target")
    if not (predicted & observed.any(-1)).any():
        raise ValueError("prediction_mask marks no token with an observed value: the batch has no target to predict")
