"""Which part of a series becomes a sample: variates, patch size, and a crop of whole patches.

Woo et al. 2024, "Unified Training of Universal Time Series Forecasting Transformers" (arXiv:2402.02592), §3.2 and
appendix; the ranges and the order of the draws are those of uni2ts 2.0.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from tsfm_lab.data.frequency import split_frequency
from tsfm_lab.data.transforms.sample import Sample, UnusableSeries, present

# smallest and largest patch size, in steps, by unit of the frequency; multiples (15min) share their unit's range
PATCH_RANGES = {
    "s": (64, 128),
    "min": (32, 128),
    "h": (32, 64),
    "D": (16, 32),
    "B": (16, 32),
    "W": (16, 32),
    "M": (8, 32),
    "Q": (1, 8),
    "Y": (1, 8),
}


@lru_cache(maxsize=1024)
def admissible_patch_sizes(freq: str, patch_sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Those of `patch_sizes` (steps) that lie in the range of a frequency, ascending; the smallest of all if none does.

    freq: any alias that `parse_frequency` knows. Raises: ValueError for an unknown frequency or an unusable size.
    """
    if not patch_sizes or min(patch_sizes) < 1:
        raise ValueError(f"patch_sizes must name at least one positive number of steps, got {patch_sizes}")
    low, high = PATCH_RANGES[split_frequency(freq)[1]]
    return tuple(sorted(p for p in patch_sizes if low <= p <= high)) or (min(patch_sizes),)


@dataclass(frozen=True)
class SampleDimension:
    """Keep a random subset of the variates: n ~ U{1 … max_dim·c/(c+p)} of a field's, in random order.

    target (c t), past_feat_dynamic_real (p t) or lists of such rows -> lists of (t) rows.
    """

    max_dim: int = 128

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        fields = present(sample)
        total = sum(len(sample[name]) for name in fields)
        return {**sample, **{name: self._choose(sample[name], total, rng) for name in fields}}

    def _choose(self, rows, total: int, rng: np.random.Generator) -> list[np.ndarray]:
        order = rng.permutation(len(rows))
        # differs from uni2ts: at least one, where few variates among very many would leave none (an error there)
        most = max(1, min(len(rows), self.max_dim * len(rows) // total))
        return [rows[i] for i in order[: rng.integers(1, most + 1)]]


@dataclass(frozen=True)
class GetPatchSize:
    """Draw the patch size p uniformly from those that suit the frequency and leave `min_time_patches` patches.

    Where none of the frequency's sizes fits a short series, the smallest of `patch_sizes` is taken.
    Raises: UnusableSeries if the series is too short for that one too.
    """

    patch_sizes: tuple[int, ...] = (8, 16, 32, 64, 128)
    min_time_patches: int = 2

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        steps = len(sample["target"][0])
        largest, smallest = steps // self.min_time_patches, min(self.patch_sizes)
        if smallest > largest:
            raise UnusableSeries(
                "too short",
                f"{steps} steps, but {self.min_time_patches} patches of the smallest patch size, {smallest}, "
                f"need {self.min_time_patches * smallest}",
            )
        sizes = admissible_patch_sizes(sample["freq"], self.patch_sizes)
        sizes = [p for p in sizes if p <= largest] or [smallest]
        return {**sample, "patch_size": sizes[rng.integers(len(sizes))]}


@dataclass(frozen=True)
class PatchCrop:
    """Cut n whole patches out of every variate, n ~ U{min_time_patches … min(max_patches/variates, what there is)}.

    The crop starts at a random patch of a grid that itself starts at a random step, 0 … t mod p, so that a series is
    not always cut at multiples of p.
    max_patches: tokens that the flattened sample may have, past covariates included.
    Lists of (t) rows -> lists of (n·p) rows.
    Raises: UnusableSeries if the variates are too many for `min_time_patches` patches each.
    """

    min_time_patches: int = 2
    max_patches: int = 512

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        fields, p = present(sample), sample["patch_size"]
        steps, variates = len(sample["target"][0]), sum(len(sample[name]) for name in fields)
        offset = rng.integers(steps % p + 1)
        available = (steps - offset) // p
        most = min(self.max_patches // variates, available)
        if most < self.min_time_patches:
            raise UnusableSeries(
                "too many variates" if self.max_patches // variates < self.min_time_patches else "too short",
                f"{variates} variates of {available} patches of {p} steps leave {most} patches each of at most "
                f"{self.max_patches} tokens, fewer than min_time_patches={self.min_time_patches}",
            )
        n = rng.integers(self.min_time_patches, most + 1)
        begin = offset + p * rng.integers(available - n + 1)
        return {**sample, **{name: [row[begin : begin + n * p] for row in sample[name]] for name in fields}}
