"""The training stream: the global batch of a step is a pure function of (seed, step).

Rows of packed tokens are planned in windows of 128, each from a random generator of its own, keyed by (seed, window);
window after window they form one endless list of rows. The global batch of step t is rows t·B … (t+1)·B − 1 of the
list and rank r of w takes rows r::w of the batch. So any batch can be made at any time, by any process, at the cost of
the windows that it touches (one, for a batch of up to 128 rows).
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tsfm_lab.data.mixture import Mixture
from tsfm_lab.data.packing import Allocate, PackedBatch, first_fit_decreasing, pack_rows, zeros_in_memory
from tsfm_lab.data.skips import SkipReport
from tsfm_lab.data.transforms import Patchify, Sample, Transform, UnusableSeries, apply_chain
from tsfm_lab.nn.packing import SEGMENTATIONS, SegmentPlan, plan_segments

WINDOW_ROWS = 128  # packing narrow and wide series together wastes 8 % of the tokens on 8 rows, below 1 % on 128
MAX_SKIPS = 1000  # unusable draws in a row that end a run: its data cannot be what was meant


class Draft(NamedTuple):
    """A sample on its way into a row: cropped, its tokens counted, the rest of the chain still to come.

    The rows that another rank takes never need the rest.
    """

    sample: Sample
    tokens: int
    rest: list[Transform]


class TrainingStream:
    """Packed batches of a mixture as a pure function of (seed, step).

    mixture: what is drawn. chain: `pretraining_chain(...)` or another list of transforms that ends with TOKEN_FIELDS.
    batch_rows: B, rows of the global batch. max_seq_len: tokens of a row. segment_by: also make the segment plan of the
    STU layers, by "variate" or "sample" (None: no plan); coarse_segments: few large buckets, for a GPU.
    """

    def __init__(
        self,
        mixture: Mixture,
        chain: Sequence[Transform],
        *,
        seed: int,
        batch_rows: int = 128,
        max_seq_len: int = 512,
        segment_by: str | None = None,
        coarse_segments: bool = False,
    ):
        if batch_rows < 1 or seed < 0:
            raise ValueError(f"batch_rows must be positive and seed not negative, got {batch_rows} and {seed}")
        if segment_by is not None and segment_by not in SEGMENTATIONS:
            raise ValueError(f"segment_by must be None or one of {', '.join(SEGMENTATIONS)}, got {segment_by!r}")
        self.mixture, self.chain, self.seed = mixture, list(chain), seed
        is_patchify = [isinstance(transform, Patchify) for transform in chain]
        if not any(is_patchify):
            raise ValueError("chain must cut patches with Patchify, got none; see pretraining_chain")
        cut = is_patchify.index(True)
        self.max_patch_size = self.chain[cut].max_patch_size
        # patches are padded where they are laid, which spares a copy of up to 16 times their values
        self._to_crop, self._to_tokens = self.chain[:cut], [Patchify(None), *self.chain[cut + 1 :]]
        self.batch_rows, self.max_seq_len = batch_rows, max_seq_len
        self.segment_by, self.coarse_segments = segment_by, coarse_segments
        self.skips: dict[int, SkipReport] = {}  # by window, so that making one twice counts once
        self._windows: OrderedDict[int, list[list[Draft]]] = OrderedDict()

    def batch(self, step: int, rank: int = 0, world_size: int = 1) -> PackedBatch:
        """The rows of one rank in the global batch of one step, with their segment plan where `segment_by` asks for it.

        Raises: ValueError where the ranks cannot share the batch evenly; RuntimeError where hardly a series is usable.
        """
        batch = self.rows(step, 1, rank, world_size)
        return batch if self.segment_by is None else {**batch, "segments": self.plan(batch)}

    def rows(
        self,
        first_step: int,
        num_steps: int,
        rank: int = 0,
        world_size: int = 1,
        allocate: Allocate = zeros_in_memory,
    ) -> PackedBatch:
        """The rows of one rank in consecutive global batches, one after another; `allocate` as in `pack_rows`."""
        if self.batch_rows % world_size or not 0 <= rank < world_size:
            raise ValueError(
                f"batch_rows={self.batch_rows} must be a multiple of world_size={world_size}, and rank below it, "
                f"got rank {rank}"
            )
        wanted = np.arange(first_step * self.batch_rows, (first_step + num_steps) * self.batch_rows)
        wanted = wanted.reshape(num_steps, self.batch_rows)[:, rank::world_size].reshape(-1)
        rows = (self._finish_row(*divmod(int(i), WINDOW_ROWS)) for i in wanted)
        return pack_rows(rows, len(wanted), self.max_seq_len, self.max_patch_size, allocate)

    def _finish_row(self, window: int, row: int) -> list[Sample]:
        """The samples of one row, from a random generator of the row's own."""
        rng = np.random.default_rng((self.seed, window, 1 + row))  # (seed, window, 0) is the same key as (seed, window)
        return [apply_chain(draft.rest, draft.sample, rng) for draft in self.window(window)[row]]

    def plan(self, batch: PackedBatch) -> SegmentPlan:
        """The segment plan of a batch for the stream's segmentation."""
        return plan_segments(batch["sample_id"], batch["variate_id"], self.segment_by, self.coarse_segments)

    def windows_of(self, first_step: int, num_steps: int) -> range:
        """The windows that the rows of these steps lie in."""
        begin, end = first_step * self.batch_rows, (first_step + num_steps) * self.batch_rows
        return range(begin // WINDOW_ROWS, (end - 1) // WINDOW_ROWS + 1)

    def skip_report(self) -> SkipReport:
        """What the windows made so far left out, altogether."""
        total = SkipReport()
        for _, report in sorted(self.skips.items()):
            total.merge(report)
        return total

    def window(self, index: int) -> list[list[Draft]]:
        """The drafts of rows 128·index … 128·index + 127.

        The last two windows are kept, for batches that share one or lie across two.
        """
        if index in self._windows:
            self._windows.move_to_end(index)
        else:
            self._windows[index] = self._make_window(index)
            if len(self._windows) > 2:
                self._windows.popitem(last=False)
        return self._windows[index]

    def _make_window(self, index: int) -> list[list[Draft]]:
        """Draw samples until 128 rows cannot hold more, pack them, and put the rows in random order.

        First-fit-decreasing sorts by length; unshuffled, the batches of a window would differ in kind.
        """
        rng, skips = np.random.default_rng((self.seed, index)), SkipReport()
        room = WINDOW_ROWS * self.max_seq_len
        drafts: list[Draft] = []
        while room >= 0:
            drafts.append(self._draw(rng, skips))
            room -= drafts[-1].tokens
        lengths = [draft.tokens for draft in drafts[:-1]]
        bins = first_fit_decreasing(lengths, self.max_seq_len)
        while len(bins) > WINDOW_ROWS:
            lengths.pop()
            bins = first_fit_decreasing(lengths, self.max_seq_len)
        while len(bins) < WINDOW_ROWS:  # dropping one sample can close several rows at once
            bins.append([max(bins, key=len).pop()])
        self.skips[index] = skips
        return [[drafts[i] for i in bins[k]] for k in rng.permutation(WINDOW_ROWS)]

    def _draw(self, rng: np.random.Generator, skips: SkipReport) -> Draft:
        """The next usable sample; the others are counted in `skips`."""
        error = None
        for _ in range(MAX_SKIPS):
            source, sample = self.mixture.draw(rng), {}
            skips.drawn += 1
            try:
                sample = source.draw(rng)
                return self._make_draft(sample, rng)
            except UnusableSeries as unusable:
                error = unusable
                skips.add(source.collection.name, sample.get("item_id", "?"), unusable)
        raise RuntimeError(f"none of {MAX_SKIPS} series in a row was usable; check the data.\n{skips}") from error

    def _make_draft(self, sample: Sample, rng: np.random.Generator) -> Draft:
        sample = apply_chain(self._to_crop, sample, rng)
        if "past_feat_dynamic_real" not in sample:
            c, t = sample["target"].shape
            return Draft(sample, c * (t // sample["patch_size"]), self._to_tokens)
        # past covariates lose as many tokens as the mask takes, which the rest of the chain draws
        sample = apply_chain(self._to_tokens, sample, rng)
        return Draft(sample, len(sample["target"]), [])
