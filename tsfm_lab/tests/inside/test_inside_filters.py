"""Filters are the layer's response to an impulse, the bank's poles give them exactly, and known poles are found."""

from itertools import pairwise

import pytest
import torch
from einops import einsum

from tsfm_lab.inside import (
    bank_system,
    channel_filters,
    effective_memory,
    fit_poles,
    half_life,
    mean_lag,
    output_energy,
    stu_layers,
)
from tsfm_lab.nn.packed_stu import STUCore
from tsfm_lab.tests.inside.tiny_models import make_model

D, L = 6, 40
FORMS = [
    pytest.param({"use_approx": name != "full", "branches": branches, "causal": causal}, id=f"{name}-{direction}")
    for name, branches in (("shared", "shared"), ("separate", "separate"), ("full", "shared"))
    for direction, causal in (("causal", True), ("two_sided", False))
]


def make_stu(**form):
    torch.manual_seed(0)
    return STUCore(D, L, num_eigh=8, **form)


def respond(stu):
    """W_l (w i o): output of the layer l tokens after (before) an impulse on input channel i, from the layer itself."""
    impulses = torch.zeros(2, D, L, D)
    impulses[0, torch.arange(D), 0, torch.arange(D)] = 1  # at the first token: lags 0 … L − 1
    impulses[1, torch.arange(D), L - 1, torch.arange(D)] = 1  # at the last one: lags 1 − L … 0
    with torch.no_grad():
        past, future = (stu(x).permute(1, 0, 2) for x in impulses)
    return (past if stu.causal else torch.cat([future[:-1], past])).double()


@pytest.mark.parametrize("form", FORMS)
def test_filters_are_the_layers_response_to_an_impulse(form):
    stu = make_stu(**form)
    filters, response = channel_filters(stu), respond(stu)
    if form["use_approx"]:
        expected = einsum(stu.M_inputs.detach().double(), filters, "i o, o w -> w i o")
    else:
        expected = filters.T.unflatten(1, (D, D))
    torch.testing.assert_close(response, expected, rtol=1e-4, atol=1e-5 * float(response.abs().max()))


@pytest.mark.parametrize("form", FORMS)
def test_output_energy_is_the_squared_response_by_distance(form):
    stu = make_stu(**form)
    energy = respond(stu).square().sum(1).T  # (o w)
    if not stu.causal:
        energy = torch.cat([energy[:, L - 1 :][:, :1], energy[:, L:] + energy[:, : L - 1].flip(1)], dim=1)
    torch.testing.assert_close(output_energy(stu), energy, rtol=1e-4, atol=1e-5 * float(energy.max()))


@pytest.mark.parametrize("form", [form.values[0] for form in FORMS if form.values[0]["causal"]])
def test_the_banks_poles_and_learnt_residues_are_the_filters(form):
    stu = make_stu(**form)
    alpha, residues = bank_system(stu)
    filters = channel_filters(stu)
    response = residues @ (alpha ** torch.arange(L)[:, None]).T
    torch.testing.assert_close(response, filters, rtol=1e-5, atol=1e-5 * float(filters.abs().max()))


def test_a_two_sided_layer_is_no_system_of_poles():
    with pytest.raises(ValueError, match="two-sided"):
        bank_system(make_stu(causal=False))


def test_stu_layers_are_found_by_their_place():
    assert stu_layers(make_model("moe_hybrid")).keys() == {0}
    assert not stu_layers(make_model("moirai2"))


POLES = {
    "one slow": [0.97],
    "of both signs": [0.9, -0.8],
    "oscillating": [0.95 * complex(0.8, 0.6), 0.95 * complex(0.8, -0.6), 0.5],
}


@pytest.mark.parametrize("name", POLES)
def test_known_poles_are_found_and_no_further_ones(name):
    poles = torch.tensor(POLES[name], dtype=torch.complex128)
    h = (poles ** torch.arange(48)[:, None]).real.sum(1)
    fit = fit_poles(h, tolerance=1e-6)
    assert len(fit.poles) == len(poles)
    distance = (fit.poles[:, None] - poles).abs().min(dim=0).values
    assert distance.max() < 1e-6
    torch.testing.assert_close(fit.respond(48), h, rtol=1e-6, atol=1e-6)


def test_a_filter_without_odd_lags_has_poles_in_pairs():
    h = torch.zeros(48)
    h[::2] = 0.9 ** torch.arange(24) + 0.5 * 0.4 ** torch.arange(24)
    fit = fit_poles(h, tolerance=1e-6)
    assert len(fit.poles) == 4
    torch.testing.assert_close(fit.poles.sum().abs().item(), 0.0, atol=1e-6, rtol=0)
    torch.testing.assert_close(fit.poles.abs().square().max().item(), 0.9, atol=1e-5, rtol=0)
    assert fit.error < 1e-6


def test_more_poles_fit_no_worse_and_the_error_is_that_of_the_response():
    for h in channel_filters(make_stu(branches="separate")):
        fits = [fit_poles(h, tolerance=1e-9, max_poles=n) for n in range(1, 9)]
        errors = [fit.error for fit in fits]
        assert all(later <= earlier * (1 + 1e-9) for earlier, later in pairwise(errors))
        for fit in fits:
            assert fit.error == pytest.approx(float((fit.respond(L) - h).norm() / h.norm()), rel=1e-6)


def test_a_rough_fit_of_shared_branches_has_its_poles_in_pairs_too():
    for h in channel_filters(make_stu()):
        poles = fit_poles(h, tolerance=0.1).poles
        assert len(poles) % 2 == 0
        torch.testing.assert_close((poles[:, None] + poles).abs().amin(0), torch.zeros(len(poles)).double())


def test_half_life_is_the_lag_at_which_a_response_has_halved():
    assert half_life(torch.tensor([0.5, -0.5, 0.5**0.1])).tolist() == pytest.approx([1, 1, 10], rel=1e-5)
    assert half_life(torch.tensor([1.0, 1.2])).tolist() == [float("inf")] * 2
    assert half_life(torch.tensor(0.0)) == 0


def test_memory_of_a_geometric_decay_is_that_of_the_formula():
    energy = 0.8 ** torch.arange(400, dtype=torch.float64)
    assert float(mean_lag(energy)) == pytest.approx(0.8 / 0.2)
    assert int(effective_memory(energy, 1 - 0.8**11)) == 10  # lags 0 … 10 hold 1 − .8¹¹
    assert effective_memory(torch.tensor([[1.0, 0, 0], [0, 0, 1.0]])).tolist() == [0, 2]


@pytest.mark.parametrize("share", [0.0, 1.1])
def test_a_share_outside_of_zero_to_one_is_refused(share):
    with pytest.raises(ValueError, match="share must be within"):
        effective_memory(torch.ones(3), share)


@pytest.mark.parametrize("h", [torch.ones(3), torch.zeros(9), torch.full((9,), torch.nan), torch.ones(9, 2)])
def test_what_is_no_filter_is_refused(h):
    with pytest.raises(ValueError, match="h must be a finite filter"):
        fit_poles(h)


def test_a_single_pole_for_a_filter_without_odd_lags_is_refused():
    h = torch.zeros(16, dtype=torch.float64)
    h[::2] = 0.8 ** torch.arange(8)
    assert len(fit_poles(h, max_poles=2).poles) == 2
    with pytest.raises(ValueError, match="come in pairs: give max_poles 2, got 1"):
        fit_poles(h, max_poles=1)
