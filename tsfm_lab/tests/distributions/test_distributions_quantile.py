"""Levels, quantiles of a sample, and the order of predicted ones."""

import pytest
import torch

from tsfm_lab.distributions import check_quantile_levels, empirical_quantiles, repair_crossings


@pytest.mark.parametrize("n", [1, 2, 81, 100])
def test_empirical_quantiles_are_torchs(n):
    torch.manual_seed(0)
    values, levels = torch.randn(3, 5, n), (0.01, 0.1, 0.5, 0.9, 0.999)
    expected = torch.quantile(values, torch.tensor(levels), dim=-1).movedim(0, -1)
    torch.testing.assert_close(empirical_quantiles(values, levels), expected, rtol=0, atol=0)


def test_crossed_quantiles_are_sorted_and_counted():
    quantiles = torch.tensor([[1.0, 3.0, 2.0, 4.0], [1.0, 1.0, 2.0, 3.0], [4.0, 3.0, 2.0, 1.0]])
    repaired, crossings = repair_crossings(quantiles.T, dim=0)
    assert int(crossings) == 1 + 0 + 3
    assert repaired.T.tolist() == [[1, 2, 3, 4], [1, 1, 2, 3], [1, 2, 3, 4]]


def test_levels_come_back_as_a_tuple():
    assert check_quantile_levels([0.1, 0.5]) == (0.1, 0.5)
