"""Where a token stands: which variate it belongs to and which patch of time it is."""

from dataclasses import dataclass

import numpy as np

from tsfm_lab.data.transforms.sample import Sample, present


@dataclass(frozen=True)
class AddVariateIndex:
    """Add variate_id, {field: (c n) int64}: distinct random numbers below `max_dim`, one per variate of any field.

    Raises: ValueError if the sample has more than `max_dim` variates.
    """

    max_dim: int = 128

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        fields = present(sample)
        counts = [len(sample[name]) for name in fields]
        if sum(counts) > self.max_dim:
            raise ValueError(
                f"variates must be at most max_dim={self.max_dim}, got {sum(counts)}; use SampleDimension first"
            )
        ids, spread = rng.permutation(self.max_dim), {}
        for name, c in zip(fields, counts, strict=True):
            spread[name] = _spread(ids[:c, None], sample[name])
            ids = ids[c:]
        return {**sample, "variate_id": spread}


@dataclass(frozen=True)
class AddTimeIndex:
    """Add time_id, {field: (c n) int64}: 0, 1, 2 … in patches, the same for every variate."""

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        fields = present(sample)
        return {**sample, "time_id": {name: _spread(np.arange(sample[name].shape[1]), sample[name]) for name in fields}}


def _spread(ids: np.ndarray, patches: np.ndarray) -> np.ndarray:
    """ids (c 1) or (n), repeated over the tokens of patches (c n patch): (c n) int64."""
    spread = np.empty(patches.shape[:2], dtype=np.int64)
    spread[:] = ids
    return spread
