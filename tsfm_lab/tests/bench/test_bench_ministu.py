"""The MiniSTU bench: what it runs, its bars, its peer. No test measures a time."""

import pytest
import torch

from tsfm_lab.bench import ministu
from tsfm_lab.bench.ministu import SIZES, check_bars
from tsfm_lab.bench.ministu_filters import compute_by_quadrature
from tsfm_lab.bench.ministu_layer import make_modules, measure_decoding, measure_layer, measure_memory
from tsfm_lab.bench.ministu_peer import load_peers
from tsfm_lab.runs.files import read_json
from tsfm_lab.spectral import get_spectral_filters

CPU = torch.device("cpu")


def layer_row(size: tuple[int, int, int], spectral: float, lds: float) -> dict:
    row = dict(zip(("length", "channels", "batch"), size, strict=True))
    return row | {"auto/peer_spectral": spectral, "auto/peer_lds": lds}


def test_our_backends_are_measured_with_the_same_weights():
    modules = make_modules(64, 3, peer=None)
    x = torch.randn(2, 64, 3)
    assert list(modules) == ["spectral", "lds", "auto"]
    for module in modules.values():
        torch.testing.assert_close(module(x), modules["spectral"](x), atol=1e-5, rtol=0)  # float32


def test_a_layer_is_measured_without_a_peer():
    row = measure_layer(64, 3, 2, None, CPU, rounds=2)
    assert row["chosen"] in ("spectral", "lds")
    assert {"spectral", "lds", "auto"} < set(row)
    assert not any("peer" in name for name in row)


def test_memory_and_decoding_are_measured_at_the_size_asked_for():
    assert measure_memory(64, 3, 2, None, CPU)["length"] == 64
    row = measure_decoding(64, CPU, rounds=1)
    assert (row["length"], row["state_numbers"] % 64) == (64, 0)


def test_the_reference_filters_are_the_filters():
    expected = torch.from_numpy(compute_by_quadrature(256, 12))
    phi = get_spectral_filters(256, 12, dtype=torch.float64)
    torch.testing.assert_close(phi.abs(), expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize(("spectral", "lds", "holds"), [(25.0, 5.0, [True, True]), (24.9, 4.9, [False, False])])
def test_a_layer_is_held_to_both_bars(spectral, lds, holds):
    bars = check_bars("layer", [layer_row((512, 64, 8), spectral, lds)])
    assert [bar["holds"] for bar in bars] == holds


def test_a_size_without_a_promise_is_held_to_the_lds_bar_only():
    assert SIZES[128, 64, 8] is None
    assert len(check_bars("layer", [layer_row((128, 64, 8), 1.0, 6.0)])) == 1


def test_without_a_peer_nothing_is_promised():
    assert check_bars("layer", [{"length": 512, "channels": 64, "batch": 8}]) == []
    assert check_bars("memory", [{"length": 4096}]) == []


def test_filters_are_held_to_time_memory_and_error():
    row = {"length": 8192, "seconds": 3.1, "peak_mib": None, "error": 1e-9}
    bars = check_bars("filters", [row])
    assert [(bar["of"], bar["holds"]) for bar in bars] == [("seconds at 8192", False), ("error at 8192", True)]


def test_results_are_written_with_the_machine_they_come_from(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(ministu.ITEMS, "decoding", lambda *_: [{"length": 64, "step_us": 1.0}])
    output = tmp_path / "ministu.json"
    threads = torch.get_num_threads()
    assert ministu.main(["decoding", "--device", "cpu", "--threads", str(threads), "--output", str(output)]) == 0
    result = read_json(output)["decoding"]
    assert result["rows"] == [{"length": 64, "step_us": 1.0}]
    assert {"device", "threads", "date", "commit", "versions", "dtype"} < set(result)
    assert "step_us" in capsys.readouterr().out


def test_a_folder_without_the_peer_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no mini_stu: name the checkout"):
        load_peers(tmp_path, 64, 3)
