"""From cropped rows to patches: packed values, what was observed of them, imputation, padding to the largest patch."""

from dataclasses import dataclass
from math import isinf, isnan

import numpy as np

from tsfm_lab.data.transforms.sample import Sample, UnusableSeries, present


@dataclass(frozen=True)
class PackFields:
    """Stack the rows of one field: list of (t) -> (c t) float32. A sample without the field passes unchanged."""

    field: str

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if self.field not in sample:
            return sample
        rows = sample[self.field]
        packed = rows[0][None] if len(rows) == 1 else np.concatenate(rows).reshape(len(rows), -1)
        return {**sample, self.field: packed.astype(np.float32, copy=False)}


@dataclass(frozen=True)
class RequireSignal:
    """Let only crops through that a model can learn from; not in uni2ts, which trains on them.

    Raises: UnusableSeries where a value is infinite, no target value is observed, or every target variate is constant.
    """

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        for name in present(sample):
            low, high = float(sample[name].min()), float(sample[name].max())  # NaN where any value is missing
            if isinf(low) or isinf(high) or (isnan(low) and np.isinf(sample[name]).any()):
                raise UnusableSeries("infinite", f"{name} has infinite values; replace them by NaN to mask them")
        target = sample["target"]
        if target[0].min() < target[0].max():  # false also where a NaN is among them
            return sample
        if np.isnan(target).all():
            raise UnusableSeries("nothing observed", "every target value of the crop is missing")
        lowest, highest = np.fmin.reduce(target, axis=1), np.fmax.reduce(target, axis=1)
        if not (lowest < highest).any():
            raise UnusableSeries("constant", "no target variate changes within the crop")
        return sample


@dataclass(frozen=True)
class AddObservedMask:
    """Add observed_mask, {field: (c t) bool}: True where a value is not NaN."""

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        return {**sample, "observed_mask": {name: ~np.isnan(sample[name]) for name in present(sample)}}


@dataclass(frozen=True)
class ImputeTimeSeries:
    """Put `value` where a value is missing, so that no NaN reaches the model. Needs observed_mask."""

    value: float = 0.0

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        observed = sample["observed_mask"]
        filled = {
            name: np.where(observed[name], sample[name], np.float32(self.value))
            for name in present(sample)
            if not observed[name].all()
        }
        return {**sample, **filled}


@dataclass(frozen=True)
class Patchify:
    """Cut time into patches padded with zeros: (c n·p) -> (c n max_patch_size), values and observed mask alike.

    max_patch_size: None leaves them as they are, (c n p), views of the rows.
    """

    max_patch_size: int | None = 128

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        p = sample["patch_size"]
        values = {name: self._cut(sample[name], p) for name in present(sample)}
        observed = {name: self._cut(mask, p) for name, mask in sample["observed_mask"].items()}
        return {**sample, **values, "observed_mask": observed}

    def _cut(self, rows: np.ndarray, p: int) -> np.ndarray:
        cut = rows.reshape(len(rows), -1, p)
        if self.max_patch_size is None:
            return cut
        patches = np.zeros((*cut.shape[:2], self.max_patch_size), dtype=rows.dtype)
        patches[..., :p] = cut
        return patches
