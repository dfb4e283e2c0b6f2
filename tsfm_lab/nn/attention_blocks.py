"""Block plan of a packed batch: which tokens attend to each other, gathered into dense blocks of similar size.

Tokens attend within their sample only, so that attention over a packed row is attention over its samples, one by one.
`plan_blocks` finds them once per batch; every layer then needs two gathers and no (b h t t) mask:

    blocks = tokens[gather]   (n l) per bucket        tokens = concat(blocks)[inverse]   (b t)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

# The variate bias is folded into queries and keys as one extra channel per variate: for up to 16 variates, up to 64
# (which doubles the published head dimension), and not past it, where an additive (n h l l) bias costs less.
FOLDED_VARIATES = (16, 64)


@dataclass(frozen=True)
class BlockBucket:
    """n blocks of l slots each; a block is one sample. Empty slots stand behind a block's end."""

    shape: tuple[int, int]  # (n, l)
    causal: bool  # True: slots are in time order, each attends to those up to itself; `mask` is None then
    mask: Tensor | None  # (n 1 1 l) or (n 1 l l) bool, True: attend; None: all slots are filled
    codes: Tensor | None  # (n 1 l v) float, one-hot variate of each slot, where the variate bias is folded
    same: Tensor | None  # (n 1 l l) bool, True: same variate, where the variate bias is added

    def map(self, move: Callable[[Tensor], Tensor]) -> BlockBucket:
        return replace(self, **_map_tensors(self, move))


@dataclass(frozen=True)
class AttentionBlocks:
    """Where each sample of a packed batch lies; made once per batch by `plan_blocks`, shared by all layers."""

    shape: tuple[int, int]  # (b, t) of the batch that it was made for
    buckets: tuple[BlockBucket, ...]  # by ascending size
    gather: Tensor  # (slots) int64: slot -> flat (b t) token; 0 in empty slots
    empty: Tensor  # (k) int64: the empty slots
    inverse: Tensor  # (b·t) int64: token -> slot; 0 for padding
    padding: Tensor  # (m) int64: the tokens of sample 0, which neither attend nor are attended to
    in_place: bool  # every row is one block without padding: nothing has to be gathered

    def map(self, move: Callable[[Tensor], Tensor]) -> AttentionBlocks:
        """The same plan with `move` applied to every tensor."""
        return replace(self, buckets=tuple(b.map(move) for b in self.buckets), **_map_tensors(self, move))

    def to(self, device: torch.device | str, non_blocking: bool = False) -> AttentionBlocks:
        """The plan on `device`; Lightning and `training` move batches through this method."""
        return self.map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> AttentionBlocks:
        """The plan in page-locked memory; torch's DataLoader calls it for `pin_memory=True`."""
        return self.map(Tensor.pin_memory)


def plan_blocks(
    sample_id: Tensor, variate_id: Tensor, time_id: Tensor | None = None, coarse: bool | None = None
) -> AttentionBlocks:
    """Group the samples of a packed batch by size, for attention within a sample.

    Parameters
    ----------
    sample_id: (b t) int; tokens of one row with equal id are a sample, contiguous or not; 0 = padding.
    variate_id: (b t) int.
    time_id: (b t) int; given, attention is causal: a token attends to those with time_id ≤ its own, of all variates.
    coarse: few large buckets, for a GPU, where a kernel launch costs more than empty slots; None: as the ids' device.

    Raises
    ------
    ValueError: ids that are not (b t) or not of one shape.
    """
    ids = {"sample_id": sample_id, "variate_id": variate_id} | ({} if time_id is None else {"time_id": time_id})
    for name, tensor in ids.items():
        if tensor.dim() != 2 or tensor.shape != sample_id.shape:
            raise ValueError(f"{name} must be (b t) = {tuple(sample_id.shape)}, got shape {tuple(tensor.shape)}")
    order, start, length = _find_samples(sample_id.detach().cpu().numpy())
    variate, num_variates = _number_variates(variate_id.detach().cpu().numpy().reshape(-1)[order], start, length)
    time = None if time_id is None else time_id.detach().cpu().numpy().reshape(-1)[order]

    kind = np.where(num_variates == 1, 0, np.searchsorted(FOLDED_VARIATES, num_variates) + 1)
    coarse = sample_id.is_cuda if coarse is None else coarse
    # samples of one length, as in decoding, fit blocks of that length
    size = length if not coarse and len(np.unique(length)) == 1 else block_length(length, coarse)
    buckets, tokens, offset = [], [], 0
    inverse, empty = np.full(sample_id.numel(), -1), [np.zeros(0, dtype=np.int64)]
    for alike in np.unique(np.stack([size, kind]), axis=1).T:
        member = (size == alike[0]) & (kind == alike[1])
        slot = np.arange(alike[0])
        filled = slot < length[member, None]  # (n l)
        place = np.where(filled, start[member, None] + slot, 0)
        tokens.append(np.where(filled, order[place], 0).reshape(-1))
        inverse[order[place[filled]]] = offset + np.flatnonzero(filled)
        empty.append(offset + np.flatnonzero(~filled))
        offset += filled.size
        times = None if time is None else np.where(filled, time[place], np.iinfo(np.int64).max)
        variates = np.where(filled, variate[place], -1)
        buckets.append(_make_bucket(filled, variates, int(num_variates[member].max()), times))

    index = (np.concatenate([*tokens, empty[0]]), np.concatenate(empty))
    index += (np.maximum(inverse, 0), np.flatnonzero(inverse < 0))
    in_place = len(buckets) == 1 and buckets[0].shape == sample_id.shape and bool((index[0] == np.arange(offset)).all())
    plan = AttentionBlocks(tuple(sample_id.shape), tuple(buckets), *map(torch.from_numpy, index), in_place)
    return plan.to(sample_id.device)


def block_length(length: np.ndarray, coarse: bool = False) -> np.ndarray:
    """Smallest admissible block length ≥ `length`: 2^k and 1.5·2^k from 8 to 128, then multiples of 64.

    Coarse: 2^k from 64 on. All are multiples of 8, as fused kernels like them.
    """
    power = 2 ** np.ceil(np.log2(np.maximum(length, 64 if coarse else 8))).astype(np.int64)
    three_quarters = power * 3 // 4
    fine = np.where((length <= three_quarters) & (three_quarters % 8 == 0), three_quarters, power)
    fine = np.where(length > 128, -(-length // 64) * 64, fine)
    return power if coarse else fine


def _find_samples(sample_id: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Flat tokens in order of (row, sample), and where in that order each sample starts and how long it is."""
    row = np.repeat(np.arange(sample_id.shape[0]), sample_id.shape[1])
    sample = sample_id.reshape(-1)
    order = np.lexsort((sample, row))  # stable: a sample's tokens keep their order
    order = order[sample[order] != 0]
    row, sample = row[order], sample[order]
    begins = np.ones(len(order), dtype=bool)
    begins[1:] = (row[1:] != row[:-1]) | (sample[1:] != sample[:-1])
    start = np.flatnonzero(begins)
    return order, start, np.diff(start, append=len(order))


def _number_variates(variate: np.ndarray, start: np.ndarray, length: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each token's variate as a number from 0 within its sample, and each sample's count of variates."""
    block = np.repeat(np.arange(len(start)), length)
    low, high = (variate.min(), variate.max()) if len(variate) else (0, 0)
    span = int(high - low) + 1
    # one number for (block, variate): sorting pairs, as np.unique(axis=1) does, is ten times slower
    pairs, rank = np.unique(block * span + (variate - low), return_inverse=True)
    count = np.bincount(pairs // span, minlength=len(start))
    return rank - np.repeat(np.cumsum(count) - count, length), count


def _make_bucket(filled: np.ndarray, variate: np.ndarray, num_variates: int, time: np.ndarray | None) -> BlockBucket:
    """Mask and variate encoding of one bucket; filled, variate, time: (n l)."""
    codes = same = mask = None
    if 1 < num_variates <= FOLDED_VARIATES[-1]:
        width = -(-num_variates // 8) * 8
        codes = torch.from_numpy((variate[:, None, :, None] == np.arange(width)).astype(np.float32))
    elif num_variates > 1:
        same = torch.from_numpy(variate[:, None, :, None] == variate[:, None, None, :])
    in_order = time is not None and num_variates == 1 and bool((time[:, 1:] > time[:, :-1])[filled[:, 1:]].all())
    if not in_order and (time is not None or not filled.all()):
        attend = np.broadcast_to(filled[:, None, None, :], (*filled.shape[:1], 1, 1, filled.shape[1]))
        if time is not None:
            # an empty slot has the latest time, so that its row is never empty and the softmax stays finite
            attend = attend & (time[:, None, None, :] <= time[:, None, :, None])
        mask = torch.from_numpy(np.array(attend))
    return BlockBucket(tuple(filled.shape), in_order, mask, codes, same)


def _map_tensors(record: AttentionBlocks | BlockBucket, move: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    values = {field.name: getattr(record, field.name) for field in fields(record)}
    return {name: move(value) for name, value in values.items() if isinstance(value, Tensor)}
