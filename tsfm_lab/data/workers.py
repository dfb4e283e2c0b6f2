"""Batches made ahead by worker processes, equal to the stream's own whatever their number."""

import math
import pickle
from collections.abc import Iterator
from itertools import count, islice

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tsfm_lab.data.packing import Layout, PackedBatch
from tsfm_lab.data.stream import WINDOW_ROWS, TrainingStream
from tsfm_lab.nn.packing import SegmentPlan

CACHE_LINE = 64  # bytes, which each field is aligned to


class PackedLoader:
    """The batches of one rank from `first_step` on, in order; without `num_steps`, without end.

    A worker makes the steps of a whole window at once, so that no window is made twice in a pass.
    num_workers: processes; 0 makes each batch when it is asked for. prefetch_factor: windows that each worker is ahead.
    pin_memory: workers' batches come in page-locked memory, for a GPU. What was left out is in `stream.skip_report()`.
    """

    def __init__(
        self,
        stream: TrainingStream,
        *,
        first_step: int = 0,
        num_steps: int | None = None,
        rank: int = 0,
        world_size: int = 1,
        num_workers: int = 0,
        prefetch_factor: int = 2,
        pin_memory: bool = False,
    ):
        self.stream, self.first_step, self.num_steps = stream, first_step, num_steps
        self.rank, self.world_size = rank, world_size
        self.num_workers, self.prefetch_factor, self.pin_memory = num_workers, prefetch_factor, pin_memory
        if first_step < 0:
            raise ValueError(f"first_step must not be negative, got {first_step}")

    def __len__(self) -> int:
        if self.num_steps is None:
            raise TypeError("the loader has no end; give num_steps")
        return self.num_steps

    def __iter__(self) -> Iterator[PackedBatch]:
        if not self.num_workers:
            steps = count(self.first_step)
            for step in steps if self.num_steps is None else islice(steps, self.num_steps):
                yield self.stream.batch(step, self.rank, self.world_size)
            return
        loader = DataLoader(
            _Chunks(self.stream, self.rank, self.world_size),
            batch_size=None,  # an item is whole batches already
            sampler=self._chunks(),
            num_workers=self.num_workers,
            prefetch_factor=self.prefetch_factor,
            pin_memory=self.pin_memory,
        )
        for memory, description in loader:
            layout, plans, skips = pickle.loads(description)
            self.stream.skips.update(skips)
            rows = {name: torch.from_numpy(field) for name, field in _fields(memory.numpy(), layout).items()}
            for batch, plan in zip(_split_steps(rows, len(plans)), plans, strict=True):
                yield batch if plan is None else {**batch, "segments": plan.map(torch.from_numpy)}

    def _chunks(self) -> Iterator[tuple[int, int]]:
        """(first step, number of steps) of each chunk; chunks end where windows end."""
        size = max(1, WINDOW_ROWS // self.stream.batch_rows)
        end = None if self.num_steps is None else self.first_step + self.num_steps
        step = self.first_step
        while end is None or step < end:
            number = size - step % size
            number = number if end is None else min(number, end - step)
            yield step, number
            step += number


class _Chunks(Dataset):
    """What a worker sends: the rows of a few consecutive steps in one piece of shared memory, all else pickled.

    Each tensor by itself would cost the receiver a file descriptor and a handshake, and a plan is dozens of them.
    """

    def __init__(self, stream: TrainingStream, rank: int, world_size: int):
        self.stream, self.rank, self.world_size = stream, rank, world_size

    def __getitem__(self, chunk: tuple[int, int]) -> tuple[Tensor, bytes]:
        first_step, num_steps = chunk
        shared = _SharedMemory()
        rows = self.stream.rows(first_step, num_steps, self.rank, self.world_size, shared.allocate)
        plans = [self._plan(batch) for batch in _split_steps(rows, num_steps)]
        skips = {w: self.stream.skips[w] for w in self.stream.windows_of(first_step, num_steps)}
        return shared.memory, pickle.dumps((shared.layout, plans, skips))

    def _plan(self, batch: PackedBatch) -> SegmentPlan | None:
        return None if self.stream.segment_by is None else self.stream.plan(batch).map(Tensor.numpy)


def _split_steps(rows: PackedBatch, num_steps: int) -> list[PackedBatch]:
    """The rows of consecutive steps as one batch (of views) per step."""
    fields = {name: field.chunk(num_steps) for name, field in rows.items()}
    return [{name: parts[i] for name, parts in fields.items()} for i in range(num_steps)]


class _SharedMemory:
    """One piece of memory, shared from the start, that holds all fields of a batch: moving them there would copy them.

    memory: (n) uint8. layout: of the fields, one behind the other.
    """

    memory: Tensor
    layout: Layout

    def allocate(self, layout: Layout) -> dict[str, np.ndarray]:
        storage = torch.UntypedStorage._new_shared(sum(_num_bytes(*field) for field in layout.values()))
        self.memory, self.layout = torch.empty(0, dtype=torch.uint8).set_(storage), layout
        return _fields(self.memory.numpy(), layout)  # fresh pages are zero


def _fields(memory: np.ndarray, layout: Layout) -> dict[str, np.ndarray]:
    """The fields that lie in `memory`, (n) uint8, as views of it."""
    fields, begin = {}, 0
    for name, (shape, dtype) in layout.items():
        fields[name] = np.ndarray(shape, dtype, memory, begin)
        begin += _num_bytes(shape, dtype)
    return fields


def _num_bytes(shape: tuple[int, ...], dtype: np.dtype) -> int:
    return -(-math.prod(shape) * dtype.itemsize // CACHE_LINE) * CACHE_LINE
