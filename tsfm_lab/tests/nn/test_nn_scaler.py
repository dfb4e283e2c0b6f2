"""Packed standardisation against one series at a time."""

import pytest
import torch

from tsfm_lab.nn.scaler import PackedStdScaler, UnitScaler, number_series

SAMPLE = torch.tensor([[1, 1, 1, 2, 2, 0], [1, 1, 2, 2, 0, 0]])
VARIATE = torch.tensor([[0, 5, 0, 0, 0, 0], [0, 0, 1, 3, 0, 0]])


@pytest.fixture
def values():
    generator = torch.Generator().manual_seed(0)
    target = 1e3 + torch.randn(2, 6, 4, generator=generator)
    observed = torch.rand(2, 6, 4, generator=generator) > 0.3
    return target, observed


def standardise_one_by_one(target, observed):
    loc, scale = torch.zeros(2, 6, 1), torch.ones(2, 6, 1)
    for b in range(2):
        for key in {(s, v) for s, v in zip(SAMPLE[b].tolist(), VARIATE[b].tolist(), strict=True) if s}:
            member = (SAMPLE[b] == key[0]) & (VARIATE[b] == key[1])
            seen = target[b, member][observed[b, member]].double()
            mean = seen.sum() / max(len(seen), 1)
            variance = (seen - mean).square().sum() / max(len(seen) - 1, 1)
            loc[b, member], scale[b, member] = mean.float(), (variance + 1e-5).sqrt().float()
    return loc, scale


def test_every_series_has_its_own_mean_and_spread(values):
    for found, expected in zip(
        PackedStdScaler()(*values, SAMPLE, VARIATE), standardise_one_by_one(*values), strict=True
    ):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize(("count", "scale"), [(0, 1e-5**0.5), (1, 1e-5**0.5)])
def test_a_series_with_little_observed_has_the_smallest_scale(values, count, scale):
    target, observed = values
    observed = torch.zeros_like(observed)
    observed[0, 3, :count] = True
    loc, found = PackedStdScaler()(target, observed, SAMPLE, VARIATE)
    assert loc[0, 3].item() == (target[0, 3, 0].item() if count else 0)
    torch.testing.assert_close(found[0, 3], torch.tensor([scale]))


def test_padding_has_location_zero_and_scale_one(values):
    loc, scale = PackedStdScaler()(*values, SAMPLE, VARIATE)
    assert (loc[SAMPLE == 0] == 0).all()
    assert (scale[SAMPLE == 0] == 1).all()


def test_what_is_not_observed_may_be_nan(values):
    target, observed = values
    expected = PackedStdScaler()(target, observed, SAMPLE, VARIATE)
    found = PackedStdScaler()(target.masked_fill(~observed, torch.nan), observed, SAMPLE, VARIATE)
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


def test_a_small_spread_around_a_large_level_survives():
    target = 1e7 + torch.tensor([0.0, 1.0] * 8).view(1, 2, 8)  # a float32 sum of these is off by 8
    ids = torch.ones(1, 2, dtype=torch.long)
    _, scale = PackedStdScaler()(target, torch.ones(1, 2, 8, dtype=torch.bool), ids, ids)
    torch.testing.assert_close(scale[0, 0, 0], (torch.tensor(4 / 15) + 1e-5).sqrt())


def test_series_are_numbered_by_row_sample_and_variate():
    number, count = number_series(SAMPLE, VARIATE)
    triples = {(b, *key) for b in range(2) for key in zip(SAMPLE[b].tolist(), VARIATE[b].tolist(), strict=True)}
    assert count == len(triples)
    assert len(number.unique()) == count
    assert number[0, 0] == number[0, 2] != number[0, 1]
    assert number[0, 0] != number[1, 0]


def test_the_unit_scaler_leaves_values_alone(values):
    loc, scale = UnitScaler()(*values, SAMPLE, VARIATE)
    assert loc.shape == scale.shape == (2, 6, 1)
    assert (loc == 0).all()
    assert (scale == 1).all()
