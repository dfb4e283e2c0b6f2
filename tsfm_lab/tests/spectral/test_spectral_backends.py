"""The two evaluations of an STU: each against the other, against its derivative, and the choice between them."""

import pytest
import torch

from tsfm_lab.spectral import FilterBank, get_filter_bank
from tsfm_lab.spectral import backend as backend_module
from tsfm_lab.spectral.backend import choose_backend
from tsfm_lab.spectral.chunked import HistoryContraction, choose_chunk_size, mix_chunked
from tsfm_lab.spectral.contraction import SpectralContraction, mix_spectral


def make_input(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("chunk_size", [1, 7, 16, 49, 50, 200])
@pytest.mark.parametrize("use_hankel_L", [False, True])
def test_any_chunk_size_gives_the_same_function(chunk_size, use_hankel_L):
    bank = get_filter_bank(64, 24, use_hankel_L)
    x, M = make_input(2, 50, 3), make_input(bank.num_features, 3, 4)
    torch.testing.assert_close(mix_chunked(x, bank, M, chunk_size), mix_spectral(x, bank, M), atol=1e-8, rtol=0)


def test_lds_backend_in_float32_is_as_exact_as_the_transform():
    bank = get_filter_bank(512, 24)
    x, M = make_input(2, 512, 8, dtype=torch.float32), make_input(48, 8, 8, dtype=torch.float32)
    expected = mix_spectral(x.double(), bank, M.double())
    for mix in (mix_spectral, mix_chunked):
        error = (mix(x, bank, M) - expected).norm() / expected.norm()
        assert error < 1e-6  # 8 units in the last place of float32


def test_blocks_of_frequencies_and_poles_change_nothing(monkeypatch):
    bank = get_filter_bank(512, 24)
    x, M = make_input(2, 64, 3), make_input(48, 3, 4)
    grads = []
    for numbers in (1 << 23, 100):
        monkeypatch.setattr("tsfm_lab.spectral.contraction.BLOCK_NUMBERS", numbers)
        monkeypatch.setattr("tsfm_lab.spectral.chunked.BLOCK_NUMBERS", numbers)
        leaves = [x.requires_grad_(), M.requires_grad_()]
        y = mix_chunked(x, bank, M, 16)
        grads.append([y, *torch.autograd.grad(y.square().sum(), leaves)])
    for one, many in zip(*grads, strict=True):
        torch.testing.assert_close(one, many, atol=1e-9, rtol=0)  # sums in another order, times a read-out of 4e2


def test_gradcheck_of_the_spectral_contraction():
    P = make_input(5, 2, 4)
    X = torch.complex(make_input(5, 2, 3), make_input(5, 2, 3, seed=2)).requires_grad_()
    assert torch.autograd.gradcheck(SpectralContraction.apply, (P, X, make_input(4, 3, 2).requires_grad_()))


def test_gradcheck_of_the_history_contraction():
    alpha, C = torch.tensor([0.9, 0.5, -0.7]).double(), make_input(3, 4)
    x, M = make_input(4, 3, 2, 2).requires_grad_(), make_input(4, 2, 3).requires_grad_()
    assert torch.autograd.gradcheck(HistoryContraction.apply, (x, M, alpha, C))


@pytest.fixture
def seconds(monkeypatch) -> dict[str, float]:
    """Times that the two evaluations seem to take, with nothing remembered."""
    seconds = {"spectral": 2.0, "lds": 1.0}
    monkeypatch.setattr(backend_module, "_chosen", {})
    monkeypatch.setattr(backend_module, "_time_training_step", lambda name, *_: seconds[name])
    return seconds


def test_the_choice_is_the_faster_one_and_is_remembered(seconds):
    bank, M = get_filter_bank(64, 24), make_input(48, 3, 4)
    assert choose_backend(bank, M, 2, 64) == "lds"
    seconds["lds"] = 3.0
    assert choose_backend(bank, M, 2, 64) == "lds"
    assert choose_backend(bank, M, 2, 60) == "lds"  # sizes are rounded up to powers of two
    assert choose_backend(bank, M, 2, 16) == "spectral"
    assert choose_backend(bank, M[..., :2], 2, 64) == "spectral"


def test_measuring_leaves_gradients_and_random_state_alone(monkeypatch):
    monkeypatch.setattr(backend_module, "_chosen", {})
    M = make_input(48, 3, 4).requires_grad_()
    state = torch.get_rng_state()
    with torch.no_grad():
        assert choose_backend(get_filter_bank(64, 24), M, 2, 64) in ("spectral", "lds")
    assert torch.equal(state, torch.get_rng_state())
    assert M.grad is None


def test_filters_that_are_no_exponentials_leave_only_the_transform(seconds):
    assert choose_backend(FilterBank(make_input(64, 5)), make_input(10, 3, 4), 2, 64) == "spectral"


def test_chunk_size_grows_with_the_square_root_of_the_tokens():
    sizes = [choose_chunk_size(num_tokens, 96, 48) for num_tokens in (1, 2048, 8192, 32768)]
    assert sizes == [16, 64, 128, 256]
