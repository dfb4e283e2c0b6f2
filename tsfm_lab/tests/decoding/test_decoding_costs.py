"""The expected speed-up: its formula against a simulation, and the choice of k."""

import pytest
import torch

from tsfm_lab.decoding.costs import Costs, best_k, expected_speedup, expected_tokens, measure_costs
from tsfm_lab.tests.decoding.tiny_timer import KINDS, make_draft, make_target


@pytest.mark.parametrize(("alpha", "k"), [(0.0, 3), (0.5, 1), (0.7, 3), (0.95, 8)])
def test_tokens_of_a_round_are_those_of_a_simulation(alpha, k):
    n = 200_000
    kept = (torch.rand(n, k, generator=torch.Generator().manual_seed(0)) < alpha).long().cumprod(1).sum(1)
    # standard error of at most k/√n
    assert expected_tokens(alpha, k) == pytest.approx((kept + 1).float().mean().item(), abs=5 * k / n**0.5)


def test_a_perfect_draft_yields_all_and_one_more():
    assert expected_tokens(1.0, 4) == 5.0
    free = Costs(draft=0.0, verify=(2.0,) * 5)
    assert expected_speedup(1.0, 4, free) == 5.0


def test_speed_counts_drafts_verification_and_overhead():
    costs = Costs(draft=0.5, verify=(2.0, 2.5, 3.0), overhead=0.25)
    assert expected_speedup(0.5, 2, costs) == pytest.approx(1.75 * 2.0 / (2 * 0.5 + 3.0 + 0.25))
    with pytest.raises(ValueError, match="k must be from 0 to 2, which were measured, got 3"):
        expected_speedup(0.5, 3, costs)


def test_the_best_k_grows_with_acceptance_and_is_bounded():
    costs = Costs(draft=0.1, verify=(1.0, 1.05, 1.1, 1.15, 1.2))
    found = [best_k(alpha, costs, 4) for alpha in (0.05, 0.6, 0.99)]
    assert found == sorted(found)
    assert (found[0], found[-1]) == (1, 4)
    assert best_k(0.99, costs, 2) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_costs_of_every_kind_of_draft_can_be_measured(kind):
    target = make_target()
    costs = measure_costs(target, make_draft(kind, target), batch_size=2, context_tokens=5, most=3, rounds=2, warmup=1)
    assert costs.draft > 0
    assert len(costs.verify) == 4
    assert min(costs.verify) > 0
