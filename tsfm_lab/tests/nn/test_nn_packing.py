"""The segment plan: which tokens of a packed batch form one series, and that both gathers undo each other."""

import pickle

import numpy as np
import pytest
import torch

from tsfm_lab.nn.packing import bucket_length, plan_segments

# two rows of ten tokens: samples of one and of two variates, padding at the end, between the samples and nowhere
SAMPLE_ID = torch.tensor([[1, 1, 1, 2, 2, 2, 2, 0, 0, 0], [1, 1, 0, 2, 2, 2, 3, 3, 3, 3]])
VARIATE_ID = torch.tensor([[0, 0, 0, 5, 5, 1, 1, 0, 0, 0], [2, 2, 0, 0, 0, 1, 7, 7, 7, 7]])


def gathered_segments(plan) -> set[tuple[int, ...]]:
    return {
        tuple(token for token in segment if token >= 0)
        for bucket in plan.buckets
        for segment in filled(bucket).tolist()
    }


def filled(bucket) -> torch.Tensor:
    """The bucket's gather with −1 in empty slots."""
    return bucket.gather.flatten().index_fill(0, bucket.empty, -1).view_as(bucket.gather)


def test_a_segment_is_a_run_of_one_variate_of_one_sample():
    plan = plan_segments(SAMPLE_ID, VARIATE_ID)
    assert gathered_segments(plan) == {(0, 1, 2), (3, 4), (5, 6), (10, 11), (13, 14), (15,), (16, 17, 18, 19)}
    assert (plan.num_segments, plan.longest) == (7, 4)


def test_by_sample_the_variates_of_a_sample_are_one_segment():
    plan = plan_segments(SAMPLE_ID, segment_by="sample")
    assert gathered_segments(plan) == {(0, 1, 2), (3, 4, 5, 6), (10, 11), (13, 14, 15), (16, 17, 18, 19)}


def test_equal_ids_in_neighbouring_rows_are_two_segments():
    plan = plan_segments(torch.ones(2, 3, dtype=torch.long), segment_by="sample")
    assert gathered_segments(plan) == {(0, 1, 2), (3, 4, 5)}


@pytest.mark.parametrize("coarse", [False, True])
@pytest.mark.parametrize("segment_by", ["variate", "sample"])
def test_inverse_returns_every_token_to_its_place_and_sends_padding_to_the_zero_slot(segment_by, coarse):
    plan = plan_segments(SAMPLE_ID, VARIATE_ID, segment_by, coarse)
    slots = torch.cat([*(filled(bucket).flatten() for bucket in plan.buckets), torch.tensor([-7])])
    tokens = torch.arange(SAMPLE_ID.numel()).view(SAMPLE_ID.shape)
    assert torch.equal(slots[plan.inverse], tokens.where(SAMPLE_ID != 0, -7))


def test_lengths_are_powers_of_two_and_one_and_a_half_times_that_from_16_on():
    lengths = np.array([1, 16, 17, 24, 25, 33, 48, 49, 129, 192, 193, 384, 385, 512, 513])
    assert bucket_length(lengths).tolist() == [16, 16, 24, 24, 32, 48, 48, 64, 192, 192, 256, 384, 512, 512, 768]


def test_coarse_lengths_are_powers_of_two_from_64_on():
    assert bucket_length(np.array([1, 64, 65, 129, 257, 512]), coarse=True).tolist() == [64, 64, 128, 256, 512, 512]


def test_a_batch_of_padding_alone_has_no_segments():
    plan = plan_segments(torch.zeros(2, 3, dtype=torch.long), segment_by="sample")
    assert (plan.buckets, plan.longest, plan.num_slots) == ((), 0, 0)
    assert plan.inverse.tolist() == [[0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize(
    ("sample_id", "variate_id", "segment_by", "named"),
    [
        # all contexts, then all futures: the order of the published forecast batches
        ([[1, 1, 1, 1]], [[3, 4, 3, 4]], "variate", "sample_id=1, variate_id=3 in row 0"),
        ([[1, 1, 1, 1], [1, 2, 2, 1]], [[0, 0, 0, 0]] * 2, "sample", "sample_id=1 in row 1"),
        ([[5, 5, 0, 5]], [[0, 0, 0, 0]], "variate", "sample_id=5, variate_id=0 in row 0"),
    ],
)
def test_a_segment_whose_tokens_are_split_raises_and_is_named(sample_id, variate_id, segment_by, named):
    with pytest.raises(ValueError, match=named):
        plan_segments(torch.tensor(sample_id), torch.tensor(variate_id), segment_by)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((SAMPLE_ID, VARIATE_ID, "series"), "segment_by must be one of variate, sample, got 'series'"),
        ((SAMPLE_ID, None), r"variate_id must have sample_id's shape \(2, 10\), got None"),
        ((SAMPLE_ID, VARIATE_ID[:, :5]), r"variate_id must have sample_id's shape \(2, 10\), got \(2, 5\)"),
        ((SAMPLE_ID[0], VARIATE_ID[0]), r"sample_id must be \(b t\), got shape \(10,\)"),
    ],
)
def test_bad_ids_raise(arguments, message):
    with pytest.raises(ValueError, match=message):
        plan_segments(*arguments)


def test_a_plan_moves_to_a_device_as_a_whole():
    plan = plan_segments(SAMPLE_ID, VARIATE_ID).to("meta", non_blocking=True)
    tensors = [plan.inverse, *(t for bucket in plan.buckets for t in (bucket.gather, bucket.empty))]
    assert {tensor.device.type for tensor in tensors} == {"meta"}


def test_a_plan_travels_between_the_processes_of_a_data_loader():
    plan = plan_segments(SAMPLE_ID, VARIATE_ID)
    copy = pickle.loads(pickle.dumps(plan))
    assert torch.equal(copy.inverse, plan.inverse)
    assert copy.shape == plan.shape
    assert gathered_segments(copy) == gathered_segments(plan)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="page-locked memory needs a CUDA device; none here")
def test_a_plan_can_be_pinned():
    assert plan_segments(SAMPLE_ID, VARIATE_ID).pin_memory().inverse.is_pinned()
