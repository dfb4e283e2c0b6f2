"""Sweeps: resumable, tidy, and the best of them; traces and the source's result files."""

import csv
import json
from math import inf, isnan

import pytest
import torch

from tsfm_lab.decoding.autoregressive import roll_out
from tsfm_lab.decoding.measure import Accuracy, accuracy, measure_setting, relative_speeds
from tsfm_lab.decoding.reports import ResultFiles
from tsfm_lab.decoding.speculation import Speculation
from tsfm_lab.decoding.speculative import SpeculativeDecoder
from tsfm_lab.decoding.sweep import best_setting, expand, pareto, read_table, sweep
from tsfm_lab.decoding.tracing import Trace
from tsfm_lab.tests.decoding.tiny_timer import P, make_context, make_draft, make_target

CELLS = expand({"draft": ["linear", "a, b"], "k": [1, 2], "tolerance": [None, 0.5]})


def test_a_grid_has_every_combination_the_last_name_fastest():
    assert len(CELLS) == 8
    assert CELLS[:3] == [
        {"draft": "linear", "k": 1, "tolerance": None},
        {"draft": "linear", "k": 1, "tolerance": 0.5},
        {"draft": "linear", "k": 2, "tolerance": None},
    ]


def test_a_sweep_killed_half_way_goes_on_without_repeating_finished_cells(tmp_path):
    done = []

    def measure(cell):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(cell)
        return {"speed": 0.1 + len(done)}

    with pytest.raises(KeyboardInterrupt):
        sweep(CELLS, measure, tmp_path / "sweep.csv")
    rows = sweep(CELLS, lambda cell: done.append(cell) or {"speed": float(len(done))}, tmp_path / "sweep.csv")
    assert done == CELLS
    assert [row["speed"] for row in rows] == [1.1, 2.1, 3.1, 4, 5, 6, 7, 8]
    assert rows == read_table(tmp_path / "sweep.csv")
    assert rows[0] == {**CELLS[0], "speed": 1.1}


def test_a_row_that_a_kill_cut_short_is_measured_again(tmp_path):
    file = tmp_path / "sweep.csv"
    sweep(CELLS[:2], lambda cell: {"speed": 1.0}, file)
    file.write_text(file.read_text()[:-4])
    rows = sweep(CELLS[:2], lambda cell: {"speed": 2.0}, file)
    assert [row["speed"] for row in rows] == [1.0, 2.0]
    assert read_table(file) == rows


def test_a_file_of_another_sweep_is_refused(tmp_path):
    sweep(CELLS[:1], lambda cell: {"speed": 1.0}, tmp_path / "sweep.csv")
    with pytest.raises(ValueError, match=r"lacks the columns \['batch'\]"):
        sweep([{"batch": 1}], lambda cell: {"speed": 1.0}, tmp_path / "sweep.csv")
    with pytest.raises(ValueError, match="has the columns"):
        sweep(CELLS[1:2], lambda cell: {"other": 1.0}, tmp_path / "sweep.csv")


ROWS = [
    {"name": "slow", "speedup_cached": 1.0, "mse_ratio": 1.0},
    {"name": "worse than slow", "speedup_cached": 0.9, "mse_ratio": 1.1},
    {"name": "good", "speedup_cached": 2.0, "mse_ratio": 1.02},
    {"name": "same speed, less accurate", "speedup_cached": 2.0, "mse_ratio": 1.03},
    {"name": "fast", "speedup_cached": 3.0, "mse_ratio": 1.5},
]


def test_the_pareto_front_is_what_nothing_beats():
    front = pareto(ROWS, gain="speedup_cached", loss="mse_ratio")
    assert [row["name"] for row in front] == ["slow", "good", "fast"]


def test_the_best_setting_is_the_fastest_that_is_accurate_enough():
    assert best_setting(ROWS, most_loss=1.02)["name"] == "good"
    assert best_setting(ROWS, most_loss=inf)["name"] == "fast"
    with pytest.raises(ValueError, match=r"mse_ratio of at most 0.9; the smallest is 1.0"):
        best_setting(ROWS, most_loss=0.9)


@pytest.fixture
def batches():
    context = make_context(6, 5)
    return [(context[:4], torch.randn(4, 3 * P, 1)), (context[4:], torch.randn(2, 3 * P, 1))]


def test_accuracy_counts_every_value_once(batches):
    found = accuracy(lambda x: torch.zeros(len(x), 3 * P, 1), batches)
    y = torch.cat([y for _, y in batches])
    assert found.mse == pytest.approx(y.square().mean().item(), rel=1e-6)
    assert found.mae == pytest.approx(y.abs().mean().item(), rel=1e-6)


def test_a_setting_without_tolerance_is_as_accurate_as_the_cached_roll_out(batches):
    target = make_target()
    reference = accuracy(lambda x: roll_out(target, x, 3 * P), batches)
    decoder = SpeculativeDecoder(target, make_draft("linear", target), Speculation("tolerance", tolerance=0.0))
    row = measure_setting(decoder, batches, 3 * P, batch_size=8, reference=reference, rounds=1)
    assert row["mse_ratio"] == pytest.approx(1.0, abs=1e-4)  # float32
    assert row["acceptance"] == 0.0
    assert row["speedup_slide"] > 0
    assert set(row) == {"mse", "mae", "mse_ratio", "acceptance", "seconds", "speedup_slide", "speedup_cached"}


def test_a_baselines_speed_in_its_own_units_is_one():
    calls = {"slide": torch.cumsum, "cached": torch.cumprod}
    speeds = relative_speeds({name: lambda x, f=f: f(x, 0) for name, f in calls.items()}, torch.ones(10), rounds=3)
    assert speeds["slide"]["speedup_slide"] == speeds["cached"]["speedup_cached"] == 1.0


def test_the_acceptance_file_has_every_judged_token_once(tmp_path):
    target = make_target()
    trace = Trace(tmp_path / "acceptance.csv")
    decoder = SpeculativeDecoder(target, make_draft("linear", target), Speculation("tolerance", k=2, tolerance=0.6))
    for _ in range(2):
        decoder.generate(make_context(3), 6 * P, trace=trace)
    with (tmp_path / "acceptance.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == sum(trace.judged.values())
    assert sum(int(row["kept"]) for row in rows) == sum(trace.kept.values()) > 0
    assert all((float(row["score"]) <= 0.6) == (row["kept"] == "1") for row in rows)
    assert {(row["batch"], row["sample"]) for row in rows} == {(b, s) for b in "01" for s in "012"}
    assert len({(row["batch"], row["step"], row["sample"], row["position"]) for row in rows}) == len(rows)


def test_a_trace_knows_the_time_of_every_part():
    target, trace = make_target(), Trace()
    assert isnan(trace.acceptance)
    SpeculativeDecoder(target, make_draft("linear", target), Speculation()).generate(make_context(), 4 * P, trace=trace)
    assert set(trace.seconds) == {"draft", "verify", "judge", "commit"}
    assert set(trace.calls.values()) == {trace.rounds}


def test_an_error_while_tracing_is_not_swallowed(tmp_path):
    target, trace = make_target(), Trace(tmp_path / "acceptance.csv")
    (tmp_path / "acceptance.csv").unlink()
    (tmp_path / "acceptance.csv").mkdir()
    with pytest.raises(IsADirectoryError):
        SpeculativeDecoder(target, make_draft("linear", target), Speculation()).generate(
            make_context(), 4 * P, trace=trace
        )


def test_result_files_hold_every_setting_as_soon_as_it_is_added(tmp_path):
    target, trace = make_target(), Trace()
    SpeculativeDecoder(target, make_draft("linear", target), Speculation()).generate(make_context(), 4 * P, trace=trace)
    files = ResultFiles(tmp_path)
    for number, setting in enumerate(("first", "second")):
        files.add(setting, "exact", Accuracy(mse=1.0 + number, mae=0.5), trace, batches=2)
        with (tmp_path / "result_inference_summary.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert [row["setting"] for row in rows] == ["first", "second"][: number + 1]
        assert float(rows[-1]["per_batch_s"]) == pytest.approx(sum(trace.seconds.values()) / 2)
        assert int(rows[-1]["attempted"]) == sum(trace.judged.values())
    with (tmp_path / "result_inference_breakdown.csv").open() as file:
        row = list(csv.DictReader(file))[-1]
    assert float(row["t_draft"]) == trace.seconds["draft"]
    assert int(row["n_verify"]) == trace.rounds
    forecast = json.loads((tmp_path / "result_long_term_forecast.json").read_text())
    assert forecast == {"first": {"mse": 1.0, "mae": 0.5}, "second": {"mse": 2.0, "mae": 0.5}}
