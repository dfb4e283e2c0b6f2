"""The MOIRAI bench: its batches, its ratios and bars, and what memory it sees. No test measures a time."""

import platform

import pytest
import torch

from tsfm_lab.bench.moirai import ITEMS, check_bars, main
from tsfm_lab.bench.packed_rows import make_packed_batch
from tsfm_lab.bench.tables import format_rows
from tsfm_lab.bench.timing import Timing, peak_memory, time_in_turns
from tsfm_lab.models.packed_batch import validate_packed_batch
from tsfm_lab.nn.packing import plan_segments


@pytest.mark.parametrize("variates", [(1,), (1, 2, 4)])
@pytest.mark.parametrize("num_segments", [17, 39, 321])
def test_a_batch_is_valid_full_and_has_the_segments_asked_for(num_segments, variates):
    batch = make_packed_batch(num_segments, variates)
    validate_packed_batch(batch, patch_sizes=(8, 16, 32, 64, 128))
    assert batch["sample_id"].shape == (8, 512)
    assert (batch["sample_id"] > 0).all()
    assert plan_segments(batch["sample_id"], batch["variate_id"]).num_segments == num_segments


def test_a_batch_is_a_function_of_its_seed():
    first, again, other = (make_packed_batch(39, seed=seed)["target"] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_calls_are_timed_turn_by_turn_after_the_warm_up():
    order = []
    times = time_in_turns({name: lambda name=name: order.append(name) for name in "ab"}, rounds=3, warmup=1)
    assert order == ["a", "b"] * 4
    assert [len(timing.seconds) for timing in times.values()] == [3, 3]


def test_a_ratio_is_the_median_over_rounds_not_the_ratio_of_medians():
    slow_machine_in_round_two = Timing((1.0, 10.0, 3.0)), Timing((2.0, 20.0, 2.0))
    assert slow_machine_in_round_two[0].relative_to(slow_machine_in_round_two[1]) == 0.5


def test_a_summary_is_in_milliseconds():
    assert Timing((0.001, 0.002, 0.003)).summary() == {"ms": 2.0, "low_ms": 1.0, "high_ms": 3.0}


@pytest.mark.skipif(platform.system() != "Linux", reason="resident memory is read from /proc, on Linux")
def test_peak_memory_sees_a_tensor_that_is_freed_before_the_call_ends():
    peak = peak_memory(lambda: torch.ones(64, 2**20).sum())  # 256 MiB
    assert 200 < peak < 400  # MiB; the interpreter's own needs come on top
    assert peak_memory(lambda: torch.ones(2**10).sum()) < 50


def test_a_bar_is_held_by_the_worst_plain_row_alone():
    plain = {"precision": "fp32", "mode": "eager"}
    rows = [
        {**plain, "stu/attention_dense": 0.3, "stu/attention_blocks": 0.7},
        {**plain, "stu/attention_dense": 0.4, "stu/attention_blocks": 0.5},
        {"precision": "bf16", "mode": "eager", "stu/attention_dense": 9.0, "stu/attention_blocks": 9.0},
    ]
    dense, blocks = check_bars("mixing", rows)
    assert (dense["worst"], dense["holds"]) == (0.4, True)
    assert (blocks["worst"], blocks["holds"]) == (0.7, False)


def test_a_bar_without_its_peer_is_left_out():
    rows = [{"precision": "fp32", "mode": "eager", "hybrid/baseline": 0.8}]
    assert [bar["ratio"] for bar in check_bars("step", rows)] == ["hybrid/baseline"]


def test_the_table_has_every_name_and_medians_in_milliseconds():
    table = format_rows([{"segments": 17, "stu": {"ms": 12.34}}, {"segments": 39, "loop": None}])
    assert table.splitlines()[0].split() == ["segments", "stu", "loop"]
    assert table.splitlines()[1].split() == ["17", "12.3", "ms", "—"]


def test_an_unknown_item_is_refused_and_the_known_ones_are_listed(capsys):
    with pytest.raises(SystemExit):
        main(["speed"])
    assert f"unknown item speed; known: {', '.join(ITEMS)}" in capsys.readouterr().err
