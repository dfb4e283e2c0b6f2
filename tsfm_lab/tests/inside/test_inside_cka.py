"""CKA by d × d products is that of n × n kernels; rotation and scale do not count; nothing in common is nothing."""

import pytest
import torch

from tsfm_lab.inside import biased_cka, cka_between_layers, linear_cka, unbiased_hsic


def tokens(n=50, d=7, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def hsic_by_kernels(x, y):
    """Song et al. 2012, as written."""
    n, one = len(x), torch.ones(len(x), dtype=torch.float64)
    K, L = (z @ z.T for z in (x, y))
    K, L = (Z - torch.diag(Z.diag()) for Z in (K, L))
    inner = torch.trace(K @ L) + (one @ K @ one) * (one @ L @ one) / ((n - 1) * (n - 2))
    return (inner - 2 / (n - 2) * (one @ K @ L @ one)) / (n * (n - 3))


@pytest.mark.parametrize("shift", [0.0, 3.0])
def test_hsic_is_that_of_the_kernels(shift):
    x, y = tokens() + shift, tokens(d=4, seed=1) + tokens()[:, :4]
    torch.testing.assert_close(unbiased_hsic(x, y), hsic_by_kernels(x, y), rtol=1e-8, atol=1e-10)


def test_a_rotation_a_scale_and_a_shift_do_not_count():
    x = tokens()
    Q = torch.linalg.qr(tokens(7, 7, seed=2))[0]
    assert linear_cka(x, x) == pytest.approx(1)
    assert linear_cka(x, 3 * x @ Q + 2) == pytest.approx(1)
    assert linear_cka(x, x * torch.arange(1, 8)) < 0.99  # a stretch of one direction does


def test_independent_tokens_have_nothing_in_common_where_the_biased_form_finds_a_lot():
    pairs = [(tokens(40, 60, seed=2 * k), tokens(40, 60, seed=2 * k + 1)) for k in range(20)]
    unbiased = torch.stack([linear_cka(*pair) for pair in pairs])
    assert unbiased.mean().abs() < 0.05
    assert min(biased_cka(*pair) for pair in pairs) > 0.5


def test_all_pairs_of_layers_are_compared():
    first, second = [tokens(), tokens(seed=1)], [tokens(d=3, seed=2), tokens(), tokens(seed=1)]
    similarity = cka_between_layers(first, second)
    assert similarity.shape == (2, 3)
    assert similarity[0, 1] == pytest.approx(1)
    assert similarity[1, 0] == linear_cka(first[1], second[0])


@pytest.mark.parametrize("pair", [(tokens(3), tokens(3)), (tokens(9), tokens(8)), (tokens(9)[0], tokens(9))])
def test_too_few_or_unequal_tokens_are_refused(pair):
    with pytest.raises(ValueError, match="n ≥ 4 tokens"):
        linear_cka(*pair)
