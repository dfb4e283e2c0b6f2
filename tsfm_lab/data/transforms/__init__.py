"""MOIRAI's transforms: small pure functions of (sample, random generator), and the chain that pretraining uses."""

from tsfm_lab.data.transforms.chain import (
    TOKEN_FIELDS,
    apply_chain,
    finetuning_chain,
    pretraining_chain,
    trace_chain,
)
from tsfm_lab.data.transforms.crop import PATCH_RANGES, GetPatchSize, PatchCrop, SampleDimension, admissible_patch_sizes
from tsfm_lab.data.transforms.flatten import FlatPackCollection, FlatPackFields, SelectFields, SequencifyField
from tsfm_lab.data.transforms.forecast import ForecastWindow, MaskHorizon
from tsfm_lab.data.transforms.ids import AddTimeIndex, AddVariateIndex
from tsfm_lab.data.transforms.patches import AddObservedMask, ImputeTimeSeries, PackFields, Patchify, RequireSignal
from tsfm_lab.data.transforms.sample import SERIES_FIELDS, Sample, Transform, UnusableSeries, as_sample
from tsfm_lab.data.transforms.task import ExtendMask, MaskedPrediction

__all__ = [
    "PATCH_RANGES",
    "SERIES_FIELDS",
    "TOKEN_FIELDS",
    "AddObservedMask",
    "AddTimeIndex",
    "AddVariateIndex",
    "ExtendMask",
    "FlatPackCollection",
    "FlatPackFields",
    "ForecastWindow",
    "GetPatchSize",
    "ImputeTimeSeries",
    "MaskHorizon",
    "MaskedPrediction",
    "PackFields",
    "PatchCrop",
    "Patchify",
    "RequireSignal",
    "Sample",
    "SampleDimension",
    "SelectFields",
    "SequencifyField",
    "Transform",
    "UnusableSeries",
    "admissible_patch_sizes",
    "apply_chain",
    "as_sample",
    "finetuning_chain",
    "pretraining_chain",
    "trace_chain",
]
