"""The speculative bench: its bars, its models' windows and the peer's place. No test measures a time."""

import pytest
import torch

from tsfm_lab.bench.speculative import CANDIDATES, DRAFT, SPEED_BARS, STRIDE, Bench, check_bars, main
from tsfm_lab.bench.speculative_law import gaussian_crps, sum_sigma
from tsfm_lab.bench.speculative_models import BENCH_CONFIG, CONTEXT, DRAFTS, HORIZON, PUBLISHED
from tsfm_lab.bench.speculative_peer import make_stride_decode
from tsfm_lab.nn.noise_scale import PatchScale, StepScale
from tsfm_lab.training.timer_stages import make_draft, make_target


def test_a_target_learns_on_its_context_and_what_it_will_read_behind_it():
    assert BENCH_CONFIG.norm_prefix_len == CONTEXT
    assert BENCH_CONFIG.seq_len == CONTEXT + HORIZON - BENCH_CONFIG.output_token_len
    assert (BENCH_CONFIG.d_model, BENCH_CONFIG.e_layers, BENCH_CONFIG.data) == (256, 8, "ETTh1")


MODES = ("sweep", "tolerance", "exact", "exact, block", "sweep, timer_xl_draft", "stride")


def with_choice(rows):
    bench = object.__new__(Bench)
    bench.chosen = rows
    return bench


def test_what_was_chosen_on_validation_stands_for_its_mode():
    rows = [
        {"mode": mode, "draft": draft, "of": of, "chosen": of == 0 and draft == "linear"}
        for mode, settings in CANDIDATES.items()
        for draft in ("linear", "stu")
        for of in range(len(settings))
    ]
    modes = with_choice(rows).modes
    assert set(modes) == set(MODES)
    assert modes["exact"] == ("linear", CANDIDATES["exact"][0])
    assert modes["exact, block"][1].block
    assert DRAFT in DRAFTS
    assert STRIDE[0] == PUBLISHED not in DRAFTS


def test_modes_without_a_choice_are_refused():
    with pytest.raises(ValueError, match="measure the item choice first"):
        _ = with_choice([]).modes


def test_the_crps_of_a_gaussian_is_its_integral():
    error, sigma = torch.tensor([0.7, -2.0]).double(), torch.tensor(1.3).double()
    t = torch.linspace(-20, 20, 400_001, dtype=torch.float64)
    for e, found in zip(error, gaussian_crps(error, sigma), strict=True):
        integral = torch.trapezoid((torch.special.ndtr(t / sigma) - (t >= e).double()).square(), t)
        assert found.item() == pytest.approx(integral.item(), abs=2e-4)  # steps of 1e-4


def test_a_sum_varies_by_all_entries_of_the_covariance():
    factor = torch.linalg.cholesky(torch.tensor([[2.0, 0.9], [0.9, 1.0]]))
    assert sum_sigma(PatchScale(factor)).item() == pytest.approx(4.8**0.5)
    assert sum_sigma(StepScale(torch.tensor([3.0, 4.0]))).item() == pytest.approx(5.0)


def test_speeds_are_held_to_both_baselines_at_batch_one():
    names = {**dict.fromkeys(MODES, (9.0, 9.0)), "exact": (2.1, 0.8), "sweep": (6.0, 1.5)}
    rows = [
        {"batch": 1, "decoder": name, "speedup_slide": slide, "speedup_cached": cached, "seconds": 1.0}
        for name, (slide, cached) in names.items()
    ]
    rows += [{**row, "batch": 8, "speedup_slide": 0.0, "speedup_cached": 0.0} for row in rows]
    held = {bar["of"]: bar["holds"] for bar in check_bars("modes", rows)}
    assert held == {
        "sweep/slide": True,
        "sweep/cached": False,
        "tolerance/slide": True,
        "tolerance/cached": True,
        "exact/slide": False,
    }
    assert set(SPEED_BARS) == {"sweep", "tolerance", "exact"}


def test_every_mode_is_held_to_the_peer_where_it_was_measured():
    rows = [
        {"batch": 1, "decoder": name, "speedup_slide": 9.0, "speedup_cached": 9.0, "seconds": seconds}
        for name, seconds in {**dict.fromkeys(MODES, 1.0), "exact": 3.0, "peer": 2.0}.items()
    ]
    held = {bar["of"]: bar["holds"] for bar in check_bars("modes", rows) if bar["of"].endswith("/peer")}
    assert held == {f"{name}/peer": name != "exact" for name in MODES}


def test_errors_are_held_to_the_roll_outs():
    mse = {"slide": 1.0, "grow": 1.0, "cached": 1.03, "sweep": 1.02, "tolerance": 1.1}
    bars = check_bars("accuracy", [{"decoder": name, "mse": value} for name, value in mse.items()])
    assert [(bar["of"], bar["holds"]) for bar in bars] == [
        ("MSE of cached/slide", True),
        ("MSE of sweep/cached", True),
        ("MSE of tolerance/cached", False),
    ]


def test_a_folder_without_the_peer_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"holds no utils/speculative_decoder.py"):
        make_stride_decode(tmp_path, make_target(BENCH_CONFIG), make_draft(BENCH_CONFIG), HORIZON)


def test_an_unknown_item_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["energy"])
    assert "known: choice, law, accuracy, modes, drafts, exact" in capsys.readouterr().err


def test_an_unknown_draft_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["exact", "--drafts", "oracle"])
    assert "timer_xl_draft" in capsys.readouterr().err
