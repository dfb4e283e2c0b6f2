"""MOIRAI's pretraining chain: from a series to the tokens of one sample."""

from collections.abc import Iterable, Iterator

import numpy as np

from tsfm_lab.data.transforms.crop import GetPatchSize, PatchCrop, SampleDimension
from tsfm_lab.data.transforms.flatten import FlatPackCollection, FlatPackFields, SelectFields, SequencifyField
from tsfm_lab.data.transforms.forecast import ForecastWindow, MaskHorizon
from tsfm_lab.data.transforms.ids import AddTimeIndex, AddVariateIndex
from tsfm_lab.data.transforms.patches import AddObservedMask, ImputeTimeSeries, PackFields, Patchify, RequireSignal
from tsfm_lab.data.transforms.sample import Sample, Transform
from tsfm_lab.data.transforms.task import ExtendMask, MaskedPrediction

TOKEN_FIELDS = ("target", "observed_mask", "time_id", "variate_id", "prediction_mask", "patch_size")


def pretraining_chain(
    patch_sizes: tuple[int, ...] = (8, 16, 32, 64, 128),
    max_seq_len: int = 512,
    max_dim: int = 128,
    min_time_patches: int = 2,
    min_mask_ratio: float = 0.15,
    max_mask_ratio: float = 0.5,
    max_patch_size: int | None = None,
) -> list[Transform]:
    """The transforms from `as_sample(series)` to TOKEN_FIELDS, in the order of Woo et al. 2024 (uni2ts 2.0).

    patch_sizes: of the model, in steps. max_seq_len: tokens of a packed row, which no sample exceeds. max_dim: variates
    of a sample. The ratios bound the share of a sample's patches that is predicted. max_patch_size: steps that every
    patch is padded to, the largest of `patch_sizes` by default.
    """
    patch_sizes = tuple(patch_sizes)
    return [
        SampleDimension(max_dim),
        GetPatchSize(patch_sizes, min_time_patches),
        PatchCrop(min_time_patches, max_seq_len),
        PackFields("target"),
        PackFields("past_feat_dynamic_real"),
        RequireSignal(),
        AddObservedMask(),
        ImputeTimeSeries(),
        Patchify(max_patch_size or max(patch_sizes)),
        AddVariateIndex(max_dim),
        AddTimeIndex(),
        MaskedPrediction(min_mask_ratio, max_mask_ratio),
        ExtendMask(),
        FlatPackCollection("variate_id"),
        FlatPackCollection("time_id"),
        FlatPackCollection("prediction_mask"),
        FlatPackCollection("observed_mask"),
        FlatPackFields(),
        SequencifyField("patch_size"),
        SelectFields(TOKEN_FIELDS),
    ]


def finetuning_chain(
    patch_sizes: tuple[int, ...],
    context_length: int,
    prediction_length: int,
    *,
    max_dim: int = 128,
    max_patch_size: int | None = None,
    at_end: bool = False,
) -> list[Transform]:
    """`pretraining_chain` with a forecast as its task: all variates, a window as it is forecast, its horizon masked.

    patch_sizes: that windows are cut into, in steps. context_length, prediction_length, at_end: see `ForecastWindow`.
    """
    chain = pretraining_chain(patch_sizes, max_dim=max_dim, max_patch_size=max_patch_size)
    window = ForecastWindow(tuple(patch_sizes), context_length, prediction_length, at_end)
    rest = (step for step in chain if not isinstance(step, SampleDimension | GetPatchSize | PatchCrop))
    return [window, *(MaskHorizon(prediction_length) if isinstance(step, MaskedPrediction) else step for step in rest)]


def apply_chain(chain: Iterable[Transform], sample: Sample, rng: np.random.Generator) -> Sample:
    """The sample after every transform of the chain."""
    for transform in chain:
        sample = transform(sample, rng)
    return sample


def trace_chain(chain: Iterable[Transform], sample: Sample, rng: np.random.Generator) -> Iterator[tuple[str, Sample]]:
    """(name, sample) after each transform, e.g. ("PatchCrop", {…}); the samples of earlier steps stay as they were."""
    for transform in chain:
        sample = transform(sample, rng)
        yield type(transform).__name__, sample
