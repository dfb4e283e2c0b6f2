"""Segment plan of a packed batch: which runs of tokens are one series, and how to gather them into dense blocks.

A packed row holds many short series one after another. A layer that mixes tokens along time (`PackedSTU`) must treat
each of them alone. `plan_segments` finds the runs once per batch and groups them by length; a layer needs two gathers:

    blocks = tokens[gather]   (s l) per bucket        tokens = concat(blocks)[inverse]   (b t)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

SEGMENTATIONS = ("variate", "sample")


@dataclass(frozen=True)
class Bucket:
    """Segments of similar length as one dense block of `length` slots each."""

    length: int
    gather: Tensor  # (s l) int64: index into the flat (b t) tokens; 0 in empty slots
    empty: Tensor  # (k) int64: the empty slots behind the segments' ends, as indices into (s l)

    def take(self, x: Tensor) -> Tensor:
        """This bucket's blocks: x (d n) -> (d s l), zero in empty slots."""
        blocks = x.index_select(1, self.gather.flatten()).index_fill_(1, self.empty, 0.0)
        return blocks.unflatten(1, self.gather.shape)

    def map(self, move: Callable[[Tensor], Tensor]) -> Bucket:
        return Bucket(self.length, move(self.gather), move(self.empty))


@dataclass(frozen=True)
class SegmentPlan:
    """Where each segment of a packed batch lies; made once per batch by `plan_segments`, shared by all layers."""

    segment_by: str  # "variate" or "sample"
    shape: tuple[int, int]  # (b, t) of the batch that it was made for
    longest: int  # tokens of the longest segment
    buckets: tuple[Bucket, ...]  # by ascending length
    inverse: Tensor  # (b t) int64: token -> slot in the concatenated buckets; the slot past the last one is padding's

    @property
    def num_slots(self) -> int:
        """Slots of all buckets together; `num_slots` itself is the index of the zero that padding tokens read."""
        return sum(bucket.gather.numel() for bucket in self.buckets)

    @property
    def num_segments(self) -> int:
        return sum(bucket.gather.shape[0] for bucket in self.buckets)

    def check_fits(self, num_tokens: int, num_lags: int) -> None:
        """Raise if the plan is for a batch of another size, or has a segment longer than filters of `num_lags`."""
        b, t = self.shape
        if num_tokens != b * t:
            raise ValueError(f"the segment plan is for {b} × {t} = {b * t} tokens, got {num_tokens}")
        if self.longest > num_lags:
            raise ValueError(
                f"a segment has {self.longest} tokens, the filters {num_lags}: use a larger patch size, "
                f"a shorter context, or filters of at least {self.longest} tokens"
            )

    def take(self, x: Tensor) -> Tensor:
        """All buckets' blocks behind one another: x (d n) -> (d slots), zero in empty slots."""
        return torch.cat([x.new_zeros(len(x), 0), *(bucket.take(x).flatten(1) for bucket in self.buckets)], dim=1)

    def put_back(self, blocks: Iterable[Tensor], like: Tensor) -> Tensor:
        """In token order: blocks (d s l) per bucket, or (d slots) at once -> (d n) with d, dtype and device of `like`.

        Zero at padding.
        """
        slots = like.new_empty(len(like), self.num_slots + 1)
        slots[:, -1] = 0
        end = 0
        for block in blocks:
            start, end = end, end + block[0].numel()
            slots[:, start:end].unflatten(1, block.shape[1:]).copy_(block)
        return slots.index_select(1, self.inverse.flatten())

    def map(self, move: Callable[[Tensor], Tensor]) -> SegmentPlan:
        """The same plan with `move` applied to every index tensor."""
        return replace(self, buckets=tuple(b.map(move) for b in self.buckets), inverse=move(self.inverse))

    def to(self, device: torch.device | str, non_blocking: bool = False) -> SegmentPlan:
        """The plan on `device`; Lightning and `training` move batches through this method."""
        return self.map(lambda index: index.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> SegmentPlan:
        """The plan in page-locked memory; torch's DataLoader calls it for `pin_memory=True`."""
        return self.map(Tensor.pin_memory)


def plan_segments(
    sample_id: Tensor,
    variate_id: Tensor | None = None,
    segment_by: str = "variate",
    coarse: bool = False,
) -> SegmentPlan:
    """Group the runs of equal (sample_id, variate_id), or of equal sample_id, by length.

    Parameters
    ----------
    sample_id: (b t) int, 0 = padding, which belongs to no segment.
    variate_id: (b t) int; needed for `segment_by="variate"`.
    segment_by: "variate": one series, one segment; "sample": the variates of a sample follow each other in one segment.
    coarse: few buckets (64, 128, 256, …) for a GPU, where a kernel launch costs more than padding;
        otherwise 2^k and 1.5·2^k from 16 on.

    Raises
    ------
    ValueError: an unknown segmentation, ids of different shapes, or a segment whose tokens are not contiguous.
    """
    if segment_by not in SEGMENTATIONS:
        raise ValueError(f"segment_by must be one of {', '.join(SEGMENTATIONS)}, got {segment_by!r}")
    if sample_id.dim() != 2:
        raise ValueError(f"sample_id must be (b t), got shape {tuple(sample_id.shape)}")
    ids = [sample_id.detach().cpu().numpy()]
    if segment_by == "variate":
        if variate_id is None or variate_id.shape != sample_id.shape:
            got = None if variate_id is None else tuple(variate_id.shape)
            raise ValueError(f"variate_id must have sample_id's shape {tuple(sample_id.shape)}, got {got}")
        ids.append(variate_id.detach().cpu().numpy())

    start, length = _find_runs(ids, segment_by)
    plan = _fill_buckets(start, length, tuple(sample_id.shape), segment_by, coarse)
    return plan.to(sample_id.device)


def bucket_length(length: np.ndarray, coarse: bool = False) -> np.ndarray:
    """Smallest admissible block length ≥ `length`: 2^k and 1.5·2^k from 16 on, or (coarse) 2^k from 64 on."""
    shortest = 64 if coarse else 16
    power = 2 ** np.ceil(np.log2(np.maximum(length, shortest))).astype(np.int64)
    three_quarters = power * 3 // 4
    return np.where(not coarse and (length <= three_quarters) & (three_quarters >= shortest), three_quarters, power)


def _find_runs(ids: Sequence[np.ndarray], segment_by: str) -> tuple[np.ndarray, np.ndarray]:
    """Start (in flat tokens) and length of every run of equal ids that is not padding."""
    b, t = ids[0].shape
    begins = np.ones((b, t), dtype=bool)
    begins[:, 1:] = np.logical_or.reduce([i[:, 1:] != i[:, :-1] for i in ids])
    start = np.flatnonzero(begins)
    length = np.diff(start, append=b * t)
    keys = np.stack([start // t, *(i.reshape(-1)[start] for i in ids)], axis=1)  # (run, [row, sample, variate])
    used = keys[:, 1] != 0
    start, length, keys = start[used], length[used], keys[used]

    first = np.unique(keys, axis=0, return_index=True)[1]
    if len(first) < len(keys):
        row, sample, *variate = keys[np.setdiff1d(np.arange(len(keys)), first)[0]].tolist()
        name = f"sample_id={sample}" + (f", variate_id={variate[0]}" if variate else "")
        raise ValueError(
            f"segment_by={segment_by!r} needs the tokens of a segment side by side, but those of {name} in row {row} "
            "are split; order each sample variate by variate, context before horizon"
        )
    return start, length


def _fill_buckets(
    start: np.ndarray, length: np.ndarray, shape: tuple[int, int], segment_by: str, coarse: bool
) -> SegmentPlan:
    """Lay the segments out in blocks and record both directions of the gather."""
    size = bucket_length(length, coarse)
    num_tokens = shape[0] * shape[1]
    inverse = np.full(num_tokens, -1, dtype=np.int64)
    buckets, offset = [], 0
    for block in np.unique(size):
        member = size == block
        slot = np.arange(block)
        filled = slot < length[member, None]  # (s l)
        gather = np.where(filled, start[member, None] + slot, 0)
        inverse[gather[filled]] = offset + np.flatnonzero(filled)
        offset += gather.size
        empty = np.flatnonzero(~filled)
        buckets.append(Bucket(int(block), torch.from_numpy(gather), torch.from_numpy(empty)))
    inverse[inverse < 0] = offset
    longest = int(length.max(initial=0))
    return SegmentPlan(segment_by, shape, longest, tuple(buckets), torch.from_numpy(inverse).view(shape))
