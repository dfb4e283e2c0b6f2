"""The global batch is a function of (seed, step), bad series are counted and skipped, and few tokens are padding."""

import numpy as np
import pytest
import torch

from tsfm_lab.data import ArrowCollection, Series, SeriesCollection, SeriesList
from tsfm_lab.data.mixture import Mixture, Source
from tsfm_lab.data.packing import packing_waste
from tsfm_lab.data.stream import WINDOW_ROWS, TrainingStream
from tsfm_lab.data.transforms import TOKEN_FIELDS, Patchify, apply_chain, pretraining_chain
from tsfm_lab.models.packed_batch import validate_packed_batch
from tsfm_lab.nn.packing import plan_segments

TOKENS = 32  # of a row: small, so that a window takes milliseconds


def toy_series(n=40, seed=0):
    rng = np.random.default_rng(seed)
    freqs = ("h", "D", "M", "Q-DEC")
    return [
        Series(f"s{i}", "2020-01-01", freqs[i % 4], rng.standard_normal((1 + i % 3, int(rng.integers(40, 400)))))
        for i in range(n)
    ]


def stream(series=None, **settings) -> TrainingStream:
    collection = series if isinstance(series, SeriesCollection) else SeriesList(series or toy_series(), "toy")
    mixture = Mixture([Source(collection, sampling="uniform")])
    chain = pretraining_chain(patch_sizes=(8, 16), max_seq_len=TOKENS)
    return TrainingStream(mixture, chain, **{"seed": 1, "batch_rows": 8, "max_seq_len": TOKENS, **settings})


def equal(a, b) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a if name != "segments")


def test_a_batch_is_the_same_in_any_order_of_asking():
    steps = [0, 17, 3, 16, 15, 33, 3]
    forwards, restarted = stream(), stream()
    batches = {step: forwards.batch(step) for step in sorted(set(steps))}
    assert all(equal(restarted.batch(step), batches[step]) for step in steps)
    assert all(equal(stream().batch(step), batches[step]) for step in (3, 33))


def test_steps_and_seeds_differ():
    one = stream()
    assert not equal(one.batch(0), one.batch(1))
    assert not equal(one.batch(0), stream(seed=2).batch(0))


def test_batches_of_any_size_are_slices_of_one_list_of_rows():
    """40 rows do not divide the window of 128, 256 are two of it."""
    rows = {
        name: torch.cat([stream(batch_rows=128).batch(i)[name] for i in range(4)]) for name in ("target", "sample_id")
    }
    for b in (1, 40, 256):
        s = stream(batch_rows=b)
        for step in {0, 1, 320 // b - 1} if b < 256 else {0, 1}:
            batch = s.batch(step)
            assert torch.equal(batch["target"], rows["target"][step * b : (step + 1) * b])
            assert torch.equal(batch["sample_id"], rows["sample_id"][step * b : (step + 1) * b])


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_ranks_take_every_wth_row_and_together_the_whole_batch(world_size):
    s = stream()
    whole = s.batch(5)
    for rank in range(world_size):
        part = s.batch(5, rank, world_size)
        assert all(torch.equal(part[name], whole[name][rank::world_size]) for name in whole)


def test_ranks_that_cannot_share_a_batch_are_refused():
    with pytest.raises(ValueError, match="batch_rows=8 must be a multiple of world_size=3"):
        stream().batch(0, 0, 3)
    with pytest.raises(ValueError, match="rank below it, got rank 2"):
        stream().batch(0, 2, 2)


def test_asking_for_one_batch_makes_one_window():
    s = stream()
    s.batch(1000)
    assert list(s.skips) == [1000 * 8 // WINDOW_ROWS]


def test_a_window_is_full_and_wastes_little():
    """With samples of 2 to 32 tokens in rows of 32, as coarse as 512-token samples in rows of 512."""
    s = stream(batch_rows=128)
    assert np.mean([packing_waste(s.batch(i)) for i in range(5)]) < 0.03
    assert all((s.batch(i)["sample_id"][:, 0] == 1).all() for i in range(5))  # no empty row


def test_rows_come_in_random_order():
    """First-fit-decreasing puts long samples first; shuffled, halves of a window hold as many samples each."""
    s = stream(batch_rows=64)
    first = np.mean([s.batch(2 * i)["sample_id"].amax(1).float().mean().item() for i in range(6)])
    second = np.mean([s.batch(2 * i + 1)["sample_id"].amax(1).float().mean().item() for i in range(6)])
    assert abs(first - second) < 0.15 * first  # unshuffled, they differ by more than half


def test_samples_of_a_batch_are_whole():
    """Every sample has a context and something to predict, and the patches of each variate are consecutive."""
    batch = stream(batch_rows=128).batch(0)
    for row in range(0, 128, 8):
        sample_id = batch["sample_id"][row]
        for sample in range(1, int(sample_id.max()) + 1):
            here = sample_id == sample
            masked, time = batch["prediction_mask"][row, here], batch["time_id"][row, here]
            assert masked.any()
            assert (~masked).any()
            for variate in batch["variate_id"][row, here].unique():
                assert time[batch["variate_id"][row, here] == variate].diff().eq(1).all()


def test_batches_pass_the_check_of_the_models():
    validate_packed_batch(stream(batch_rows=128).batch(0), patch_sizes=(8, 16))


@pytest.mark.parametrize("segment_by", ["variate", "sample"])
def test_the_segment_plan_is_made_on_request(segment_by):
    batch = stream(segment_by=segment_by).batch(2)
    plan = plan_segments(batch["sample_id"], batch["variate_id"], segment_by)
    assert batch["segments"].segment_by == segment_by
    assert torch.equal(batch["segments"].inverse, plan.inverse)
    assert "segments" not in stream().batch(2)


# bad series


def bad_series():
    values = np.sin(np.arange(100.0))
    infinite = np.where(np.arange(100) % 8 == 3, np.inf, values)  # in every crop of at least 16 steps
    return [
        Series("short", "2020-01-01", "h", values[:9]),
        Series("empty", "2020-01-01", "h", values[:0]),
        Series("missing", "2020-01-01", "h", np.full(100, np.nan)),
        Series("constant", "2020-01-01", "h", np.ones(100)),
        Series("infinite", "2020-01-01", "h", infinite),
    ]


def test_bad_series_are_skipped_counted_and_reported():
    s = stream([*toy_series(), *bad_series()], batch_rows=128)
    batch = s.batch(0)
    assert torch.isfinite(batch["target"]).all()
    report = s.skip_report()
    reasons = {"too short", "empty", "nothing observed", "constant", "infinite"}
    assert {reason for _, reason in report.counts} == reasons
    assert 0 < report.counts.total() < report.drawn
    s.batch(1)
    assert s.skip_report().counts == s.skips[0].counts + s.skips[1].counts
    text = str(report)
    assert text.startswith(f"skipped {report.counts.total()} of {report.drawn} draws")
    assert f"toy, constant: {report.counts['toy', 'constant']} (first: constant: " in text


def test_a_broken_row_of_an_arrow_file_stops_nothing(tmp_path):
    pa = pytest.importorskip("pyarrow", reason="the series come from an arrow file")
    rows = [{"item_id": s.item_id, "start": s.start, "freq": s.freq, "target": s.target[0]} for s in toy_series(10)]
    rows[3]["freq"] = None
    types = {"item_id": pa.string(), "start": pa.timestamp("s"), "freq": pa.string(), "target": pa.list_(pa.float32())}
    table = pa.Table.from_pylist(rows, schema=pa.schema(types))
    with pa.ipc.new_stream(tmp_path / "data.arrow", table.schema) as writer:
        writer.write_table(table)
    s = stream(ArrowCollection(tmp_path, name="arrow"))
    assert s.batch(0)["observed_mask"].any()
    assert set(s.skip_report().counts) == {("arrow", "unreadable (ValueError)")}
    assert "series 3: series 's3' has no frequency" in str(s.skip_report())


def test_making_a_window_twice_counts_its_skips_once():
    s = stream([*toy_series(), *bad_series()])
    s.batch(0)
    counts = s.skip_report().counts
    for step in (100, 200, 300, 0):
        s.batch(step)
    s.skips = {0: s.skips[0]}
    assert s.skip_report().counts == counts


def test_data_without_a_usable_series_end_the_run_with_the_reasons():
    with pytest.raises(RuntimeError, match=r"none of 1000 series in a row was usable(.|\n)*toy, constant"):
        stream(bad_series()).batch(0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_rows": 0}, "batch_rows must be positive"),
        ({"seed": -1}, "seed not negative"),
        ({"segment_by": "row"}, "segment_by must be None or one of variate, sample, got 'row'"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        stream(**settings)


def test_a_chain_for_longer_rows_is_refused():
    with pytest.raises(ValueError, match="between 1 and capacity=16 tokens"):
        stream(max_seq_len=16).batch(0)


def test_a_chain_that_cuts_no_patches_is_refused():
    with pytest.raises(ValueError, match="chain must cut patches with Patchify"):
        TrainingStream(Mixture([SeriesList(toy_series(), "toy")]), [], seed=0)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_batch_is_what_the_chain_as_it_stands_makes_of_its_drafts(rank):
    """Slow and obvious: every sample by the rest of the chain, patches padded by `Patchify`, copied token by token."""
    packed = stream()
    rest = packed.chain[[type(transform) for transform in packed.chain].index(Patchify) :]
    batch = packed.batch(0, rank, world_size=2)
    expected = {name: torch.zeros_like(field) for name, field in batch.items()}
    for k, row in enumerate(range(rank, 8, 2)):
        rng, place = np.random.default_rng((packed.seed, 0, 1 + row)), 0
        for number, draft in enumerate(packed.window(0)[row], start=1):
            sample = apply_chain(rest, draft.sample, rng)
            for token in range(len(sample["target"])):
                expected["sample_id"][k, place] = number
                for name in TOKEN_FIELDS:
                    expected[name][k, place] = torch.as_tensor(sample[name][token])
                place += 1
    assert equal(batch, expected)
