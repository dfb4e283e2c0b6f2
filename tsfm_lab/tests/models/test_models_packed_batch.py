"""A wrong batch is refused with what is wrong about it."""

import pytest
import torch

from tsfm_lab.models.packed_batch import validate_packed_batch
from tsfm_lab.tests.models.packed_rows import PATCH_SIZES, make_packed_batch

BATCH = make_packed_batch()


def with_value(name, place, value):
    tensor = BATCH[name].clone()
    tensor[place] = value
    return {name: tensor}


def test_a_sound_batch_passes_with_or_without_further_fields():
    validate_packed_batch(BATCH, PATCH_SIZES)
    validate_packed_batch({**BATCH, "segments": None}, PATCH_SIZES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": BATCH["target"].long()}, "target must be a floating-point tensor, got torch.int64"),
        ({"observed_mask": BATCH["observed_mask"].float()}, "observed_mask must be a bool tensor, got torch.float32"),
        ({"sample_id": BATCH["sample_id"].float()}, "sample_id must be an integer tensor, got torch.float32"),
        ({"time_id": BATCH["prediction_mask"]}, "time_id must be an integer tensor, got torch.bool"),
        ({"target": BATCH["target"][..., :16]}, r"target must be \(b t p\) with p=32, .* got shape \(2, 96, 16\)"),
        ({"target": BATCH["target"][0]}, r"target must be \(b t p\)"),
        ({"variate_id": BATCH["variate_id"][:, :5]}, r"variate_id must have shape \(2, 96\) .* got \(2, 5\)"),
        ({"observed_mask": BATCH["observed_mask"][..., 0]}, r"observed_mask must have shape \(2, 96, 32\)"),
        (with_value("time_id", (0, 0), -1), "time_id must not be negative, got -1"),
        (with_value("patch_size", (0, 0), 24), r"patch_size must be one of \[8, 16, 32\] for every token, got \[24\]"),
        (with_value("target", BATCH["observed_mask"], torch.nan), "NaN or infinite"),
        (with_value("prediction_mask", (0, -1), True), r"padding \(sample_id 0\)"),
        ({"prediction_mask": torch.zeros(2, 96, dtype=torch.bool)}, "no target to predict"),
        (with_value("observed_mask", BATCH["prediction_mask"], False), "no target to predict"),
    ],
)
def test_what_does_not_fit_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        validate_packed_batch({**BATCH, **change}, PATCH_SIZES)


def test_a_missing_field_is_named():
    batch = {name: tensor for name, tensor in BATCH.items() if name != "time_id"}
    with pytest.raises(ValueError, match=r"missing \['time_id'\]"):
        validate_packed_batch(batch, PATCH_SIZES)


def test_unobserved_values_may_be_nan():
    validate_packed_batch({**BATCH, **with_value("target", ~BATCH["observed_mask"], torch.nan)}, PATCH_SIZES)
