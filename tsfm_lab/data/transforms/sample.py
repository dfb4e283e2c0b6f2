"""What flows through the transforms: one series as a dict of named fields, and what may stop it."""

from collections.abc import Callable
from typing import Any

import numpy as np

from tsfm_lab.data.series import Series

Sample = dict[str, Any]
Transform = Callable[[Sample, np.random.Generator], Sample]

SERIES_FIELDS = ("target", "past_feat_dynamic_real")  # the fields that hold values; the second is optional


class UnusableSeries(ValueError):
    """A series that cannot become a training sample. The loader counts it under `reason` and draws another."""

    def __init__(self, reason: str, detail: str):
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


def as_sample(series: Series) -> Sample:
    """The fields of a series that pretraining reads: item_id, freq, target (c t), past_feat_dynamic_real (p t) if any.

    Values stay views, so a memory-mapped series is not read before a crop of it is.
    Raises: UnusableSeries for one without values.
    """
    if not series.target.size:
        raise UnusableSeries("empty", f"series {series.item_id!r} has the target shape {series.target.shape}")
    sample = {"item_id": series.item_id, "target": series.target, "freq": series.freq}
    if series.past_feat_dynamic_real is not None:
        sample["past_feat_dynamic_real"] = series.past_feat_dynamic_real
    return sample


def present(sample: Sample) -> list[str]:
    """The names of the value fields that a sample has, in their fixed order."""
    return [name for name in SERIES_FIELDS if name in sample]
