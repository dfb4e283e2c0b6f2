"""Laws against scipy's: densities, distribution functions, quantiles, means, samples; mixtures, quantile knots."""

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch

from tsfm_lab.distributions import (
    AffineTransformed,
    Laplace,
    LogNormal,
    Mixture,
    NegativeBinomial,
    Normal,
    Pareto,
    QuantileKnots,
    StudentT,
)
from tsfm_lab.distributions.parametric import map_parameters


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


LAWS = {
    "student": (StudentT(tensor(2.5), tensor(1.0), tensor(0.5)), scipy.stats.t(2.5, 1.0, 0.5)),
    "normal": (Normal(tensor(-1.0), tensor(2.0)), scipy.stats.norm(-1.0, 2.0)),
    "laplace": (Laplace(tensor(-1.0), tensor(2.0)), scipy.stats.laplace(-1.0, 2.0)),
    "lognormal": (LogNormal(tensor(0.3), tensor(0.8)), scipy.stats.lognorm(0.8, scale=np.exp(0.3))),
    "pareto": (Pareto(tensor(1.5), tensor(3.0)), scipy.stats.pareto(3.0, scale=1.5)),
}
LEVELS = tensor(0.01, 0.2, 0.5, 0.8, 0.99)
COUNTS = NegativeBinomial(tensor(2.5), tensor(0.4)), scipy.stats.nbinom(2.5, torch.sigmoid(-tensor(0.4)).item())
MIXTURE = Mixture(
    tensor([0.1, -0.5, 0.4, 0.0]), [LAWS["student"][0], LAWS["normal"][0], COUNTS[0], LAWS["lognormal"][0]]
)


def ks_distance(samples, cdf):
    """Largest distance between the distribution function of samples and `cdf`, on either side of a step."""
    x, counts = np.unique(samples, return_counts=True)
    above = np.cumsum(counts) / len(samples)
    return max(np.abs(above - cdf(x)).max(), np.abs(above - counts / len(samples) - cdf(x - 1e-9)).max())


@pytest.mark.parametrize("name", LAWS)
def test_continuous_laws_equal_scipys(name):
    law, reference = LAWS[name]
    x = torch.linspace(-3, 6, 31, dtype=torch.float64)
    torch.testing.assert_close(law.log_prob(x), torch.from_numpy(reference.logpdf(x)))
    torch.testing.assert_close(law.cdf(x), torch.from_numpy(reference.cdf(x)))
    torch.testing.assert_close(law.icdf(LEVELS), torch.from_numpy(reference.ppf(LEVELS)))
    torch.testing.assert_close(law.mean, tensor(reference.mean()))


def test_the_negative_binomial_equals_scipys_at_integers_and_its_formula_between():
    law, reference = COUNTS
    k = torch.arange(40, dtype=torch.float64)
    torch.testing.assert_close(law.log_prob(k), torch.from_numpy(reference.logpmf(k)))
    torch.testing.assert_close(law.cdf(k + 0.5), torch.from_numpy(reference.cdf(k)))
    assert torch.equal(law.icdf(LEVELS), torch.from_numpy(reference.ppf(LEVELS)))
    torch.testing.assert_close(law.mean, tensor(reference.mean()))
    r, x, p = 2.5, 3.7, torch.sigmoid(tensor(0.4)).item()
    gamma = scipy.special.gamma
    expected = np.log(gamma(x + r) / gamma(x + 1) / gamma(r) * (1 - p) ** r * p**x)
    torch.testing.assert_close(law.log_prob(tensor(x)), tensor(expected))


@pytest.mark.parametrize(
    "law", [LAWS["lognormal"][0], LAWS["pareto"][0], COUNTS[0]], ids=lambda law: type(law).__name__
)
def test_outside_the_support_density_is_zero_and_gradients_are_finite(law):
    law = map_parameters(law, lambda parameter: parameter.clone().requires_grad_())
    x = tensor(-2.0, -1e-3, 2.0)
    assert law.log_prob(x).isinf().tolist() == [True, True, False]
    assert law.cdf(x[:2]).tolist() == [0, 0]
    gradients = torch.autograd.grad(law.log_prob(x)[2], [getattr(law, name) for name in law.arg_constraints])
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("name", [*LAWS, "counts", "mixture", "knots"])
def test_samples_follow_the_distribution_function(name):
    knots = QuantileKnots(tensor([-1.0, 0.0, 3.0]), tensor(0.2, 0.5, 0.7))
    law = {"counts": COUNTS[0], "mixture": MIXTURE, "knots": knots, **{key: pair[0] for key, pair in LAWS.items()}}[
        name
    ]
    torch.manual_seed(0)
    samples = law.sample((20_000,)).flatten().numpy()
    # Kolmogorov: 20,000 samples pass 1.95/√n with probability .001
    assert ks_distance(samples, lambda x: law.cdf(torch.from_numpy(x)).flatten().numpy()) < 1.95 / 20_000**0.5


def test_samples_take_shapes_in_front_of_the_batch():
    laws = [LAWS["student"][0], MIXTURE, AffineTransformed(MIXTURE, tensor(1.0), tensor(2.0))]
    assert all(law.sample((3, 2)).shape == (3, 2, *law.batch_shape) for law in laws)
    assert MIXTURE.sample().shape == MIXTURE.batch_shape


def test_a_mixture_is_the_weighted_sum_of_its_components():
    laws = MIXTURE.components
    weights = torch.softmax(tensor(0.1, -0.5, 0.4, 0.0), 0)
    x = torch.linspace(-3, 6, 31, dtype=torch.float64)
    density = sum(w * law.log_prob(x).exp() for w, law in zip(weights, laws, strict=True))
    torch.testing.assert_close(MIXTURE.log_prob(x).exp(), density)
    torch.testing.assert_close(MIXTURE.cdf(x), sum(w * law.cdf(x) for w, law in zip(weights, laws, strict=True)))
    torch.testing.assert_close(MIXTURE.mean, sum(w * law.mean for w, law in zip(weights, laws, strict=True)))


def test_quantiles_of_a_mixture_invert_its_distribution_function():
    x = MIXTURE.icdf(LEVELS)
    assert (MIXTURE.cdf(x) >= LEVELS).all()
    assert (MIXTURE.cdf(x - 1e-6 * (1 + x.abs())) < LEVELS).all()


def test_quantiles_of_a_mixture_of_float32_are_exact_to_float32():
    single = Mixture(torch.tensor([[0.0, 0.0]]), [Normal(torch.zeros(1), 1e-3), Normal(torch.zeros(1), torch.ones(1))])
    x = single.icdf(torch.tensor(0.5))
    assert x.dtype == torch.float32
    assert abs(x.item()) < 1e-9


def test_components_of_a_mixture_are_sampled_at_their_own_parameters():
    torch.manual_seed(0)
    loc = torch.tensor([[10.0, 20.0, 30.0], [40.0, 50.0, 60.0]])
    components = [Normal(loc, 1e-3), Normal(-loc, 1e-3)]
    samples = Mixture(torch.tensor([[[0.0, -40.0]] * 3, [[-40.0, 0.0]] * 3]), components).sample((4,))
    expected = torch.stack([loc[0], -loc[1]])
    torch.testing.assert_close(samples, expected.expand(4, 2, 3), rtol=0, atol=0.01)  # ten standard deviations


def test_a_value_that_a_component_excludes_leaves_the_gradient_finite():
    logits = torch.zeros(1, 2, requires_grad=True)
    loc = torch.zeros(1, requires_grad=True)
    mixture = Mixture(
        logits, [StudentT(torch.full((1,), 3.0), torch.zeros(1), torch.ones(1)), LogNormal(loc, torch.ones(1))]
    )
    gradients = torch.autograd.grad(mixture.log_prob(torch.tensor([-1.0])).sum(), [logits, loc])
    torch.testing.assert_close(gradients[0], torch.tensor([[0.5, -0.5]]))
    assert gradients[1].item() == 0


def test_a_mixture_needs_one_logit_for_each_component():
    with pytest.raises(ValueError, match="for each of 1 components"):
        Mixture(torch.zeros(3, 2), [Normal(torch.zeros(3), torch.ones(3))])


def test_a_law_can_be_moved_and_stretched():
    law, loc, scale = LAWS["student"][0], tensor(3.0), tensor(2.0)
    moved, reference = AffineTransformed(law, loc, scale), scipy.stats.t(2.5, 2 * 1.0 + 3, 2 * 0.5)
    x = torch.linspace(-3, 9, 13, dtype=torch.float64)
    torch.testing.assert_close(moved.log_prob(x), torch.from_numpy(reference.logpdf(x)))
    torch.testing.assert_close(moved.cdf(x), torch.from_numpy(reference.cdf(x)))
    torch.testing.assert_close(moved.icdf(LEVELS), torch.from_numpy(reference.ppf(LEVELS)))
    torch.testing.assert_close(moved.mean, tensor(reference.mean()))
    torch.manual_seed(0)
    samples = moved.sample((5,))
    torch.manual_seed(0)
    torch.testing.assert_close(samples, loc + scale * law.sample((5,)))


def test_quantile_knots_are_a_law_through_its_quantiles():
    levels = tensor(0.2, 0.5, 0.7)
    law = QuantileKnots(tensor([3.0, -1.0, 0.0]), levels)  # crossing quantiles are sorted
    torch.testing.assert_close(law.icdf(levels), tensor(-1.0, 0.0, 3.0))
    torch.testing.assert_close(law.cdf(tensor(-1.0, 0.0, 3.0)), levels)
    torch.testing.assert_close(law.cdf(law.icdf(LEVELS)), LEVELS)
    density = lambda x: law.log_prob(torch.tensor([x], dtype=torch.float64)).exp().item()  # noqa: E731
    pieces = [(-np.inf, -1), (-1, 0), (0, 3), (3, np.inf)]
    assert sum(scipy.integrate.quad(density, *piece)[0] for piece in pieces) == pytest.approx(1, abs=1e-6)
    mean = sum(scipy.integrate.quad(lambda x: x * density(x), *piece)[0] for piece in pieces)
    assert law.mean.item() == pytest.approx(mean, abs=1e-6)


def test_equal_quantiles_give_a_finite_density():
    law = QuantileKnots(torch.zeros(1, 3), torch.tensor([0.1, 0.5, 0.9]))
    assert law.log_prob(torch.tensor([0.0])).isfinite().all()
    assert law.icdf(torch.tensor([0.3])).item() == pytest.approx(0, abs=1e-6)
