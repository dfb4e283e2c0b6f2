"""The training task: the last patches are to be predicted from the ones before them."""

from dataclasses import dataclass

import numpy as np

from tsfm_lab.data.transforms.sample import Sample


@dataclass(frozen=True)
class MaskedPrediction:
    """Add prediction_mask (c n) bool: True on the last max(1, round(r·n)) patches, r ~ U(min, max ratio).

    Past covariates are not known there, so they, and all that describes them, end where the mask begins.
    """

    min_mask_ratio: float = 0.15
    max_mask_ratio: float = 0.5

    def __post_init__(self):
        if not 0 <= self.min_mask_ratio <= self.max_mask_ratio < 1:
            raise ValueError(
                "mask ratios must satisfy 0 <= min_mask_ratio <= max_mask_ratio < 1, "
                f"got {self.min_mask_ratio} and {self.max_mask_ratio}"
            )

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        n = sample["target"].shape[1]
        return mask_from(sample, n - max(1, round(n * rng.uniform(self.min_mask_ratio, self.max_mask_ratio))))


@dataclass(frozen=True)
class ExtendMask:
    """prediction_mask (c n) -> {field: (c n)}: past covariates join, never to be predicted."""

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        masks = {"target": sample["prediction_mask"]}
        if "past_feat_dynamic_real" in sample:
            masks["past_feat_dynamic_real"] = np.zeros(sample["past_feat_dynamic_real"].shape[:2], dtype=bool)
        return {**sample, "prediction_mask": masks}


def mask_from(sample: Sample, context: int) -> Sample:
    """Add prediction_mask (c n) bool, True from patch `context` on, where past covariates and their fields then end."""
    prediction_mask = np.zeros(sample["target"].shape[:2], dtype=bool)
    prediction_mask[:, context:] = True
    masked = {**sample, "prediction_mask": prediction_mask}
    if "past_feat_dynamic_real" in sample:
        masked["past_feat_dynamic_real"] = sample["past_feat_dynamic_real"][:, :context]
        for name in ("observed_mask", "variate_id", "time_id"):
            past = sample[name]["past_feat_dynamic_real"][:, :context]
            masked[name] = {**sample[name], "past_feat_dynamic_real": past}
    return masked
