"""The LOTSA layout: folders as `datasets` writes them, our writer read back by everyone, parquet in the same schema."""

import json
import pickle
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tsfm_lab.data import CorruptFileError, Layout, Series, SeriesList, load, screen, write_lotsa
from tsfm_lab.data.lotsa import ArrowCollection
from tsfm_lab.data.parquet import ParquetCollection

RNG = np.random.default_rng(0)


def rows(kind: str) -> list[dict]:
    """Three rows as LOTSA publishes them: "1-d" targets, "2-d" ones, or 1-d ones with past covariates."""
    found = []
    for i in range(3):
        t = 20 + i
        target = RNG.normal(size=(3, t) if kind == "2-d" else t).astype(np.float32)
        row = {"item_id": f"x{i}", "start": np.datetime64("2020-01-01", "s"), "freq": "5T", "target": target}
        if kind == "past":
            row["past_feat_dynamic_real"] = RNG.normal(size=(2, t)).astype(np.float32)
        found.append(row)
    return found


def save_with_datasets(rows: list[dict], folder, sequence: str, shards: int = 1) -> None:
    """`save_to_disk` by the library itself. sequence: the feature type, "Sequence" of old versions or "List"."""
    import datasets

    values = {"item_id": datasets.Value("string"), "start": datasets.Value("timestamp[s]")}
    values |= {"freq": datasets.Value("string")}
    of = getattr(datasets, sequence)
    for name in ("target", "past_feat_dynamic_real"):
        if name in rows[0]:
            steps = of(datasets.Value("float32"))
            c = len(rows[0][name])
            values[name] = of(steps, length=c) if rows[0][name].ndim == 2 else steps
    listed = [{key: list(v) if isinstance(v, np.ndarray) else v for key, v in row.items()} for row in rows]
    table = datasets.Dataset.from_list(
        [row | {"start": row["start"].astype("datetime64[s]").item()} for row in listed], datasets.Features(values)
    )
    table.save_to_disk(folder, num_shards=shards)


@pytest.mark.parametrize("kind", ["1-d", "2-d", "past"])
@pytest.mark.parametrize("sequence", ["Sequence", "List"])
def test_folders_of_old_and_new_feature_types_are_read_as_published(tmp_path, kind, sequence):
    expected = rows(kind)
    save_with_datasets(expected, tmp_path / "set", sequence, shards=2)
    collection = load(tmp_path / "set")
    assert len(collection) == 3
    assert collection.lengths.tolist() == [20, 21, 22]
    assert set(collection.num_variates.tolist()) == {3 if kind == "2-d" else 1}
    for got, want in zip(collection, expected, strict=True):
        assert (got.item_id, got.start, got.freq) == (want["item_id"], want["start"], "5min")
        np.testing.assert_array_equal(got.target, np.atleast_2d(want["target"]))
        if kind == "past":
            np.testing.assert_array_equal(got.past_feat_dynamic_real, want["past_feat_dynamic_real"])
        else:
            assert got.past_feat_dynamic_real is None


def test_old_descriptions_that_say_sequence_change_nothing(tmp_path):
    save_with_datasets(rows("2-d"), tmp_path / "set", "List")
    info = tmp_path / "set" / "dataset_info.json"
    info.write_text(info.read_text().replace('"List"', '"Sequence"'))
    assert load(tmp_path / "set")[0].target.shape == (3, 20)


def test_the_target_is_a_view_of_the_mapped_file(tmp_path):
    save_with_datasets(rows("2-d"), tmp_path / "set", "List")
    series = ArrowCollection(tmp_path / "set")[0]
    assert not series.target.flags.owndata
    assert not series.target.flags.writeable


def test_a_collection_pickles_without_its_values(tmp_path):
    big = SeriesList([Series("x", "2020", "h", np.arange(200_000))])
    write_lotsa(big, tmp_path / "set")
    collection = ArrowCollection(tmp_path / "set", name="n", pool="p")
    copy = pickle.loads(pickle.dumps(collection))
    assert len(pickle.dumps(collection)) < 10_000
    assert (copy.name, copy.pool) == ("n", "p")
    np.testing.assert_array_equal(copy[0].target, big[0].target)


def test_gift_eval_folders_are_found_by_name_and_frequency(tmp_path, cache, monkeypatch):
    monkeypatch.setenv("GIFT_EVAL", str(tmp_path / "gift"))
    save_with_datasets(rows("2-d"), tmp_path / "gift" / "ett1" / "H", "Sequence")
    collection = load("gift_eval/ett1/H")
    assert (collection.name, collection.pool, collection[2].target.shape) == ("gift_eval/ett1/H", "gift_eval", (3, 22))
    assert len(load("gift_eval/ett1/H/long")) == 3


def mixed() -> SeriesList:
    known = np.arange(26.0)
    return SeriesList(
        [
            Series("a", "2020-01-01", "h", [1, np.nan, 3]),
            Series("b", "1999-12-31T23:00", "W-TUE", RNG.normal(size=(2, 9))),
            Series("c", "2020-01-01", "M", RNG.normal(size=20), RNG.normal(size=(2, 20)), known),
        ],
        "mixed",
    )


@pytest.mark.parametrize("shard_bytes", [1, 10**9])
def test_what_is_written_is_read_back_equal_by_us_and_by_datasets(tmp_path, shard_bytes):
    import datasets

    original = mixed()
    folder = write_lotsa(original, tmp_path / "set", shard_bytes=shard_bytes)
    for got, want in zip(ArrowCollection(folder), original, strict=True):
        assert (got.item_id, got.start, got.freq) == (want.item_id, want.start, want.freq)
        np.testing.assert_array_equal(got.target, want.target)
        for name in ("past_feat_dynamic_real", "feat_dynamic_real"):
            np.testing.assert_array_equal(getattr(got, name), getattr(want, name))
    theirs = datasets.load_from_disk(folder)
    assert [len(row["target"]) for row in theirs] == [1, 2, 1]
    assert theirs[1]["start"].isoformat() == "1999-12-31T23:00:00"


def test_the_layout_is_the_narrowest_that_holds_the_series():
    univariate = SeriesList([Series("a", "2020", "h", [1, 2])])
    assert Layout.of(univariate) == Layout(0)
    assert Layout.of(SeriesList([Series("a", "2020", "h", np.zeros((7, 3)))])) == Layout(7)
    assert Layout.of(mixed()) == Layout(-1, ("past_feat_dynamic_real", "feat_dynamic_real"))


def test_a_generator_is_written_once_with_a_stated_layout(tmp_path):
    series = (Series(str(i), "2020", "D", np.arange(5) + i) for i in range(2500))
    with pytest.raises(ValueError, match="pass layout=Layout"):
        write_lotsa(series, tmp_path / "set")
    folder = write_lotsa(series, tmp_path / "set", layout=Layout(0))
    assert ArrowCollection(folder)[2499].target.tolist() == [[2499, 2500, 2501, 2502, 2503]]


def test_an_existing_folder_is_never_touched_and_a_failure_leaves_nothing(tmp_path):
    folder = write_lotsa(mixed(), tmp_path / "set")
    with pytest.raises(FileExistsError, match="remove it, or write to another"):
        write_lotsa(mixed(), folder)
    assert len(ArrowCollection(folder)) == 3
    with pytest.raises(ValueError, match="no series to write"):
        write_lotsa([], tmp_path / "empty")
    with pytest.raises(ValueError, match="'b' has 2 variates, the layout expects 1"):
        write_lotsa(list(mixed())[:2], tmp_path / "other", layout=Layout(0))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set"]


def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tsfm_lab.data.lotsa_writer._write_description", full)
    with pytest.raises(OSError, match="No space left"):
        write_lotsa(mixed(), tmp_path / "set")
    assert list(tmp_path.iterdir()) == []


def test_a_truncated_or_absent_arrow_file_is_named(tmp_path):
    folder = write_lotsa(mixed(), tmp_path / "set")
    file = next(folder.glob("*.arrow"))
    whole = file.read_bytes()
    for cut in (0, 7, len(whole) // 2):
        file.write_bytes(whole[:cut])
        with pytest.raises(CorruptFileError, match=r"data-00000-of-00001\.arrow is truncated or corrupt"):
            ArrowCollection(folder)
    file.unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks data-00000-of-00001\.arrow"):
        ArrowCollection(folder)
    (folder / "state.json").write_text("{}")
    with pytest.raises(CorruptFileError, match=r"state\.json"):
        ArrowCollection(folder)
    shutil.rmtree(folder)
    with pytest.raises(FileNotFoundError, match="is no folder"):
        ArrowCollection(folder)


def test_a_file_cut_between_two_batches_is_not_taken_for_a_shorter_one(tmp_path):
    folder = write_lotsa(SeriesList([Series(str(i), "2020", "D", np.arange(4)) for i in range(2000)]), tmp_path / "set")
    file = next(folder.glob("*.arrow"))
    with pa.memory_map(str(file)) as source:
        reader = pa.ipc.open_stream(source)
        reader.read_next_batch()
        after_first = source.tell()
    file.write_bytes(file.read_bytes()[:after_first])
    with pytest.raises(CorruptFileError, match="no end of stream"):
        ArrowCollection(folder)


def test_bad_rows_raise_by_name_and_are_counted_by_screening(tmp_path):
    fields = {"item_id": pa.string(), "start": pa.timestamp("s"), "freq": pa.string()}
    schema = pa.schema(fields | {"target": pa.list_(pa.list_(pa.float32()))})
    start = np.datetime64("2020-01-01", "s")
    table = pa.table(
        {
            "item_id": ["ok", "no freq", "ragged", "no target", None],
            "start": [start] * 5,
            "freq": ["h", None, "h", "h", "h"],
            "target": [[[1.0, 2]], [[1.0, 2]], [[1.0], [2, 3]], None, [[1.0, 2]]],
        },
        schema=schema,
    )
    (tmp_path / "set").mkdir()
    with pa.ipc.new_stream(str(tmp_path / "set" / "data.arrow"), schema) as writer:
        writer.write_table(table)
    collection = load(tmp_path / "set")
    for i, message in (
        (1, "'no freq' has no frequency"),
        (2, "'ragged': the variates"),
        (3, "'no target' has no target"),
    ):
        with pytest.raises(ValueError, match=message):
            collection[i]
    kept = screen(collection)
    assert [series.item_id for series in kept] == ["ok", "set[4]"]
    assert kept.notes[0] == "skipped 3 of 5 series"


def test_a_folder_of_another_kind_says_what_it_lacks(tmp_path):
    import datasets

    datasets.Dataset.from_dict({"text": ["a"]}).save_to_disk(tmp_path / "set")
    with pytest.raises(ValueError, match="lacks the columns item_id, start, freq, target"):
        load(tmp_path / "set")


def test_parquet_is_read_by_row_group(tmp_path):
    parts = [*rows("2-d"), *rows("2-d")]
    table = pa.table(
        {
            "item_id": [row["item_id"] for row in parts],
            "start": [row["start"] for row in parts],
            "freq": [row["freq"] for row in parts],
            "target": pa.array([list(row["target"]) for row in parts], pa.list_(pa.list_(pa.float32()))),
        }
    )
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=2)
    collection = pickle.loads(pickle.dumps(load(tmp_path / "x.parquet")))
    assert collection.lengths.tolist() == [20, 21, 22] * 2
    for i in (5, 2, 0, 3, 1, 4):
        np.testing.assert_array_equal(collection[i].target, parts[i]["target"])
    (tmp_path / "many").mkdir()
    for i in range(6):
        shutil.copy(tmp_path / "x.parquet", tmp_path / "many" / f"{i}.parquet")
    many = load(tmp_path / "many")
    np.testing.assert_array_equal(many[33].target, parts[3]["target"])
    assert [s.item_id for s in many[::3]] == ["x0"] * 12


def test_a_broken_or_foreign_parquet_file_is_named(tmp_path):
    (tmp_path / "x.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(CorruptFileError, match=r"x\.parquet"):
        ParquetCollection(tmp_path / "x.parquet")
    pq.write_table(pa.table({"timestamp": [1], "y": [2.0]}), tmp_path / "y.parquet")
    with pytest.raises(ValueError, match=r"lacks the columns .* from_frame"):
        ParquetCollection(tmp_path / "y.parquet")


def test_our_folders_say_what_datasets_says(tmp_path):
    save_with_datasets(rows("2-d"), tmp_path / "theirs", "List")
    write_lotsa(load(tmp_path / "theirs"), tmp_path / "ours")
    ours, theirs = (json.loads((tmp_path / who / "state.json").read_text()) for who in ("ours", "theirs"))
    assert ours.keys() >= theirs.keys()
