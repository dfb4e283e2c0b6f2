"""MiniSTU: every backend is the direct sum, forward, backward and token by token; bad input is named."""

import math

import pytest
import torch
from torch import nn

from tsfm_lab.spectral import MiniSTU, get_hankel_eigenpairs, get_spectral_filters

# lds: the fit holds each filter to 1e-8 of its norm, or as float64 allows (1e-11 of the output at L 64)
TOLERANCE = {"spectral": 1e-12, "lds": 1e-9}


def make_stu(seq_len=64, num_filters=24, input_dim=3, output_dim=4, **options) -> MiniSTU:
    torch.manual_seed(0)
    return MiniSTU(seq_len, num_filters, input_dim, output_dim, **{"dtype": torch.float64, **options})


def make_input(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def sum_directly(stu: MiniSTU, x: torch.Tensor) -> torch.Tensor:
    """y(t) = Σ_l Σ_k φ_k(l) [M⁺_k + (−1)ˡ M⁻_k]ᵀ x(t − l), written as it stands."""
    phi = stu.bank.psi[:, : stu.num_filters]
    y = []
    for time in range(x.shape[1]):
        y_t = torch.zeros(x.shape[0], stu.output_dim, dtype=x.dtype)
        for lag in range(time + 1):
            M = stu.M_phi_plus if stu.M_phi_minus is None else stu.M_phi_plus + (-1) ** lag * stu.M_phi_minus
            y_t = y_t + x[:, time - lag] @ torch.einsum("k,kio->io", phi[lag], M)
        y.append(y_t)
    return torch.stack(y, 1)


@pytest.mark.parametrize("use_hankel_L", [False, True])
@pytest.mark.parametrize("length", [1, 33, 64])
@pytest.mark.parametrize("backend", ["spectral", "lds"])
def test_output_and_gradients_equal_the_direct_sum(backend, length, use_hankel_L):
    stu = make_stu(backend=backend, use_hankel_L=use_hankel_L)
    x = make_input(2, length, 3).requires_grad_()
    leaves = [x, *stu.parameters()]
    y, expected = stu(x), sum_directly(stu, x)
    torch.testing.assert_close(y, expected, atol=TOLERANCE[backend], rtol=0)
    grad_y = make_input(*y.shape, seed=2)
    for found, reference in zip(
        torch.autograd.grad(y, leaves, grad_y), torch.autograd.grad(expected, leaves, grad_y), strict=True
    ):
        torch.testing.assert_close(found, reference, atol=TOLERANCE[backend] * 100, rtol=0)


@pytest.mark.parametrize("backend", ["spectral", "lds"])
def test_the_future_has_no_effect(backend):
    stu = make_stu(backend=backend)
    x = make_input(1, 40, 3).requires_grad_()
    (grad,) = torch.autograd.grad(stu(x)[:, 17].sum(), x)
    assert grad[:, 18:].abs().max() < 1e-13  # rounding of the transform over all 40 steps
    assert grad[:, 17].abs().max() > 1e-3


def test_equal_branches_answer_an_impulse_at_even_lags_only():
    stu = make_stu()
    with torch.no_grad():
        stu.M_phi_minus.copy_(stu.M_phi_plus)
    impulse = torch.zeros(1, 20, 3, dtype=torch.float64)
    impulse[:, 0] = 1
    response = stu(impulse)[0].abs().amax(dim=1)
    assert response[1::2].max() < 1e-14
    assert response[0::2].min() > 1e-4


@pytest.mark.parametrize("use_mlp", [False, True])
@pytest.mark.parametrize("use_hankel_L", [False, True])
def test_prefill_then_steps_equal_forward(use_hankel_L, use_mlp):
    stu = make_stu(use_hankel_L=use_hankel_L, use_mlp=use_mlp)
    x = make_input(2, 64, 3)
    y, state = stu.prefill(x[:, :30])
    found = [y]
    y, state = stu.prefill(x[:, 30:40], state)
    found.append(y)
    for x_t in x[:, 40:].unbind(1):
        y_t, state = stu.step(x_t, state)
        found.append(y_t[:, None])
    torch.testing.assert_close(torch.cat(found, 1), stu(x), atol=1e-9, rtol=0)


def test_decoding_from_the_first_token_needs_no_state():
    stu = make_stu()
    x = make_input(2, 64, 3)
    y_0, state = stu.step(x[:, 0])
    y_1, _ = stu.step(x[:, 1], state)
    torch.testing.assert_close(torch.stack([y_0, y_1], 1), stu(x)[:, :2], atol=1e-9, rtol=0)


def test_a_symmetric_system_in_closed_form():
    # A with eigenvalues of both signs up to 1: projecting its impulse response leaves what projecting αᵗ leaves,
    # 1.6e-5 at worst for 24 filters of 512 steps
    eigenvalues = torch.tensor([0.999999, 0.99, 0.5, -0.9, -0.999999], dtype=torch.float64)
    W = eigenvalues ** torch.arange(512)[:, None]  # scalar impulse response of each mode
    _, U = get_hankel_eigenpairs(512, 24)
    sgn = (-1.0) ** torch.arange(512, dtype=torch.float64)[:, None]
    basis, _ = torch.linalg.qr(torch.cat([U, sgn * U], dim=1))
    relative = (W - basis @ (basis.T @ W)).norm(dim=0) / W.norm(dim=0)
    assert relative.max() < 1.7e-5


@pytest.mark.parametrize("backend", ["spectral", "lds"])
def test_shorter_input_uses_the_first_rows_of_the_filters(backend):
    stu = make_stu(backend=backend)
    x = make_input(2, 64, 3)
    torch.testing.assert_close(stu(x[:, :21]), stu(x)[:, :21], atol=1e-9, rtol=0)


def test_unbatched_input_returns_unbatched_output():
    stu = make_stu(use_mlp=True)
    x = make_input(2, 64, 3)
    torch.testing.assert_close(stu(x[0]), stu(x)[0], atol=1e-13, rtol=0)


def test_precomputed_filters_replace_the_spectral_ones():
    phi = make_input(64, 5)
    stu = make_stu(num_filters=5, precomputed_filters=phi)
    torch.testing.assert_close(stu.bank.psi[:, :5], phi, atol=0, rtol=0)
    x = make_input(1, 64, 3)
    torch.testing.assert_close(stu(x), sum_directly(stu, x), atol=1e-11, rtol=0)


def test_precomputed_spectral_filters_work_in_the_lds_backend():
    phi = get_spectral_filters(64, 12, dtype=torch.float64)
    x = make_input(1, 64, 3)
    y = [make_stu(num_filters=12, precomputed_filters=phi, backend=name)(x) for name in ("spectral", "lds")]
    torch.testing.assert_close(*y, atol=1e-9, rtol=0)


def test_lds_backend_refuses_filters_that_are_no_exponentials():
    stu = make_stu(num_filters=5, precomputed_filters=make_input(64, 5), backend="lds")
    with pytest.raises(ValueError, match=r"not sums of decaying exponentials.*use backend='spectral'"):
        stu(make_input(1, 64, 3))


def test_mlp_has_the_layers_asked_for():
    stu = make_stu(use_mlp=True, mlp_num_layers=3, mlp_hidden_dim=7, mlp_dropout=0.1, mlp_activation="gelu")
    widths = [(layer.in_features, layer.out_features) for layer in stu.mlp if isinstance(layer, nn.Linear)]
    assert widths == [(4, 7), (7, 7), (7, 4)]
    assert sum(isinstance(layer, nn.GELU) for layer in stu.mlp) == 2
    assert [layer.p for layer in stu.mlp if isinstance(layer, nn.Dropout)] == [0.1, 0.1]
    assert [type(layer) for layer in make_stu(use_mlp=True, mlp_num_layers=1).mlp] == [nn.Linear]


@pytest.mark.parametrize("backend", ["spectral", "lds"])
def test_gradients_reach_input_weights_and_mlp(backend):
    stu = make_stu(use_mlp=True, backend=backend)
    x = make_input(2, 64, 3).requires_grad_()
    stu(x).sum().backward()
    for leaf in (x, *stu.parameters()):
        assert leaf.grad is not None
        assert leaf.grad.abs().max() > 0


def test_weights_start_at_the_published_scale():
    stu = make_stu(seq_len=64, num_filters=24, input_dim=50, output_dim=40)
    for M in (stu.M_phi_plus, stu.M_phi_minus):
        assert M.shape == (24, 50, 40)
        assert M.std().item() == pytest.approx((24 * 50) ** -0.5, rel=0.02)  # 48,000 draws
    assert stu.get_num_params() == 2 * 24 * 50 * 40


def test_both_backends_have_the_same_state_dict():
    spectral, lds = make_stu(backend="spectral"), make_stu(backend="lds")
    assert list(spectral.state_dict()) == ["M_phi_plus", "M_phi_minus"]
    lds.load_state_dict(spectral.state_dict())


@pytest.mark.parametrize("backend", ["spectral", "lds"])
def test_half_precision_and_autocast_compute_in_float32(backend):
    x = make_input(2, 64, 3, dtype=torch.float32)
    stu = make_stu(backend=backend, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = stu(x)
        y.sum().backward()
    torch.testing.assert_close(y, stu(x), atol=0, rtol=0)
    assert make_stu(backend=backend, dtype=torch.bfloat16)(x).dtype == torch.bfloat16


def test_auto_runs_the_backend_it_names(monkeypatch):
    monkeypatch.setattr("tsfm_lab.spectral.mini_stu.choose_backend", lambda *_: "lds")
    x = make_input(2, 64, 3)
    assert make_stu(backend="auto").resolve_backend(2, 64) == "lds"
    torch.testing.assert_close(make_stu(backend="auto")(x), make_stu(backend="lds")(x), atol=0, rtol=0)
    assert make_stu(backend="spectral").resolve_backend(2, 64) == "spectral"


@pytest.mark.parametrize("backend", ["spectral", "lds"])
def test_a_module_first_used_in_inference_mode_can_train(backend):
    with torch.inference_mode():
        phi = get_spectral_filters(64, 12, dtype=torch.float64)
    stu = make_stu(num_filters=12, precomputed_filters=phi, backend=backend)
    with torch.inference_mode():
        _, state = stu.prefill(make_input(1, 40, 3))
        stu.step(make_input(1, 3), state)
    stu(make_input(1, 64, 3)).sum().backward()
    assert stu.M_phi_plus.grad is not None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("backend", ["spectral", "lds"])
def test_gpu_equals_cpu(backend):
    stu = make_stu(backend=backend)
    x = make_input(2, 64, 3)
    expected = stu(x)
    torch.testing.assert_close(stu.cuda()(x.cuda()).cpu(), expected, atol=1e-9, rtol=0)
    y_t, _ = stu.step(x[:, 0].cuda())
    torch.testing.assert_close(y_t.cpu(), expected[:, 0], atol=1e-9, rtol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_filters": 65}, "K must be at most seq_len=64, got 65"),
        ({"num_filters": 0}, "K must be at least 1, got 0"),
        ({"seq_len": 0, "num_filters": 1}, "seq_len must be at least 1, got 0"),
        ({"input_dim": 0}, "input_dim must be at least 1, got 0"),
        ({"output_dim": 0}, "output_dim must be at least 1, got 0"),
        ({"backend": "fft"}, "unknown backend 'fft': choose one of spectral, lds, auto"),
        ({"use_mlp": True, "mlp_activation": "silu"}, "unknown mlp_activation 'silu': choose one of relu, gelu, tanh"),
        ({"use_mlp": True, "mlp_num_layers": 0}, "mlp_num_layers must be at least 1, got 0"),
        (
            {"precomputed_filters": torch.zeros(64, 23)},
            r"must be \(seq_len, num_filters\) = \(64, 24\), got \(64, 23\)",
        ),
        ({"precomputed_filters": torch.full((64, 24), math.nan)}, "phi must be finite"),
    ],
)
def test_impossible_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make_stu(**options)


def poison(x: torch.Tensor, value: float) -> torch.Tensor:
    x[0, 3, 1] = value
    return x


@pytest.mark.parametrize("backend", ["spectral", "lds"])
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (make_input(2, 10, 4), "input_dim=3 channels, got shape"),
        (make_input(10), "must be .b t 3. or .t 3., got shape"),
        (make_input(1, 2, 10, 3), "must be .b t 3. or .t 3., got shape"),
        (make_input(2, 65, 3), "65 steps is longer than the filters, seq_len=64: build them with seq_len >= 65"),
        (make_input(2, 0, 3), "at least 1 step, got 0"),
        (poison(make_input(2, 10, 3), math.nan), "x must be finite, got NaN or infinity"),
        (poison(make_input(2, 10, 3), math.inf), "x must be finite, got NaN or infinity"),
    ],
)
def test_bad_input_is_refused(x, message, backend):
    with pytest.raises(ValueError, match=message):
        make_stu(backend=backend)(x)


@pytest.mark.parametrize(
    ("x_t", "message"),
    [(make_input(2, 4), "input_dim=3"), (make_input(2, 1, 3), "must be .b 3."), (make_input(3), "must be .b 3.")],
)
def test_a_bad_step_is_refused(x_t, message):
    with pytest.raises(ValueError, match=message):
        make_stu().step(x_t)
