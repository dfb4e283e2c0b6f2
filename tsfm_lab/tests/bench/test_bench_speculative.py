"""The speculative bench: its bars, its models' windows and the peer's place. No test measures a time."""

import pytest

from tsfm_lab.bench.speculative import DRAFT, MODES, SPEED_BARS, check_bars, main
from tsfm_lab.bench.speculative_models import BENCH_CONFIG, CONTEXT, DRAFTS, HORIZON
from tsfm_lab.bench.speculative_peer import make_stride_decode
from tsfm_lab.training.timer_stages import make_draft, make_target


def test_a_target_learns_on_its_context_and_what_it_will_read_behind_it():
    assert BENCH_CONFIG.norm_prefix_len == CONTEXT
    assert BENCH_CONFIG.seq_len == CONTEXT + HORIZON - BENCH_CONFIG.output_token_len
    assert (BENCH_CONFIG.d_model, BENCH_CONFIG.e_layers, BENCH_CONFIG.data) == (256, 8, "ETTh1")


def test_every_mode_has_a_trained_draft():
    assert {kind for kind, _ in MODES.values()} <= set(DRAFTS)
    assert DRAFT in DRAFTS
    assert {how.mode for _, how in MODES.values()} == {"exact", "tolerance", "sweep", "stride"}


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
    assert "known: accuracy, modes, drafts, exact" in capsys.readouterr().err
