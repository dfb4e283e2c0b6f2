"""PackedSTU against one series at a time: outputs, gradients, and what may not pass a segment's edge."""

import pytest
import torch
from torch import Tensor

from tsfm_lab.bench.stu_loop import mix_by_source_loop
from tsfm_lab.nn.packed_conv import convolve_segments
from tsfm_lab.nn.packed_stu import PackedSTU, STUCore
from tsfm_lab.nn.packing import plan_segments
from tsfm_lab.spectral import get_spectral_filters

D, SEQ_LEN, K = 6, 96, 8
FORMS = [
    pytest.param({"use_approx": name != "full", "branches": branches, "causal": causal}, id=f"{name}-{direction}")
    for name, branches in (("shared", "shared"), ("separate", "separate"), ("full", "shared"))
    for direction, causal in (("causal", True), ("two_sided", False))
]
# lengths on both sides of the Toeplitz bound (32) and of the buckets' lengths, single tokens, padding at the end
LENGTHS = [[40, 1, 17, 70, 2], [96, 33, 5, 3]]


def packed_ids(lengths: list[list[int]] = LENGTHS) -> tuple[Tensor, Tensor]:
    """sample_id, variate_id (b t): segments of these lengths, two to a sample, padded to the longest row plus four."""
    t = max(map(sum, lengths)) + 4
    sample_id, variate_id = torch.zeros(2, len(lengths), t, dtype=torch.long)
    for row, segments in enumerate(lengths):
        end = 0
        for number, length in enumerate(segments):
            start, end = end, end + length
            sample_id[row, start:end] = 1 + number // 2
            variate_id[row, start:end] = number % 2
    return sample_id, variate_id


def make_stu(dtype: torch.dtype = torch.float64, cls: type = PackedSTU, size=(D, SEQ_LEN, K), **form) -> STUCore:
    """The same weights in any dtype, with filters to float64 precision."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    try:
        return cls(*size, **form).to(dtype)
    finally:
        torch.set_default_dtype(torch.float32)


def lag_matrices(stu: STUCore, branches: str, direction: str) -> Tensor:
    """W_l (l d_in d_out), the matrix by which lag l acts, from the definition: Σ_k φ_{l,k} (M_k⁺ + (−1)^l M_k⁻)."""
    phi = get_spectral_filters(SEQ_LEN, K, dtype=torch.float64)
    sign = (-1.0) ** torch.arange(SEQ_LEN, dtype=torch.float64)[:, None, None]
    if not stu.use_approx:
        plus, minus = getattr(stu, f"M_phi_plus{direction}"), getattr(stu, f"M_phi_minus{direction}")
    else:
        rows = getattr(stu, f"M_filters{direction}")
        plus, minus = (rows, rows) if branches == "shared" else (rows[:K], rows[K:])
        plus, minus = (stu.M_inputs * m[:, None, :] for m in (plus, minus))
    return torch.einsum("lk,kio->lio", phi, plus) + sign * torch.einsum("lk,kio->lio", phi, minus)


def one_series_at_a_time(stu: STUCore, x: Tensor, runs: list[list[int]], branches: str) -> Tensor:
    """The definition, y_t = Σ_l x_{t−l} W_l (+ Σ_l x_{t+l} W'_l), summed over all pairs of tokens of each run."""
    W = lag_matrices(stu, branches, "")
    tokens, y = x.flatten(0, 1), x.new_zeros(x.shape).flatten(0, 1)
    for run in runs:
        lag = torch.arange(len(run))[:, None] - torch.arange(len(run))
        weights = W[lag.clamp(min=0)] * (lag >= 0)[..., None, None]
        if not stu.causal:
            W_future = lag_matrices(stu, branches, "_future")
            weights = weights + W_future[(-lag).clamp(min=0)] * (lag <= 0)[..., None, None]
        y = y.index_copy(0, torch.tensor(run), torch.einsum("tsio,si->to", weights, tokens[run]))
    return y.view(x.shape)


def runs_of(sample_id: Tensor, variate_id: Tensor) -> list[list[int]]:
    runs: dict[tuple, list[int]] = {}
    for row in range(sample_id.shape[0]):
        for t in range(sample_id.shape[1]):
            key = (row, sample_id[row, t].item(), variate_id[row, t].item())
            if key[1]:
                runs.setdefault(key, []).append(row * sample_id.shape[1] + t)
    return list(runs.values())


def value_and_gradients(stu: STUCore, compute, x: Tensor) -> list[Tensor]:
    """y and the gradients of a weighted sum of y to x and to every parameter."""
    x = x.detach().requires_grad_()
    y = compute(x)
    weight = torch.randn(y.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return [y, *torch.autograd.grad((y * weight.to(y.dtype)).sum(), [x, *stu.parameters()])]


def relative_error(a: Tensor, b: Tensor) -> float:
    return ((a - b).abs().max() / b.abs().max()).item()


@pytest.mark.parametrize("form", FORMS)
def test_packed_equals_one_series_at_a_time_in_outputs_and_gradients(form):
    sample_id, variate_id = packed_ids()
    plan, runs = plan_segments(sample_id, variate_id), runs_of(sample_id, variate_id)
    x = torch.randn(*sample_id.shape, D, dtype=torch.float64)
    stu = make_stu(**form)
    expected = value_and_gradients(stu, lambda x: one_series_at_a_time(stu, x, runs, form["branches"]), x)

    for got, want in zip(value_and_gradients(stu, lambda x: stu(x, plan), x), expected, strict=True):
        assert relative_error(got, want) < 1e-12  # float64 rounding of sums of 100 terms

    single = make_stu(torch.float32, **form)
    for got, want in zip(value_and_gradients(single, lambda x: single(x, plan), x.float()), expected, strict=True):
        assert relative_error(got.double(), want) < 1e-5  # float32 rounding; the contract's bound


@pytest.mark.parametrize("coarse", [False, True])
@pytest.mark.parametrize("toeplitz_max", [0, 1024])
def test_fft_toeplitz_and_both_bucket_plans_compute_the_same(monkeypatch, toeplitz_max, coarse):
    monkeypatch.setattr("tsfm_lab.nn.packed_conv.TOEPLITZ_MAX", toeplitz_max)
    ids = packed_ids()
    x = torch.randn(*ids[0].shape, D, dtype=torch.float64)
    stu = make_stu(causal=False, branches="separate")
    expected = value_and_gradients(stu, lambda x: one_series_at_a_time(stu, x, runs_of(*ids), "separate"), x)
    plan = plan_segments(*ids, coarse=coarse)
    for got, want in zip(value_and_gradients(stu, lambda x: stu(x, plan), x), expected, strict=True):
        assert relative_error(got, want) < 1e-12


def test_by_sample_packed_equals_the_sources_loop_in_outputs_and_gradients():
    sample_id, _ = packed_ids([[40, 0, 17, 0, 30], [96, 0, 5]])
    plan = plan_segments(sample_id, segment_by="sample")
    stu = make_stu()
    x = torch.randn(*sample_id.shape, D, dtype=torch.float64)
    expected = value_and_gradients(stu, lambda x: mix_by_source_loop(stu, x, sample_id), x)
    for got, want in zip(value_and_gradients(stu, lambda x: stu(x, plan), x), expected, strict=True):
        assert relative_error(got, want) < 1e-12


@pytest.mark.parametrize("form", FORMS)
def test_gradcheck_in_float64(form):
    sample_id, variate_id = packed_ids([[3, 2], [4]])
    plan = plan_segments(sample_id, variate_id)
    stu = make_stu(size=(2, 5, 2), **form)
    names, values = zip(*stu.named_parameters(), strict=True)

    def compute(x: Tensor, *parameters: Tensor) -> Tensor:
        return torch.func.functional_call(stu, dict(zip(names, parameters, strict=True)), (x, plan))

    x = torch.randn(*sample_id.shape, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(compute, (x, *values))


@pytest.mark.parametrize("num_future", [0, 39])
def test_gradcheck_of_the_fft_path(num_future):
    plan = plan_segments(torch.tensor([[1] * 40 + [2] * 3]), segment_by="sample")
    u = torch.randn(2, 43, dtype=torch.float64, requires_grad=True)
    taps = torch.randn(2, 40 + num_future, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda u, taps: convolve_segments(u, taps, plan, num_future), (u, taps))


@pytest.mark.parametrize("form", FORMS)
def test_the_jacobian_across_segments_is_exactly_zero_and_padding_has_none(form):
    sample_id, variate_id = packed_ids([[40, 3, 2]])
    plan = plan_segments(sample_id, variate_id)
    stu = make_stu(torch.float32, **form)
    x = torch.randn(*sample_id.shape, D, requires_grad=True)
    y = stu(x, plan)
    for run in runs_of(sample_id, variate_id):
        (grad,) = torch.autograd.grad(y.flatten(0, 1)[run].square().sum(), x, retain_graph=True)
        outside = torch.ones(x.shape[1], dtype=torch.bool)
        outside[run] = False
        assert grad[0, run].abs().min() > 0
        assert (grad[0, outside] == 0).all()
    assert (y[sample_id == 0] == 0).all()


@pytest.mark.parametrize("form", FORMS)
def test_a_batch_of_padding_alone_gives_zeros_and_zero_gradients(form):
    plan = plan_segments(torch.zeros(2, 5, dtype=torch.long), segment_by="sample")
    stu = make_stu(**form)
    y, *gradients = value_and_gradients(stu, lambda x: stu(x, plan), torch.randn(2, 5, D, dtype=torch.float64))
    assert all((value == 0).all() for value in (y, *gradients))


@pytest.mark.parametrize("form", FORMS)
def test_a_segment_that_is_not_finite_spoils_no_other(form):
    sample_id, variate_id = packed_ids([[40, 3, 2]])
    plan = plan_segments(sample_id, variate_id)
    x = torch.randn(*sample_id.shape, D, dtype=torch.float64, requires_grad=True)
    spoilt = x.detach().clone()
    spoilt[0, 0] = torch.nan
    stu = make_stu(**form)
    assert torch.equal(stu(spoilt, plan)[0, 40:], stu(x, plan)[0, 40:])


@pytest.mark.parametrize("form", FORMS)
def test_a_segment_gives_the_same_alone_packed_and_at_another_place(form):
    lengths = [[40, 17, 70], [33, 5, 96]]
    sample_id, variate_id = packed_ids(lengths)
    x = torch.randn(*sample_id.shape, D, dtype=torch.float64)
    stu = make_stu(**form)
    core = make_stu(cls=STUCore, **form)
    packed = stu(x, plan_segments(sample_id, variate_id))
    pieces = [row.split([*r, len(row) - sum(r)])[:-1] for row, r in zip(x, lengths, strict=True)]
    parts = [row.split([*r, len(row) - sum(r)])[:-1] for row, r in zip(packed, lengths, strict=True)]

    permuted = torch.cat([*reversed(pieces[1]), *pieces[0]])[None]
    permuted_plan = plan_segments(*packed_ids([[*reversed(lengths[1]), *lengths[0]]]))
    moved = stu(torch.cat([permuted, x.new_zeros(1, 4, D)], dim=1), permuted_plan)[0, :-4]
    # float64 rounding: the order of the sums may differ with the bucket
    torch.testing.assert_close(moved, torch.cat([*reversed(parts[1]), *parts[0]]), rtol=0, atol=1e-13)
    for piece, part in zip(pieces[0] + pieces[1], parts[0] + parts[1], strict=True):
        torch.testing.assert_close(core(piece), part, rtol=0, atol=1e-13)


@pytest.mark.parametrize("form", [form for form in FORMS if form.values[0]["causal"]])
def test_causal_output_does_not_depend_on_later_tokens(form):
    core = make_stu(cls=STUCore, **form)
    x = torch.randn(1, 50, D, dtype=torch.float64)
    changed = x.clone()
    changed[:, 20:] += 1.0
    difference = (core(x) - core(changed)).abs().amax(dim=(0, 2))
    assert difference[:20].max() < 1e-14  # rounding of the transforms
    assert difference[20:].min() > 1e-3


@pytest.mark.parametrize("form", [form for form in FORMS if not form.values[0]["causal"]])
def test_two_sided_output_depends_on_tokens_of_both_sides(form):
    core = make_stu(cls=STUCore, **form)
    x = torch.randn(1, 50, D, dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(core(x)[0, 24].sum(), x)
    strength = grad[0].abs().amax(dim=1)
    assert strength[[22, 26]].min() > 1e-3  # two away: even lags are there in every form


def test_with_shared_branches_an_impulse_never_reaches_an_odd_lag():
    core = make_stu(cls=STUCore, branches="shared")
    impulse = torch.zeros(1, SEQ_LEN, D, dtype=torch.float64)
    impulse[0, 0] = 1.0
    strength = core(impulse)[0].abs().amax(dim=1)
    assert strength[1::2].max() < 1e-15  # zero but for the rounding of the transforms
    assert strength[0:20:2].min() > 1e-3


def test_with_separate_branches_an_impulse_reaches_odd_lags():
    core = make_stu(cls=STUCore, branches="separate")
    impulse = torch.zeros(1, SEQ_LEN, D, dtype=torch.float64)
    impulse[0, 0] = 1.0
    assert core(impulse)[0].abs().amax(dim=1)[:20].min() > 1e-3


def test_the_approximation_is_the_full_form_with_factorised_matrices():
    approximate, full = make_stu(cls=STUCore, branches="separate"), make_stu(cls=STUCore, use_approx=False)
    with torch.no_grad():
        matrices = approximate.M_inputs * approximate.M_filters[:, None, :]
        full.M_phi_plus.copy_(matrices[:K])
        full.M_phi_minus.copy_(matrices[K:])
    x = torch.randn(2, 50, D, dtype=torch.float64)
    torch.testing.assert_close(approximate(x), full(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("form", "count"),
    [
        ({}, 156_672),
        ({"branches": "separate"}, 156_672 + 9_216),
        ({"causal": False}, 156_672 + 9_216),
        ({"use_approx": False}, 7_077_888),
    ],
)
def test_parameter_counts_at_width_384(form, count):
    core = STUCore(384, 32, 24, **form)
    assert sum(p.numel() for p in core.parameters()) == count


@pytest.mark.parametrize("form", FORMS)
def test_a_sequence_without_batch_axis_gives_one_back(form):
    core = make_stu(cls=STUCore, **form)
    x = torch.randn(30, D, dtype=torch.float64)
    torch.testing.assert_close(core(x), core(x[None])[0])


def test_half_precision_input_is_convolved_in_float32():
    sample_id, variate_id = packed_ids()
    plan = plan_segments(sample_id, variate_id)
    stu = make_stu(torch.float32)
    x = torch.randn(*sample_id.shape, D)
    with torch.autocast("cpu", torch.bfloat16):
        y = stu(x, plan)
    assert y.dtype == torch.bfloat16
    assert relative_error(y.float(), stu(x, plan)) < 0.02  # bfloat16 has 8 bits: the projection rounds to 1/256


@pytest.mark.parametrize("form", FORMS)
def test_a_longer_sequence_than_the_filters_raises_with_the_remedy(form):
    core = make_stu(cls=STUCore, **form)
    with pytest.raises(
        ValueError, match=f"a segment has {SEQ_LEN + 1} tokens, the filters {SEQ_LEN}: use a larger patch"
    ):
        core(torch.randn(1, SEQ_LEN + 1, D, dtype=torch.float64))


@pytest.mark.parametrize(
    ("shape", "message"),
    [((2, 9, D), r"plan is for \(b t\) = \(2, 10\), got \(2, 9\)"), ((2, 10, D + 1), rf"\(b t d\) with d={D}, got")],
)
def test_input_that_does_not_fit_the_plan_raises(shape, message):
    plan = plan_segments(torch.ones(2, 10, dtype=torch.long), segment_by="sample")
    with pytest.raises(ValueError, match=message):
        make_stu()(torch.randn(shape, dtype=torch.float64), plan)


def test_unknown_branches_raise():
    with pytest.raises(ValueError, match="branches must be one of shared, separate, got 'both'"):
        PackedSTU(D, SEQ_LEN, K, branches="both")


@pytest.mark.parametrize("form", [form for form in FORMS if form.values[0]["causal"]])
def test_decoding_token_by_token_after_a_prefill_equals_the_whole_sequence(form):
    core = make_stu(cls=STUCore, **form)
    x = torch.randn(2, 60, D, dtype=torch.float64)
    y, state = core.prefill(x[:, :40])
    outputs = [y]
    for t in range(40, 60):
        y_t, state = core.step(x[:, t], state)
        outputs.append(y_t[:, None])
    # 1e-6: the bank's diagonal system is fitted to 1e-8 of each filter's norm
    assert relative_error(torch.cat(outputs, dim=1), core(x)) < 1e-6


def test_decoding_a_two_sided_layer_raises():
    core = make_stu(cls=STUCore, causal=False)
    with pytest.raises(ValueError, match="needs the whole sequence: decode token by token with causal=True"):
        core.step(torch.zeros(1, D, dtype=torch.float64))
