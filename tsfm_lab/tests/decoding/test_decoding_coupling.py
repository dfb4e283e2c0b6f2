"""Acceptance and residual of one drafted value: closed forms against draws, exact laws against what they should be."""

import pytest
import torch
from scipy import stats

from tsfm_lab.decoding import coupling
from tsfm_lab.decoding.block import draw_residual_gaussian, residual_mass
from tsfm_lab.decoding.coupling import acceptance_rate, couple, couple_gaussians, draw_residual, reflect
from tsfm_lab.decoding.laws import Gaussian, GaussianMixture
from tsfm_lab.nn.noise_scale import PatchScale, StepScale

N = 200_000  # draws: standard error of a mean .0022, of a rate at most .0011


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def is_standard_normal(z):
    """Every column of z: (n p) has mean 0 and variance 1, and no two go together, each within 4.5 standard errors."""
    n = len(z)
    z = z.double()
    second = z.T @ z / n
    scores = torch.cat([z.mean(0) * n**0.5, (second - torch.eye(z.shape[1])).flatten() * (n / 2) ** 0.5])
    return scores.abs().max() < 4.5 and all(stats.kstest(column, "norm").pvalue > 1e-4 for column in z.T.numpy())


def make_scale(p, correlated):
    """σ from ½ to 2, and, correlated, errors that go together as .8^|i−j|."""
    sigma, steps = torch.linspace(0.5, 2.0, p), torch.arange(p)
    if not correlated:
        return StepScale(sigma)
    correlation = 0.8 ** (steps[:, None] - steps).abs().double()
    return PatchScale(sigma[:, None] * torch.linalg.cholesky(correlation).float())


@pytest.mark.parametrize("correlated", [False, True])
@pytest.mark.parametrize("p", [1, 4, 96])
@pytest.mark.parametrize("delta", [0.1, 1.0, 2.5])
def test_acceptance_is_two_phi_of_minus_half_delta_whatever_the_patch_and_its_covariance(
    p, delta, correlated, generator
):
    scale = make_scale(p, correlated)
    direction = torch.randn(p, generator=generator)
    mu_q = torch.randn(p, generator=generator)
    mu_p = mu_q + scale.spread(delta * direction / direction.norm())
    n = N // 10
    e = torch.randn(n, p, generator=generator)
    _, kept = couple_gaussians(mu_p.expand(n, p), mu_q.expand(n, p), scale, e, generator)
    rate = acceptance_rate(torch.tensor(delta)).item()
    assert rate == pytest.approx(2 * stats.norm.cdf(-delta / 2), abs=1e-6)
    assert kept.float().mean().item() == pytest.approx(rate, abs=4.5 * (rate * (1 - rate) / n) ** 0.5)


@pytest.mark.parametrize("correlated", [False, True])
def test_kept_or_reflected_draws_have_the_law_of_the_target(correlated, generator):
    mu_p, mu_q, scale = torch.tensor([1.0, -0.5, 0.2]), torch.tensor([0.2, 0.3, 0.0]), make_scale(3, correlated)
    e = torch.randn(N, 3, generator=generator)
    y, kept = couple_gaussians(mu_p.expand(N, 3), mu_q.expand(N, 3), scale, e, generator)
    assert 0.03 < kept.float().mean() < 0.9
    assert is_standard_normal(scale.whiten(y - mu_p))


def test_a_reflected_draw_has_what_the_residual_lacks(generator):
    """Where x is refused, y has the density (p − q)₊: seen along u, in whitened coordinates, it ends at δ/2."""
    mu_p, mu_q, scale = torch.tensor([1.0, -0.5, 0.2]), torch.zeros(3), make_scale(3, correlated=True)
    e = torch.randn(N, 3, generator=generator)
    y, kept = couple_gaussians(mu_p.expand(N, 3), mu_q.expand(N, 3), scale, e, generator)
    Delta = scale.whiten(mu_p - mu_q)
    delta = Delta.norm().item()
    along = (scale.whiten(y[~kept] - mu_q) @ Delta / delta).numpy()
    assert along.min() > delta / 2 - 1e-4
    mass = 1 - 2 * stats.norm.cdf(-delta / 2)

    def cdf(t):
        return (stats.norm.cdf(t, delta) - stats.norm.cdf(t) + mass) / mass

    assert stats.kstest(along, cdf).pvalue > 1e-4


def test_spreading_undoes_whitening_and_has_the_covariance():
    for correlated in (False, True):
        scale, d = make_scale(5, correlated), torch.randn(7, 5)
        torch.testing.assert_close(scale.spread(scale.whiten(d)), d, rtol=1e-4, atol=1e-5)  # float32
    torch.testing.assert_close(scale.spread(torch.eye(5)).T, scale.factor)
    torch.testing.assert_close(scale.sigma, torch.linspace(0.5, 2.0, 5))
    assert scale.log_det().item() == pytest.approx(torch.logdet(scale.factor).item(), abs=1e-5)


def test_a_refused_draw_replaced_by_one_of_p_has_another_law(generator):
    mu_p, mu_q = torch.tensor([1.0]), torch.tensor([0.0])
    e = torch.randn(N, 1, generator=generator)
    y, kept = couple_gaussians(mu_p.expand(N, 1), mu_q.expand(N, 1), StepScale(torch.ones(1)), e, generator)
    y = torch.where(kept[:, None], y, mu_p + torch.randn(N, 1, generator=generator))
    assert not is_standard_normal(y - mu_p)


def test_a_reflection_keeps_what_is_across_and_turns_what_is_along():
    e, Delta = torch.tensor([3.0, 4.0]), torch.tensor([2.0, 0.0])
    assert reflect(e, Delta).tolist() == [-3.0, 4.0]
    assert reflect(e, torch.zeros(2)).tolist() == [3.0, 4.0]


def test_unequal_covariances_are_coupled_exactly(generator):
    p = Gaussian(torch.tensor([0.5, 0.0]).expand(N, 2), torch.tensor([1.0, 0.5]).expand(N, 2))
    q = Gaussian(torch.tensor([0.0, 0.2]).expand(N, 2), torch.tensor([1.5, 0.4]).expand(N, 2))
    y, kept = couple(q.sample(generator), p, q, generator)
    assert 0.3 < kept.float().mean() < 0.9
    assert is_standard_normal((y - p.mean) / p.sigma)


def test_mixtures_are_coupled_exactly(generator):
    def mixture(weights, means, sigmas):
        as_rows = [torch.tensor(values).expand(N, len(values)) for values in (weights, means, sigmas)]
        return GaussianMixture(as_rows[0], as_rows[1][..., None], as_rows[2][..., None])

    p, q = mixture([0.3, 0.7], [-1.0, 2.0], [0.5, 1.0]), mixture([0.6, 0.4], [-1.5, 1.0], [0.7, 1.2])
    y, kept = couple(q.sample(generator), p, q, generator)
    assert 0.3 < kept.float().mean() < 0.95

    def cdf(t):
        return 0.3 * stats.norm.cdf(t, -1.0, 0.5) + 0.7 * stats.norm.cdf(t, 2.0, 1.0)

    assert stats.kstest(y[:, 0].numpy(), cdf).pvalue > 1e-4
    wrong = torch.where(kept[:, None], y, p.sample(generator))
    assert stats.kstest(wrong[:, 0].numpy(), cdf).pvalue < 1e-4


def test_densities_of_laws_are_those_of_torch():
    mean, sigma, x = torch.randn(5, 3), torch.rand(5, 3) + 0.5, torch.randn(5, 3)
    normal = torch.distributions.Normal(mean, sigma)
    torch.testing.assert_close(Gaussian(mean, sigma).log_prob(x), normal.log_prob(x).sum(-1))
    weights, means, sigmas = torch.tensor([0.2, 0.8]).expand(5, 2), torch.randn(5, 2, 3), torch.rand(5, 2, 3) + 0.5
    mixture = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(weights),
        torch.distributions.Independent(torch.distributions.Normal(means, sigmas), 1),
    )
    torch.testing.assert_close(GaussianMixture(weights, means, sigmas).log_prob(x), mixture.log_prob(x))


def test_a_refused_position_costs_at_most_one_extra_draw_on_average(generator):
    class Counting(Gaussian):
        drawn = 0

        def sample(self, generator=None):
            Counting.drawn += len(self.mean)
            return super().sample(generator)

        def select(self, rows):
            return Counting(self.mean[rows], self.sigma[rows])

    mean = torch.zeros(N, 2)
    p, q = Counting(mean, torch.full((N, 2), 1.0)), Gaussian(mean + 0.3, torch.full((N, 2), 1.3))
    couple(q.sample(generator), p, q, generator)
    assert Counting.drawn / N == pytest.approx(1.0, abs=0.02)  # P(refused) · 1/P(refused); standard error about .004


def test_a_residual_that_does_not_exist_is_an_error(monkeypatch):
    monkeypatch.setattr(coupling, "MOST_DRAWS", 100)
    law = Gaussian(torch.zeros(2, 1), torch.ones(2, 1))
    with pytest.raises(ArithmeticError, match="no draw from the residual of 2 rows"):
        draw_residual(law, law)


@pytest.mark.parametrize("c", [1.0, 0.7, 0.05])
@pytest.mark.parametrize("delta", [0.05, 0.8, 3.0])
def test_the_residuals_mass_equals_the_integral(c, delta):
    t = torch.linspace(-12, 15, 400_001, dtype=torch.float64)
    gap = c * torch.exp(-((t - delta) ** 2) / 2) - torch.exp(-(t**2) / 2)
    integral = torch.trapezoid(gap.clamp(min=0), t) / (2 * torch.pi) ** 0.5
    mass = residual_mass(torch.tensor(c).double().log(), torch.tensor(delta).double())
    assert mass.item() == pytest.approx(integral.item(), abs=1e-7)  # trapezoids of 7e-5


@pytest.mark.parametrize("correlated", [False, True])
@pytest.mark.parametrize("c", [1.0, 0.4])
def test_draws_of_the_gaussian_residual_have_its_law(c, correlated, generator):
    mu_p, mu_q, scale = torch.tensor([0.6, -0.8]), torch.zeros(2), make_scale(2, correlated)
    n = 50_000
    log_c = torch.tensor(c).log().expand(n)
    y = draw_residual_gaussian(mu_p.expand(n, 2), mu_q.expand(n, 2), scale, log_c, generator)
    Delta = scale.whiten(mu_p - mu_q)
    delta = Delta.norm()
    z = scale.whiten(y - mu_q)
    along = (z @ Delta / delta).numpy()
    edge = (delta / 2 - torch.tensor(c).log() / delta).item()
    mass = residual_mass(torch.tensor(c).log(), delta).item()

    def cdf(t):
        head = c * (stats.norm.cdf(t, delta.item()) - stats.norm.cdf(edge, delta.item()))
        return (head - stats.norm.cdf(t) + stats.norm.cdf(edge)) / mass

    assert stats.kstest(along, cdf).pvalue > 1e-4
    across = z @ torch.stack([-Delta[1], Delta[0]]) / delta
    assert is_standard_normal(across[:, None])


def test_residual_draws_far_in_the_tail_stay_in_their_support(generator):
    mu_p, log_c = torch.full((1000, 1), 0.3), torch.full((1000,), -6.0)
    y = draw_residual_gaussian(mu_p, torch.zeros(1000, 1), StepScale(torch.ones(1)), log_c, generator)
    assert y.min() >= 0.15 + 6 / 0.3 - 1e-4  # float32
