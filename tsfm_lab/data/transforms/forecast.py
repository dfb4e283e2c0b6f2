"""The fine-tuning task: a window as a forecast reads it, its horizon to be predicted."""

from dataclasses import dataclass

import numpy as np

from tsfm_lab.data.transforms.sample import Sample, UnusableSeries, present
from tsfm_lab.data.transforms.task import mask_from


@dataclass(frozen=True)
class ForecastWindow:
    """Cut a context of up to `context_length` steps and the `prediction_length` steps after it, for a drawn patch size.

    The patch size p is uniform over those of `patch_sizes` that leave a patch of context. The horizon begins at a
    random step with at least min(context_length, half of what there is) steps before it; at_end: it is the last one.
    As in a forecast, the context is padded on the left and the horizon on the right to whole patches, with NaN.
    Lists of (t) rows -> lists of (n·p) rows, n = ⌈context/p⌉ + ⌈prediction_length/p⌉; adds patch_size.
    Raises: UnusableSeries for one that is too short for the smallest patch size, or without an observed target value in
    the context or in the horizon.
    """

    patch_sizes: tuple[int, ...]
    context_length: int
    prediction_length: int
    at_end: bool = False

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        h, steps = self.prediction_length, len(sample["target"][0])
        sizes = [p for p in self.patch_sizes if p + h <= steps]
        if not sizes:
            least = min(self.patch_sizes) + h
            raise UnusableSeries("too short", f"{steps} steps, a patch and the horizon need {least}")
        p = sizes[rng.integers(len(sizes))]
        last = steps - h  # the latest beginning of a horizon
        first = last if self.at_end else max(p, min(self.context_length, last // 2))
        begin = int(rng.integers(first, last + 1))
        read = slice(max(begin - self.context_length, 0), begin + h)
        for part, where in (("context", slice(read.start, begin)), ("horizon", slice(begin, begin + h))):
            if all(np.isnan(row[where]).all() for row in sample["target"]):
                raise UnusableSeries("nothing observed", f"every target value of the {part} is missing")
        pad = ((read.start - begin) % p, -h % p)
        cut = {
            name: [np.pad(row[read], pad, constant_values=np.nan) for row in sample[name]] for name in present(sample)
        }
        return {**sample, **cut, "patch_size": p}


@dataclass(frozen=True)
class MaskHorizon:
    """Add prediction_mask (c n) bool: True on the last ⌈prediction_length/p⌉ patches; past covariates end before."""

    prediction_length: int

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        horizon = -(-self.prediction_length // sample["patch_size"])
        return mask_from(sample, sample["target"].shape[1] - horizon)
