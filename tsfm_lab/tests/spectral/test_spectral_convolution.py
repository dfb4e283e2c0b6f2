"""The filter bank: whole sequences, pieces and single steps give the direct sum."""

import warnings

import pytest
import torch

from tsfm_lab.spectral import DiagonalLDS, FilterBank, fit_diagonal_lds, get_filter_bank, get_spectral_filters

BANKS = [(64, 24, False), (64, 24, True), (512, 24, False), (20, 6, True)]


def sum_directly(psi: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """f_k(t) = Σ_{l=0}^{t} ψ_k(l) x(t − l), written as it stands: psi (t k), x (b t d) -> (b t k d)."""
    b, t, d = x.shape
    f = torch.zeros(b, t, psi.shape[1], d, dtype=x.dtype)
    for time in range(t):
        for lag in range(time + 1):
            f[:, time] += psi[lag, :, None] * x[:, time - lag, None, :]
    return f


def make_input(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("length", [1, 7, 20])
@pytest.mark.parametrize("use_hankel_L", [False, True])
def test_features_equal_the_direct_sum_at_every_length_up_to_seq_len(length, use_hankel_L):
    bank = get_filter_bank(20, 6, use_hankel_L)
    x = make_input(2, length, 3)
    torch.testing.assert_close(bank.features(x), sum_directly(bank.psi, x), atol=1e-13, rtol=0)


def test_both_branches_are_one_bank():
    phi = get_spectral_filters(20, 6, dtype=torch.float64)
    sgn = (-1.0) ** torch.arange(20, dtype=torch.float64)
    x = make_input(2, 20, 3)
    plus, minus = FilterBank(phi).features(x).chunk(2, dim=2)
    torch.testing.assert_close(plus, sum_directly(phi, x), atol=1e-13, rtol=0)
    sandwiched = sgn[:, None, None] * sum_directly(phi, sgn[:, None] * x)
    torch.testing.assert_close(minus, sandwiched, atol=1e-13, rtol=0)


@pytest.mark.parametrize(("seq_len", "K", "use_hankel_L"), BANKS)
def test_steps_give_the_features_of_the_whole_sequence(seq_len, K, use_hankel_L):
    bank = get_filter_bank(seq_len, K, use_hankel_L)
    x = make_input(2, seq_len, 3)
    state, steps = bank.initial_state(2, 3), []
    for x_t in x.unbind(1):
        f_t, state = bank.step(x_t, state)
        steps.append(f_t)
    # the fit holds each filter to 1e-8 of its norm, or as float64 allows: 1e-5 of the smallest at L 64
    torch.testing.assert_close(torch.stack(steps, 1), bank.features(x), atol=1e-9, rtol=0)


@pytest.mark.parametrize("pieces", [(64,), (40, 24), (10, 1, 30, 23)])
def test_prefill_in_pieces_then_decode_gives_the_whole_sequence(pieces):
    bank = get_filter_bank(100, 24)
    x = make_input(2, 70, 3)
    state, found = None, []
    for piece in x[:, :64].split(pieces, dim=1):
        features, state = bank.prefill(piece, state)
        found.append(features)
    for x_t in x[:, 64:].unbind(1):
        f_t, state = bank.step(x_t, state)
        found.append(f_t[:, None])
    assert state.length == 70
    torch.testing.assert_close(torch.cat(found, 1), bank.features(x), atol=1e-10, rtol=0)


def test_a_step_leaves_the_earlier_state_valid():
    bank = get_filter_bank(64, 24)
    x = make_input(1, 3, 2)
    _, state = bank.prefill(x[:, :2])
    first, _ = bank.step(x[:, 2], state)
    again, _ = bank.step(x[:, 2], state)
    torch.testing.assert_close(first, again, atol=0, rtol=0)


def test_the_state_has_the_same_size_at_any_length():
    bank = get_filter_bank(512, 24)
    sizes = {bank.prefill(make_input(1, length, 2))[1].h.shape for length in (1, 100, 512)}
    assert sizes == {(1, 2, bank.lds.alpha.numel(), 2)}
    assert bank.lds.alpha.numel() < 60


def test_float32_features_keep_their_dtype_and_a_float64_state():
    bank = get_filter_bank(64, 24)
    f_t, state = bank.step(torch.ones(1, 2))
    assert (f_t.dtype, state.h.dtype) == (torch.float32, torch.float64)


def test_beyond_seq_len_every_way_in_says_what_to_do():
    bank = get_filter_bank(20, 6)
    x = make_input(1, 21, 2)
    _, state = bank.prefill(x[:, :20])
    for attempt in (lambda: bank.features(x), lambda: bank.prefill(x), lambda: bank.step(x[:, 20], state)):
        with pytest.raises(ValueError, match="21 steps is longer than the filters, seq_len=20: build them with"):
            attempt()


@pytest.mark.parametrize("use_hankel_L", [False, True])
@pytest.mark.parametrize(("seq_len", "K"), [(1, 1), (5, 5), (64, 12), (512, 24), (1024, 24), (4096, 24)])
def test_filters_are_sums_of_few_exponentials(seq_len, K, use_hankel_L):
    phi = get_spectral_filters(seq_len, K, use_hankel_L, dtype=torch.float64)
    lds = fit_diagonal_lds(phi, negative_poles=use_hankel_L)
    relative = (lds.respond(seq_len) - phi).norm(dim=0) / phi.norm(dim=0)
    torch.testing.assert_close(relative, lds.errors, atol=1e-12, rtol=0.1)  # it reports its own error
    assert relative.max() < 1e-8
    assert lds.alpha.abs().max() < 1
    assert lds.alpha.numel() <= (84 if use_hankel_L else 60)


def test_the_response_of_a_diagonal_system_is_its_recurrence():
    lds = DiagonalLDS(torch.tensor([0.5, -0.9]).double(), torch.tensor([[1.0], [2.0]]).double(), torch.zeros(1))
    h, expected = torch.zeros(2).double(), []
    for impulse in (1.0, 0.0, 0.0, 0.0):
        h = lds.alpha * h + impulse
        expected.append(lds.C.T @ h)
    torch.testing.assert_close(lds.respond(4), torch.stack(expected))


def test_filters_that_are_no_exponentials_are_refused_for_decoding():
    bank = FilterBank(make_input(64, 4))
    with pytest.raises(ValueError, match="not sums of decaying exponentials"):
        bank.step(torch.zeros(1, 2))


def test_a_float32_state_warns_of_the_filters_it_loses():
    phi = get_spectral_filters(512, 24, dtype=torch.float64)
    with pytest.warns(UserWarning, match="float32 does not hold the state"):
        FilterBank(phi, state_dtype=torch.float32).step(torch.zeros(1, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FilterBank(phi).step(torch.zeros(1, 2))
        FilterBank(phi[:, :8], state_dtype=torch.float32).step(torch.zeros(1, 2))


@pytest.mark.parametrize(
    ("phi", "message"), [(torch.zeros(4), "got shape"), (torch.full((4, 2), torch.nan), "must be finite")]
)
def test_bad_filters_are_refused(phi, message):
    with pytest.raises(ValueError, match=message):
        FilterBank(phi)
