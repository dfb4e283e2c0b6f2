"""Exact mode draws from the target's own law: what is left of a draw after the target's means is white noise."""

import pytest
import torch
from scipy import stats

from tsfm_lab.decoding.context import freeze, thaw
from tsfm_lab.decoding.costs import Costs
from tsfm_lab.decoding.laws import standard_normal
from tsfm_lab.decoding.speculation import Speculation
from tsfm_lab.decoding.speculative import SpeculativeDecoder
from tsfm_lab.decoding.tracing import Trace
from tsfm_lab.nn.noise_scale import StepScale
from tsfm_lab.tests.decoding.tiny_timer import KINDS, P, make_context, make_draft, make_target

N = 8_000  # paths of one context: standard error of a mean .011 σ; a biased rule is off by .1 σ and more
STEPS = 3


@torch.no_grad()
def innovations(target, paths, context):
    """S⁻¹(y − μ_p(what came before)) of every patch, uncached: independent N(0, 1) if and only if y has p's law."""
    tokens, statistics = freeze(target, context)
    drawn = target.normalise(paths, statistics)[..., 0].unflatten(1, (-1, P))
    law = target.token_law(target.encode_tokens(torch.cat([tokens, drawn[:, :-1]], dim=1)))
    first = tokens.shape[1] - 1
    scale = target.noise_scale or StepScale(torch.exp(law.logvar[:, first:] / 2))
    return scale.whiten(drawn - law.mean[:, first:]).flatten(1).double()


def worst_score(z):
    """Largest of the means' and second moments' distances from those of white noise, in standard errors."""
    moments = z.T @ z / len(z) - torch.eye(z.shape[1])
    return max((z.mean(0) * N**0.5).abs().max(), (moments * (N / 2) ** 0.5).abs().max()).item()


def draw(decoder, generator_seed=0, trace=None):
    context = make_context(1).expand(N, -1, -1)
    generator = torch.Generator().manual_seed(generator_seed)
    return context, decoder.generate(context, STEPS * P, generator=generator, trace=trace)


HOW = {
    "tokens": {"k": 2},
    "one token": {"k": 1},
    "block": {"k": 2, "block": True},
    "adaptive": {"k": 2, "adaptive": True},
    "fixed sigma": {"k": 2, "sigma": 0.6},
}


# 90 moments of 12 values: 4.5 standard errors are passed by chance in 1 of 1,600 tests, and the seed is fixed
@pytest.mark.parametrize("correlated", [False, True])
@pytest.mark.parametrize("name", HOW)
def test_draws_have_the_targets_law(name, correlated):
    # errors that go together have short directions, in which the random draft would never stand at this σ
    target, trace = make_target(1.5 if correlated else 0.5, correlated=correlated), Trace()
    costs = Costs(draft=0.1, verify=(1.0, 1.1, 1.2))
    decoder = SpeculativeDecoder(target, make_draft("linear", target), Speculation(**HOW[name]), costs=costs)
    context, paths = draw(decoder, trace=trace)
    if name == "fixed sigma":
        target.set_sigma(torch.full((P,), 0.6))
    assert 0.1 < trace.acceptance < 0.9
    z = innovations(target, paths, context)
    assert worst_score(z) < 4.5
    assert min(stats.kstest(column, "norm").pvalue for column in z.T.numpy()) > 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_draws_have_the_targets_law_whatever_the_draft(kind):
    target = make_target()
    context, paths = draw(SpeculativeDecoder(target, make_draft(kind, target), Speculation(k=2)))
    assert worst_score(innovations(target, paths, context)) < 4.5


@pytest.mark.parametrize("sigma", [1.0, "learned"])
def test_draws_have_the_targets_law_when_the_draft_has_a_variance_of_its_own(sigma):
    target = make_target(sigma)
    draft = make_draft("timer_xl_draft", target, draft_stochastic=True)
    for model in (target, draft):  # σ about 1.2, so that some drafts stand
        if hasattr(model, "head_logvar"):
            torch.nn.init.constant_(model.head_logvar.bias, 0.4)
    trace = Trace()
    context, paths = draw(SpeculativeDecoder(target, draft, Speculation(k=2, own_variance=True)), trace=trace)
    assert 0.05 < trace.acceptance < 0.95
    assert worst_score(innovations(target, paths, context)) < 4.5


def draw_by_the_target_alone(target, seed):
    """Patch by patch with a cache, no draft: (n h)."""
    context, generator = make_context(1).expand(N, -1, -1), torch.Generator().manual_seed(seed)
    new, statistics = freeze(target, context)
    cache, drawn = target.new_cache(N, new.shape[1] + STEPS), []
    for _ in range(STEPS):
        mean = target.token_law(target.encode_tokens(new, cache)[:, -1:]).mean
        new = mean + target.noise_scale.spread(standard_normal(mean, generator))
        drawn.append(new)
    return context, thaw(torch.cat(drawn, dim=1), statistics)


@torch.no_grad()
def test_the_target_alone_passes_the_same_test():
    for seed, correlated in ((0, True), (1, True), (2, False)):
        target = make_target(1.5, correlated=correlated)
        context, paths = draw_by_the_target_alone(target, seed)
        assert worst_score(innovations(target, paths, context)) < 4.5


def test_a_law_of_independent_steps_is_not_that_of_correlated_ones():
    target, alone = make_target(1.5, correlated=True), make_target(1.5)
    context, paths = draw(SpeculativeDecoder(alone, make_draft("linear", alone), Speculation(k=2)))
    assert worst_score(innovations(target, paths, context)) > 8


def draw_from_p(rule):
    """The negative control: the same rule, but a refused token is replaced by a draw of p."""

    def judge(p, drafted, generator):
        verdict = rule(p, drafted, generator)
        fresh = p.mean + drafted.scale.spread(standard_normal(p.mean, generator))
        stands = torch.arange(p.mean.shape[1]) < verdict.kept[:, None]
        read = torch.where(stands[..., None], verdict.read, fresh)
        return verdict._replace(read=read, forecast=read)

    return judge


@pytest.mark.parametrize("correlated", [False, True])
def test_the_test_sees_rejections_drawn_from_p(correlated):
    target = make_target(1.5 if correlated else 0.5, correlated=correlated)
    decoder = SpeculativeDecoder(target, make_draft("linear", target), Speculation(k=2))
    decoder.rule = draw_from_p(decoder.rule)
    context, paths = draw(decoder)
    assert worst_score(innovations(target, paths, context)) > 8


@pytest.mark.parametrize("options", [{}, {"bias": 3.0}, {"own_variance": True}])
def test_the_published_rule_has_another_law(options):
    target = make_target()
    draft = make_draft("timer_xl_draft", target, draft_stochastic=True)
    context, paths = draw(SpeculativeDecoder(target, draft, Speculation("stride", k=2, **options)))
    assert worst_score(innovations(target, paths, context)) > 8
