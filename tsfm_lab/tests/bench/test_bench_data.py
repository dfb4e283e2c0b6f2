"""The bench of the data path measures what it says, on a pool of a few series."""

import numpy as np
import pytest

from tsfm_lab.bench import data as bench
from tsfm_lab.bench.data_pools import KINDS, make_pool
from tsfm_lab.data import Series, SeriesList

pytest.importorskip("pyarrow", reason="the pools are also written to arrow")


@pytest.fixture
def pool(monkeypatch, tmp_path):
    walks = np.random.default_rng(0).standard_normal((4, 4000)).cumsum(axis=1)
    series = SeriesList([Series(str(i), "2020-01-01", "h", walk) for i, walk in enumerate(walks)], "walks")
    monkeypatch.setitem(KINDS, "walks", (lambda: series, 4))
    return make_pool("walks", tmp_path)


def test_a_pool_is_the_same_in_memory_and_in_arrow(pool):
    (part,) = pool.parts
    memory, arrow = (part.source(storage) for storage in ("memory", "arrow"))
    assert memory.stack == arrow.stack == 4
    assert all((a.target == b.target).all() for a, b in zip(memory.collection, arrow.collection, strict=True))


def test_rates_count_the_tokens_of_the_batches(pool):
    meter = bench.Meter(bench.open_own(pool, "memory", 0, num_steps=2))
    meter()
    meter()
    assert len(meter.tokens) == 2
    assert all(0.9 * 65536 < tokens <= 65536 for tokens in meter.tokens)
    assert meter.waste[0] == pytest.approx(1 - meter.tokens[0] / 65536)
    assert meter.rates(seconds=2.0, batches=2)["tokens_per_s"] == round(sum(meter.tokens) / 2)
    assert meter.rates(seconds=2.0, batches=1)["samples_per_s"] == round(meter.samples[1] / 2)


def test_bars_are_judged_by_the_worst_row():
    rows = [{"own_waste": 0.01, "own/uni2ts": 9.0}, {"own_waste": 0.04, "own/uni2ts": 2.0}, {"own_waste": 0.02}]
    judged = {bar["of"]: (bar["worst"], bar["holds"]) for bar in bench.check_bars("all", rows)}
    assert judged == {"own/uni2ts": (2.0, False), "own_waste": (0.04, False)}
    assert [bar["of"] for bar in bench.check_bars("all", rows[2:])] == ["own_waste"]


def test_an_unknown_item_is_named(capsys):
    with pytest.raises(SystemExit):
        bench.main(["nonsense"])
    assert "unknown item nonsense; known: synthetic" in capsys.readouterr().err
