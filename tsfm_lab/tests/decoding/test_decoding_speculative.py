"""The decoder's bookkeeping: against a loop over samples without caches, and what it refuses."""

from math import inf

import pytest
import torch

from tsfm_lab.decoding.autoregressive import roll_out
from tsfm_lab.decoding.context import freeze, thaw
from tsfm_lab.decoding.costs import Costs
from tsfm_lab.decoding.speculation import Speculation
from tsfm_lab.decoding.speculative import SpeculativeDecoder
from tsfm_lab.decoding.tracing import Trace
from tsfm_lab.models.patch_forecaster import Statistics
from tsfm_lab.models.timer_xl import TimerXL
from tsfm_lab.tests.decoding.tiny_timer import KINDS, TOKENS, P, make_context, make_draft, make_target

STEPS = 7
UNIT = Statistics(torch.zeros(1, 1, 1), torch.ones(1, 1, 1))


def next_mean(model, tokens):
    """The mean of the patch after `tokens`: (n p)."""
    return model.law(tokens.flatten()[None, :, None], UNIT).mean[0, -P:, 0]


def decode_slowly(target, draft, context, k, tolerance):
    """Tolerance mode, one sample at a time, a whole pass for every law; returns (forecast, kept, judged)."""
    tokens, statistics = freeze(target, context)
    rows, kept, judged = [], 0, 0
    for read in tokens:
        forecast = []
        while len(forecast) < STEPS:
            drafts = []
            for _ in range(min(k, STEPS - len(forecast) - 1)):
                drafts.append(next_mean(draft, torch.cat([read, *(d[None] for d in drafts)])))
            stood = 0
            for drafted in drafts:
                mean = next_mean(target, read)
                judged += 1
                if (drafted - mean).square().mean() > tolerance:
                    break
                forecast.append(mean)
                read = torch.cat([read, drafted[None]])
                stood += 1
            kept += stood
            forecast.append(next_mean(target, read))
            read = torch.cat([read, forecast[-1][None]])
        rows.append(torch.stack(forecast))
    return thaw(torch.stack(rows), statistics), kept, judged


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "feature"])
@pytest.mark.parametrize(("k", "tolerance"), [(1, 0.3), (3, 0.3), (3, 0.05), (6, 1.0)])
@torch.no_grad()
def test_ragged_acceptance_equals_a_loop_over_samples(kind, k, tolerance):
    target = make_target()
    draft, context, trace = make_draft(kind, target), make_context(4), Trace()
    how = Speculation("tolerance", k=k, tolerance=tolerance)
    found = SpeculativeDecoder(target, draft, how).generate(context, STEPS * P, trace=trace)
    expected, kept, judged = decode_slowly(target, draft, context, k, tolerance)
    # float32 over seven tokens, sums in another order
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert trace.tokens == 4 * STEPS
    if k <= 3:  # the slow loop knows each row's own remainder, the batch drafts for its longest
        assert sum(trace.kept.values()) >= kept
        assert sum(trace.judged.values()) >= judged


@pytest.mark.parametrize("kind", KINDS)
def test_without_tolerance_the_forecast_is_the_cached_roll_out(kind):
    target, context = make_target(), make_context(4)
    found = SpeculativeDecoder(target, make_draft(kind, target), Speculation("tolerance", tolerance=0.0))
    # float32, passes of several tokens in the place of one
    torch.testing.assert_close(
        found.generate(context, STEPS * P), roll_out(target, context, STEPS * P), rtol=1e-4, atol=1e-4
    )


@torch.no_grad()
def test_a_sweep_is_the_targets_means_behind_the_drafts_roll_out():
    target, context = make_target(), make_context(2)
    draft = make_draft("early_exit", target)
    found = SpeculativeDecoder(target, draft, Speculation("sweep")).generate(context, STEPS * P)
    tokens, statistics = freeze(target, context)
    drafted = freeze(target, context)[0]
    for _ in range(STEPS - 1):
        new = torch.stack([next_mean(draft, row) for row in drafted])
        drafted = torch.cat([drafted, new[:, None]], dim=1)
    means = target.token_law(target.encode_tokens(drafted)).mean[:, tokens.shape[1] - 1 :]
    torch.testing.assert_close(found, thaw(means, statistics), rtol=1e-4, atol=1e-4)  # float32


@torch.no_grad()
def test_what_the_target_reads_is_within_the_tolerance_of_what_it_says():
    target, context = make_target(), make_context(4)
    decoder = SpeculativeDecoder(target, make_draft("linear", target), Speculation("tolerance", k=4, tolerance=0.6))
    reads, rule = [], decoder.rule

    def watching(p, drafted, generator):
        verdict = rule(p, drafted, generator)
        reads.extend((verdict.read[row, : n + 1] - p.mean[row, : n + 1]) for row, n in enumerate(verdict.kept))
        return verdict

    decoder.rule = watching
    decoder.generate(context, STEPS * P)
    deviations = torch.cat(reads).square().mean(dim=-1)
    assert deviations.max() <= 0.6
    assert deviations.max() > 0  # some drafted tokens did stand


def test_equal_seeds_have_equal_draws():
    target, context = make_target(), make_context()
    decoder = SpeculativeDecoder(target, make_draft("linear", target), Speculation(k=2))
    draws = [decoder.generate(context, 3 * P, generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_finished_rows_leave_the_batch():
    target, context = make_target(), make_context(6)
    decoder = SpeculativeDecoder(
        target, make_draft("early_exit", target), Speculation("tolerance", k=2, tolerance=0.02)
    )
    sizes, rule = [], decoder.rule

    def watching(p, drafted, generator):
        sizes.append(len(p.mean))
        return rule(p, drafted, generator)

    decoder.rule = watching
    decoder.generate(context, STEPS * P)
    assert sizes[0] == 6
    assert sizes[-1] < 6
    assert sizes == sorted(sizes, reverse=True)


def test_what_lies_past_the_horizon_is_not_counted():
    target, context, trace = make_target(), make_context(2), Trace()
    all_stand = Speculation("tolerance", k=3, tolerance=inf)
    SpeculativeDecoder(target, make_draft("linear", target), all_stand).generate(context, 6 * P, trace=trace)
    assert (trace.tokens, trace.rounds) == (12, 2)  # 4 tokens a row, then the 2 that are left: 1 drafted, 1 behind it
    assert sum(trace.kept.values()) == sum(trace.judged.values()) == 2 * (3 + 1)


def test_an_adaptive_k_grows_where_drafts_stand_and_cost_little():
    target, context = make_target(), make_context(2)
    costs = Costs(draft=0.01, verify=(1.0,) * 6)

    def rounds(tolerance):
        trace, how = Trace(), Speculation("tolerance", k=5, adaptive=True, tolerance=tolerance)
        decoder = SpeculativeDecoder(target, make_draft("linear", target), how, costs=costs)
        decoder.generate(context, 24 * P, trace=trace)
        return trace.rounds

    assert rounds(inf) == 4  # of 5 drafted tokens and 1
    assert rounds(0.0) == 24


def test_an_adaptive_k_shrinks_where_drafts_fall_and_cost_much():
    target, context, trace = make_target(), make_context(2), Trace()
    costs = Costs(draft=1.0, verify=(1.0, 1.5, 2.0, 2.5, 3.0, 3.5))
    how = Speculation("tolerance", k=5, adaptive=True, tolerance=0.0)
    SpeculativeDecoder(target, make_draft("linear", target), how, costs=costs).generate(context, 24 * P, trace=trace)
    assert max(trace.judged) == 0  # one drafted token a round


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k must be at least 1 drafted token, got 0"),
        ({"sigma": 0.0}, "sigma must be positive, got 0.0"),
        ({"sigma": -1.0}, "sigma must be positive, got -1.0"),
        ({"bias": 0.5}, "bias must be at least 1, got 0.5"),
        ({"bias": 2.0}, "bias must be 1 in exact mode, got 2.0"),
        ({"sigma_mode": "adaptiv"}, "sigma_mode must be fixed or adaptive, got 'adaptiv'"),
        ({"sigma_mode": "adaptive"}, "'adaptive' is a part of mode='stride'"),
        ({"mode": "stride", "sigma_adapt_c": 0.0}, "sigma_adapt_c must be positive, got 0.0"),
        ({"tolerance": 0.1}, "tolerance must be None in exact mode, got 0.1"),
        ({"mode": "sweep", "sigma": 0.3}, "sweep mode is made of means"),
        ({"mode": "greedy"}, "mode must be one of exact, tolerance, sweep, stride, got 'greedy'"),
        ({"mode": "tolerance"}, "mode='tolerance' needs a tolerance"),
        ({"mode": "tolerance", "tolerance": -1.0}, "tolerance must not be negative, got -1.0"),
        ({"mode": "stride", "block": True}, "block=True needs mode='exact'"),
        ({"block": True, "own_variance": True}, "block=True needs mode='exact' and a shared sigma"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Speculation(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_token_len": 8, "output_token_len": 8}, "the same output_token_len, got 8 and 4"),
        ({"input_token_len": 8}, "the same input_token_len, got 8 and 4"),
        ({"use_norm": False}, "the same use_norm, got False and True"),
    ],
)
def test_a_draft_of_another_token_length_or_normalisation_is_refused(options, message):
    draft = TimerXL(**{**TOKENS, "d_model": 16, "n_heads": 2, "d_ff": 16, "e_layers": 1, **options})
    with pytest.raises(ValueError, match=message):
        SpeculativeDecoder(make_target(), draft, Speculation())


def test_drawing_without_a_law_is_refused():
    target = make_target(sigma=None)
    with pytest.raises(ValueError, match="exact mode draws, and the target has no sigma to share"):
        SpeculativeDecoder(target, make_draft("linear", target), Speculation())
    decoder = SpeculativeDecoder(make_target(), make_draft("linear", target), Speculation(own_variance=True))
    with pytest.raises(ValueError, match="own_variance=True needs a draft with a variance"):
        decoder.generate(make_context(), 2 * P)


def test_an_adaptive_k_without_costs_is_refused():
    target = make_target()
    with pytest.raises(ValueError, match="an adaptive k needs measured costs"):
        SpeculativeDecoder(target, make_draft("linear", target), Speculation(adaptive=True))


@pytest.mark.parametrize("horizon", [0, P - 1, P + 1])
def test_a_horizon_that_is_no_multiple_of_the_token_is_refused(horizon):
    target = make_target()
    decoder = SpeculativeDecoder(target, make_draft("linear", target), Speculation())
    with pytest.raises(ValueError, match=f"positive multiple of the token of {P} steps, got {horizon}"):
        decoder.generate(make_context(), horizon)


def test_drawing_from_a_law_that_the_target_has_not_says_so():
    target, draft = make_target(), make_draft("timer_xl_draft", make_target())
    decoder = SpeculativeDecoder(target, draft, Speculation(own_variance=True))
    with pytest.raises(ValueError, match="own_variance=True"):
        decoder.generate(make_context(), 4 * P)
