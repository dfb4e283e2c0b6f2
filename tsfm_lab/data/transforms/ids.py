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
            spread[name] = np.broadcast_to(ids[:c, None], sample[name].shape[:2])
            ids = ids[c:]
        return {**sample, "variate_id": spread}


@dataclass(frozen=True)
class AddTimeIndex:
    """Add time_id, {field: (c n) int64}: 0, 1, 2 … in patches, the same for every variate."""

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        shapes = {name: sample[name].shape[:2] for name in present(sample)}
        return {**sample, "time_id": {name: np.broadcast_to(np.arange(n), (c, n)) for name, (c, n) in shapes.items()}}
