"""Rows of tokens: first-fit-decreasing packing of samples, and the packed batch that the models read."""

from collections.abc import Callable, Iterable, Sequence
from typing import NotRequired, TypedDict

import numpy as np
import torch
from torch import Tensor

from tsfm_lab.data.transforms import TOKEN_FIELDS, Sample
from tsfm_lab.nn.packing import SegmentPlan

Layout = dict[str, tuple[tuple[int, ...], np.dtype]]  # shape and type of each field of a batch
Allocate = Callable[[Layout], dict[str, np.ndarray]]


class PackedBatch(TypedDict):
    """Samples packed into rows of t tokens; the one currency between data and models. Padding is 0 everywhere."""

    target: Tensor  # (b t patch) float32: the values of a token's patch, 0 where missing and past the patch size
    observed_mask: Tensor  # (b t patch) bool: True where a value was observed
    sample_id: Tensor  # (b t) int64: 1, 2, … within a row; 0 = padding
    time_id: Tensor  # (b t) int64: patch of time within the sample
    variate_id: Tensor  # (b t) int64: variate within the sample
    prediction_mask: Tensor  # (b t) bool: True where the token is to be predicted
    patch_size: Tensor  # (b t) int64: steps of the token's patch
    segments: NotRequired[SegmentPlan]  # of the STU layers, where the stream is told to make it


def first_fit_decreasing(lengths: Sequence[int] | np.ndarray, capacity: int) -> list[list[int]]:
    """Items packed into bins of `capacity`: longest first, each into the first bin with room (Johnson 1973).

    Returns the bins, each a list of indices into `lengths`. Equal lengths keep their order.
    Raises: ValueError for an item that no bin can hold.
    """
    lengths = np.asarray(lengths, dtype=np.int64)
    if len(lengths) and (lengths.max() > capacity or lengths.min() < 1):
        wrong = int(np.flatnonzero((lengths > capacity) | (lengths < 1))[0])
        raise ValueError(f"lengths must be between 1 and capacity={capacity} tokens, got {lengths[wrong]} at {wrong}")
    room = np.full(len(lengths), capacity)
    bins: list[list[int]] = []
    for i in np.argsort(-lengths, kind="stable"):
        k = int((room >= lengths[i]).argmax())
        if k == len(bins):
            bins.append([])
        bins[k].append(int(i))
        room[k] -= lengths[i]
    return bins


def zeros_in_memory(layout: Layout) -> dict[str, np.ndarray]:
    """Zeros of this process: in huge pages, which torch.zeros does not ask for and takes four times as long."""
    return {name: np.zeros(shape, dtype) for name, (shape, dtype) in layout.items()}


def pack_rows(
    rows: Iterable[Sequence[Sample]],
    num_rows: int,
    max_seq_len: int,
    max_patch_size: int,
    allocate: Allocate = zeros_in_memory,
) -> PackedBatch:
    """Lay samples one after another in `num_rows` rows of `max_seq_len` tokens, zeros behind them and their patches.

    rows: for each row its samples, each with TOKEN_FIELDS of one length; together at most `max_seq_len` tokens. Taken
    row by row, so that samples made on the way need not be in memory together.
    max_patch_size: steps of a token, which patches are padded to.
    allocate: makes the zeros of all fields, e.g. in shared memory.
    Raises: ValueError for a row that is too long, or no samples.
    """
    fields = {}
    for r, samples in enumerate(rows):
        begin = 0
        for sample_id, sample in enumerate(samples, start=1):
            if not fields:
                fields = allocate(_layout(sample, (num_rows, max_seq_len), max_patch_size))
            end = begin + len(sample["target"])
            if end > max_seq_len:
                raise ValueError(f"a row must have at most max_seq_len={max_seq_len} tokens, row {r} has {end} or more")
            p = sample["target"].shape[1]
            for name in TOKEN_FIELDS:
                tokens = fields[name][r, begin:end]
                (tokens[:, :p] if tokens.ndim == 2 else tokens)[:] = sample[name]
            fields["sample_id"][r, begin:end] = sample_id
            begin = end
    if not fields:
        raise ValueError("rows must hold at least one sample, got none")
    return {name: torch.from_numpy(field) for name, field in fields.items()}


def _layout(example: Sample, shape: tuple[int, int], max_patch_size: int) -> Layout:
    """Every field of a batch of so many rows and tokens, with the types of a sample's."""
    widths = {name: (max_patch_size,) * (example[name].ndim - 1) for name in TOKEN_FIELDS}
    fields = {name: (shape + width, example[name].dtype) for name, width in widths.items()}
    return {"sample_id": (shape, np.dtype(np.int64)), **fields}


def packing_waste(batch: PackedBatch) -> float:
    """Share of the batch's tokens that is padding."""
    return float((batch["sample_id"] == 0).float().mean())
