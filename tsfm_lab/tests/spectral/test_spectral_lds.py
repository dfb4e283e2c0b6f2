"""Linear systems: the scan is the loop, and random systems are what was asked for."""

import pytest
import torch

from tsfm_lab.spectral import LDS, random_LDS, scan_linear


def run_loop(lds: LDS, u: torch.Tensor) -> torch.Tensor:
    """h_{t+1} = A h_t + B u_t, y_t = C h_t from h_0 = 0, step by step: u (b t d_in) -> y (b t d_out)."""
    A = torch.diag(lds.A) if lds.A.ndim == 1 else lds.A
    h, y = u.new_zeros(u.shape[0], lds.state_dim), []
    for u_t in u.unbind(1):
        y.append(h @ lds.C.T)
        h = h @ A.T + u_t @ lds.B.T
    return torch.stack(y, 1)


def make_system(diagonal: bool) -> LDS:
    torch.manual_seed(0)
    return LDS(6, 3, 2, dtype=torch.float64, diagonal=diagonal)


def make_input(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("diagonal", [False, True])
@pytest.mark.parametrize("length", [1, 2, 37, 128])
def test_the_scan_equals_the_loop_with_its_gradients(length, diagonal):
    lds, u = make_system(diagonal), make_input(2, length, 3).requires_grad_()
    y, expected = lds(u), run_loop(lds, u)
    torch.testing.assert_close(y, expected, atol=1e-13, rtol=0)
    leaves, grad_y = [u, *lds.parameters()], make_input(*y.shape)
    for found, reference in zip(
        torch.autograd.grad(y, leaves, grad_y, materialize_grads=True),
        torch.autograd.grad(expected, leaves, grad_y, materialize_grads=True),
        strict=True,
    ):
        torch.testing.assert_close(found, reference, atol=1e-11, rtol=1e-11)


def test_float32_keeps_up_with_float64_over_4096_steps():
    lds = random_LDS(8, 2, 2, spectral_radius=0.9999, seed=1)
    u = make_input(1, 4096, 2)
    expected = run_loop(lds.double(), u)
    error = (lds.float()(u.float()) - expected).norm() / expected.norm()
    assert error < 1e-6  # powers squared in float32 instead are off by 6e-5


def test_scan_of_one_is_the_sum_so_far():
    v = make_input(1, 10, 2)
    torch.testing.assert_close(scan_linear(torch.eye(2).double(), v), v.cumsum(1))


def test_the_first_output_is_zero_and_an_input_answers_one_step_later():
    lds, u = make_system(False), torch.zeros(1, 4, 3, dtype=torch.float64)
    u[:, 1] = 1
    y = lds(u)
    assert (y[:, :2] == 0).all()
    torch.testing.assert_close(y[0, 2], lds.C @ lds.B @ u[0, 1])


def test_unbatched_input_returns_unbatched_output():
    lds, u = make_system(False), make_input(2, 9, 3)
    torch.testing.assert_close(lds(u[1]), lds(u)[1])


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("radius", [0.5, 0.999, 1.0])
def test_a_random_system_has_the_spectral_radius_asked_for(radius, symmetric):
    lds = random_LDS(7, 2, 2, spectral_radius=radius, symmetric=symmetric, dtype=torch.float64)
    assert lds.spectral_radius == pytest.approx(radius, rel=1e-12)
    assert torch.allclose(lds.A, lds.A.T, atol=1e-14) == symmetric


def test_a_symmetric_system_has_eigenvalues_of_both_signs():
    eigenvalues = torch.linalg.eigvalsh(random_LDS(16, 2, 2).A)
    assert eigenvalues.min() < -0.3
    assert eigenvalues.max() > 0.3


def test_the_seed_decides_the_system_and_nothing_else_does():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, two, other = random_LDS(4, 2, 2, seed=3), random_LDS(4, 2, 2, seed=3), random_LDS(4, 2, 2, seed=4)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(one.A, two.A)
    assert torch.equal(one.B, two.B)
    assert not torch.equal(one.A, other.A)


def test_the_source_repeats_across_dtypes():
    torch.testing.assert_close(random_LDS(4, 2, 2).A, random_LDS(4, 2, 2, dtype=torch.float64).A.float())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("diagonal", [False, True])
def test_gpu_equals_cpu(diagonal):
    lds, u = make_system(diagonal), make_input(2, 37, 3)
    expected = lds(u)
    torch.testing.assert_close(lds.cuda()(u.cuda()).cpu(), expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("radius", [0.0, -0.5, 1.1])
def test_an_impossible_radius_is_refused(radius):
    with pytest.raises(ValueError, match=r"spectral_radius must be in \(0, 1\]"):
        random_LDS(4, 2, 2, spectral_radius=radius)


def test_an_empty_system_is_refused():
    with pytest.raises(ValueError, match="state_dim must be at least 1, got 0"):
        LDS(0, 2, 2)


@pytest.mark.parametrize("shape", [(4,), (2, 4, 2), (1, 2, 4, 3)])
def test_input_of_the_wrong_shape_is_refused(shape):
    with pytest.raises(ValueError, match=r"u must be \(b t 3\) or \(t 3\), got shape"):
        make_system(False)(torch.zeros(shape, dtype=torch.float64))
