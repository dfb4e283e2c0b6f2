"""The learners that notebook 02 compares are what they are called, and do not mix the systems they learn."""

import pytest
import torch

from tsfm_lab.bench.lds_learners import (
    DiagonalLDSLearner,
    GRULearner,
    STULearner,
    draw_problems,
    fit,
    judge,
    respond,
    solve,
)
from tsfm_lab.spectral import LDS, MiniSTU, get_filter_bank

NUM_SYSTEMS, SEQ_LEN = 2, 32
PSI = get_filter_bank(SEQ_LEN, 8).psi


@pytest.fixture
def problems():
    return draw_problems((0.1,), (0.9,), (0, 1), num_sequences=4, seq_len=SEQ_LEN)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def test_stu_learner_is_a_ministu_for_each_system(problems):
    learner = STULearner(NUM_SYSTEMS, PSI)
    for number, u in enumerate(problems.u):
        stu = MiniSTU(SEQ_LEN, 8, 1, 1)
        with torch.no_grad():
            stu.M_phi_plus.copy_(learner.M[number, :8, None, None])
            stu.M_phi_minus.copy_(learner.M[number, 8:, None, None])
            torch.testing.assert_close(learner(problems.u)[number], stu(u[..., None])[..., 0], atol=1e-5, rtol=1e-5)


def test_diagonal_learner_is_a_diagonal_lds_for_each_system(problems):
    learner = DiagonalLDSLearner(NUM_SYSTEMS, 3)
    for number, u in enumerate(problems.u):
        lds = LDS(3, 1, 1, diagonal=True)
        with torch.no_grad():
            lds.A.copy_(torch.tanh(learner.theta[number]))
            lds.B.copy_(learner.B[number, :, None])
            lds.C.copy_(learner.C[number, None])
            torch.testing.assert_close(learner(problems.u)[number], lds(u[..., None])[..., 0], atol=1e-5, rtol=1e-5)


def test_gru_learner_is_a_torch_gru_for_each_system(problems):
    learner = GRULearner(NUM_SYSTEMS, 5)
    for number, u in enumerate(problems.u):
        gru = torch.nn.GRU(1, 5, batch_first=True)
        with torch.no_grad():
            gru.weight_ih_l0.copy_(learner.W[number, :, None])
            gru.weight_hh_l0.copy_(learner.U[number].T)
            gru.bias_ih_l0.copy_(learner.b[number])
            gru.bias_hh_l0.zero_()
            y = gru(u[..., None])[0] @ learner.C[number]
            torch.testing.assert_close(learner(problems.u)[number], y, atol=1e-6, rtol=1e-5)


def test_systems_fitted_together_are_fitted_as_if_alone(problems):
    together = DiagonalLDSLearner(NUM_SYSTEMS, 3)
    alone = DiagonalLDSLearner(1, 3)
    alone.load_state_dict({name: value[1:] for name, value in together.state_dict().items()})
    second = type(problems)(*(tensor[1:] for tensor in vars(problems).values()))
    error = fit(together, problems, 20, 0.1)
    # sums of another shape round differently, and twenty steps of Adam carry that on
    torch.testing.assert_close(fit(alone, second, 20, 0.1), error[1:], rtol=1e-3, atol=0)
    assert error[1] < 1


def test_least_squares_finds_a_system_that_the_filters_span(problems):
    clean = draw_problems((0.0,), (0.9,), (0, 1), num_sequences=4, seq_len=SEQ_LEN)
    errors = judge(respond(solve(PSI, clean), clean.u_new.double()), clean)
    assert errors.max() < 1e-5  # what 8 filters leave of a decay at 32 steps, squared
    assert judge(respond(solve(PSI, problems), problems.u_new.double()), problems).min() > 1e-4  # noise is felt
