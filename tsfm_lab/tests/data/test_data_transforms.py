"""MOIRAI's transforms: each does one thing to a sample, draws what it should, and leaves its input alone."""

from collections import Counter

import numpy as np
import pytest

from tsfm_lab.data import Series
from tsfm_lab.data.transforms import (
    TOKEN_FIELDS,
    AddObservedMask,
    AddTimeIndex,
    AddVariateIndex,
    ExtendMask,
    FlatPackCollection,
    FlatPackFields,
    GetPatchSize,
    ImputeTimeSeries,
    MaskedPrediction,
    PackFields,
    PatchCrop,
    Patchify,
    RequireSignal,
    SampleDimension,
    SelectFields,
    SequencifyField,
    UnusableSeries,
    admissible_patch_sizes,
    apply_chain,
    as_sample,
    pretraining_chain,
    trace_chain,
)

SIZES = (8, 16, 32, 64, 128)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def with_past(c=3, p=2, t=600, seed=0) -> dict:
    values = np.random.default_rng(seed).standard_normal((c + p, t)).astype(np.float32)
    return {"item_id": "x", "freq": "D", "target": values[:c], "past_feat_dynamic_real": values[c:]}


def share_is(count, n, p) -> bool:
    """Within five standard deviations of a binomial share: wrong once in a million."""
    return abs(count / n - p) < 5 * np.sqrt(p * (1 - p) / n)


# the chain


def test_the_chain_has_the_published_order():
    names = [type(transform).__name__ for transform in pretraining_chain()]
    names.remove("RequireSignal")  # of this project
    assert names == [
        "SampleDimension",
        "GetPatchSize",
        "PatchCrop",
        "PackFields",
        "PackFields",
        "AddObservedMask",
        "ImputeTimeSeries",
        "Patchify",
        "AddVariateIndex",
        "AddTimeIndex",
        "MaskedPrediction",
        "ExtendMask",
        *["FlatPackCollection"] * 4,
        "FlatPackFields",
        "SequencifyField",
        "SelectFields",
    ]


def test_every_token_of_the_chain_can_be_traced_to_its_place_in_the_series():
    """A slow reference: values that encode (variate, step) are found again at the place that the ids name."""
    t = 500
    code = np.arange(5)[:, None] * 1000 + np.arange(t) + 1.0  # never 0, exact in float32
    sample = {"freq": "D", "target": code[:3], "past_feat_dynamic_real": code[3:]}
    for seed in range(30):
        tokens = apply_chain(pretraining_chain(), sample, np.random.default_rng(seed))
        assert tuple(tokens) == TOKEN_FIELDS
        p = tokens["patch_size"][0]
        n = len(tokens["target"])
        assert 2 <= n <= 512
        rows = {}
        for i in range(n):
            patch = tokens["target"][i]
            assert (patch[p:] == 0).all()
            assert (tokens["observed_mask"][i] == (np.arange(128) < p)).all()
            variate, step = divmod(int(patch[0]) - 1, 1000)
            assert (patch[:p] == variate * 1000 + step + 1 + np.arange(p)).all()
            rows.setdefault(variate, []).append((step, tokens["time_id"][i], tokens["prediction_mask"][i]))
            assert variate < 3 or not tokens["prediction_mask"][i]
        starts = {row[0][0] for row in rows.values()}
        assert len(starts) == 1  # every variate is cropped at the same steps
        for row in rows.values():
            assert [time for _, time, _ in row] == list(range(len(row)))
            assert [step for step, _, _ in row] == [min(starts) + p * k for k in range(len(row))]
        context = {sum(not masked for *_, masked in row) for row in rows.values()}
        assert len(context) == 1  # past covariates end where the prediction begins
        assert len(set(tokens["variate_id"])) == len(rows)


def test_the_chain_leaves_its_input_and_every_step_between_as_it_was(rng):
    sample = with_past()
    sample["target"][0, 100:110] = np.nan
    for array in (sample["target"], sample["past_feat_dynamic_real"]):
        array.setflags(write=False)
    keys = set(sample)
    steps = list(trace_chain(pretraining_chain(), sample, rng))
    assert set(sample) == keys
    patched = dict(steps)["Patchify"]
    assert patched["target"].ndim == 3  # later steps flatten, this one is still (c n patch)
    assert "prediction_mask" not in patched


def test_the_trace_ends_with_the_result_of_the_chain():
    chain = pretraining_chain()
    names, samples = zip(*trace_chain(chain, with_past(), np.random.default_rng(4)), strict=True)
    result = apply_chain(chain, with_past(), np.random.default_rng(4))
    assert names[:3] == ("SampleDimension", "GetPatchSize", "PatchCrop")
    assert all((samples[-1][field] == result[field]).all() for field in TOKEN_FIELDS)


def test_a_sample_shows_views_of_the_series():
    series = Series("a", "2020-01-01", "H", np.ones(50), past_feat_dynamic_real=np.ones((2, 50)))
    sample = as_sample(series)
    assert np.shares_memory(sample["target"], series.target)
    assert sample["freq"] == "h"
    assert sample["past_feat_dynamic_real"].shape == (2, 50)


@pytest.mark.parametrize("shape", [(1, 0), (0, 10)])
def test_an_empty_series_is_unusable(shape):
    with pytest.raises(UnusableSeries, match="empty"):
        as_sample(Series("a", "2020-01-01", "h", np.ones(shape)))


# variates


def test_the_number_of_variates_is_uniform(rng):
    sample = {"target": np.zeros((4, 10))}
    counts = Counter(len(SampleDimension()(sample, rng)["target"]) for _ in range(4000))
    assert all(share_is(counts[n], 4000, 0.25) for n in (1, 2, 3, 4))


def test_variates_come_in_random_order_without_repeats(rng):
    sample = {"target": np.arange(4.0)[:, None]}
    for _ in range(50):
        chosen = [float(row[0]) for row in SampleDimension()(sample, rng)["target"]]
        assert len(set(chosen)) == len(chosen)
    first = Counter(float(SampleDimension()(sample, rng)["target"][0][0]) for _ in range(4000))
    assert all(share_is(first[v], 4000, 0.25) for v in range(4))


def test_fields_share_the_most_variates_in_proportion(rng):
    sample = {"target": np.zeros((300, 4)), "past_feat_dynamic_real": np.zeros((100, 4))}
    drawn = [SampleDimension(128)(sample, rng) for _ in range(2000)]
    assert max(len(s["target"]) for s in drawn) == 128 * 300 // 400
    assert max(len(s["past_feat_dynamic_real"]) for s in drawn) == 128 * 100 // 400


def test_one_variate_among_very_many_covariates_stays(rng):
    sample = {"target": np.zeros((1, 4)), "past_feat_dynamic_real": np.zeros((500, 4))}
    assert len(SampleDimension(128)(sample, rng)["target"]) == 1


# patch sizes


@pytest.mark.parametrize(
    ("freqs", "sizes"),
    [
        (("s", "S", "10s"), (64, 128)),
        (("min", "T", "5T", "15min"), (32, 64, 128)),
        (("h", "H", "6h"), (32, 64)),
        (("D", "B", "W", "W-SUN", "W-TUE"), (16, 32)),
        (("M", "ME", "MS", "6M"), (8, 16, 32)),
        (("Q", "QE", "QS-OCT", "Q-DEC", "Y", "YE", "A", "AS-JAN", "Y-DEC"), (8,)),
    ],
)
def test_patch_sizes_follow_the_frequency_by_any_name(freqs, sizes):
    assert {admissible_patch_sizes(freq, SIZES) for freq in freqs} == {sizes}


def test_the_smallest_size_is_taken_where_the_frequency_has_none():
    assert admissible_patch_sizes("h", (8, 16)) == (8,)


@pytest.mark.parametrize("sizes", [(), (0, 8)])
def test_patch_sizes_must_be_positive(sizes):
    with pytest.raises(ValueError, match="patch_sizes must name at least one positive number of steps"):
        admissible_patch_sizes("h", sizes)


def test_an_unknown_frequency_is_named(rng):
    with pytest.raises(ValueError, match="unknown frequency 'fortnight'"):
        GetPatchSize()({"target": np.zeros((1, 100)), "freq": "fortnight"}, rng)


def test_every_admissible_patch_size_is_as_likely(rng):
    sample = {"target": np.zeros((1, 1000)), "freq": "min"}
    counts = Counter(GetPatchSize()(sample, rng)["patch_size"] for _ in range(3000))
    assert set(counts) == {32, 64, 128}
    assert all(share_is(n, 3000, 1 / 3) for n in counts.values())


def test_patches_are_small_enough_for_two_of_them(rng):
    def sizes(steps, freq):
        return {GetPatchSize()({"target": np.zeros((1, steps)), "freq": freq}, rng)["patch_size"] for _ in range(60)}

    assert sizes(128, "min") == {32, 64}
    assert sizes(63, "min") == {8}  # shorter than two patches of 32: the smallest size of all
    assert sizes(16, "min") == {8}


def test_a_series_shorter_than_two_patches_is_unusable(rng):
    with pytest.raises(
        UnusableSeries, match=r"too short: 15 steps, but 2 patches of the smallest patch size, 8, need 16"
    ):
        GetPatchSize()({"target": np.zeros((1, 15)), "freq": "h"}, rng)


# crops


def crops(rows, steps, p, n, **settings):
    sample = {"target": [np.arange(steps)] * rows, "patch_size": p}
    rng = np.random.default_rng(1)
    return [PatchCrop(**settings)(sample, rng)["target"] for _ in range(n)]


def test_a_crop_has_whole_patches_and_begins_anywhere_on_a_shifted_grid():
    drawn = [c[0] for c in crops(1, 30, 8, 3000)]
    assert {len(c) for c in drawn} == {16, 24}
    # 30 = 3·8 + 6: the grid starts at 0 … 6, and two of three patches begin at the first or second
    assert {c[0] for c in drawn if len(c) == 16} == {*range(7), *range(8, 15)}
    assert all((np.diff(c) == 1).all() for c in drawn)


def test_the_number_of_patches_is_uniform():
    counts = Counter(len(c[0]) // 8 for c in crops(1, 40, 8, 4000))
    assert set(counts) == {2, 3, 4, 5}
    # 40 = 5·8, so the grid starts at 0 and all five patches are there to be counted
    assert all(share_is(n, 4000, 0.25) for n in counts.values())


def test_all_variates_together_have_at_most_max_patches():
    assert max(len(c) * len(c[0]) // 8 for c in crops(5, 4000, 8, 500, max_patches=64)) == 5 * (64 // 5)


def test_too_many_variates_are_unusable(rng):
    sample = {"target": [np.arange(100)] * 9, "patch_size": 8}
    with pytest.raises(UnusableSeries, match="9 variates of 12 patches of 8 steps leave 1 patches each of at most 16"):
        PatchCrop(max_patches=16)(sample, rng)


# values


def test_packing_a_field_that_is_not_there_changes_nothing(rng):
    sample = {"target": [np.zeros(3)]}
    assert PackFields("past_feat_dynamic_real")(sample, rng) is sample
    assert PackFields("target")(sample, rng)["target"].shape == (1, 3)


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([[1, 2, np.inf]], "infinite"),
        ([[1, np.nan, -np.inf]], "infinite"),
        ([[np.nan] * 3], "nothing observed"),
        ([[5, 5, 5]], "constant"),
        ([[5, np.nan, 5], [2, 2, 2]], "constant"),
    ],
)
def test_a_crop_without_a_signal_is_unusable(rows, reason, rng):
    with pytest.raises(UnusableSeries, match=reason) as error:
        RequireSignal()({"target": np.array(rows, dtype=np.float32)}, rng)
    assert error.value.reason == reason


@pytest.mark.parametrize("rows", [[[1, 2, 2]], [[np.nan, 1, 2]], [[5, 5, 5], [np.nan] * 3, [1, np.nan, 2]]])
def test_a_crop_with_one_changing_variate_is_usable(rows, rng):
    sample = {"target": np.array(rows, dtype=np.float32)}
    assert RequireSignal()(sample, rng) is sample


def test_infinite_covariates_are_unusable(rng):
    sample = {"target": np.array([[1.0, 2]]), "past_feat_dynamic_real": np.array([[np.inf, 1]])}
    with pytest.raises(UnusableSeries, match="past_feat_dynamic_real has infinite values"):
        RequireSignal()(sample, rng)


def test_missing_values_are_marked_then_filled(rng):
    sample = {"target": np.array([[1, np.nan, 3]], dtype=np.float32)}
    masked = AddObservedMask()(sample, rng)
    assert masked["observed_mask"]["target"].tolist() == [[True, False, True]]
    filled = ImputeTimeSeries(value=7.0)(masked, rng)["target"]
    assert filled.tolist() == [[1, 7, 3]]
    assert filled.dtype == np.float32
    assert np.isnan(sample["target"][0, 1])


def test_patches_are_padded_with_zeros_and_with_unobserved(rng):
    sample = {
        "target": np.arange(12, dtype=np.float32).reshape(2, 6),
        "observed_mask": {"target": np.ones((2, 6), dtype=bool)},
        "patch_size": 3,
    }
    patched = Patchify(max_patch_size=4)(sample, rng)
    assert patched["target"].tolist() == [[[0, 1, 2, 0], [3, 4, 5, 0]], [[6, 7, 8, 0], [9, 10, 11, 0]]]
    assert patched["observed_mask"]["target"].tolist() == [[[True, True, True, False]] * 2] * 2


# ids


def test_variate_ids_are_distinct_over_all_fields_and_uniform(rng):
    sample = {"target": np.zeros((2, 3, 4)), "past_feat_dynamic_real": np.zeros((1, 3, 4))}
    seen = Counter()
    for _ in range(2000):
        ids = AddVariateIndex(max_dim=5)(sample, rng)["variate_id"]
        assert ids["target"].shape == (2, 3)
        assert (ids["target"] == ids["target"][:, :1]).all()
        chosen = [*ids["target"][:, 0], *ids["past_feat_dynamic_real"][:, 0]]
        assert len(set(chosen)) == 3
        seen.update(chosen)
    assert all(share_is(seen[i], 2000, 3 / 5) for i in range(5))


def test_more_variates_than_ids_are_an_error(rng):
    with pytest.raises(ValueError, match="at most max_dim=2, got 3"):
        AddVariateIndex(max_dim=2)({"target": np.zeros((3, 2, 4))}, rng)


def test_time_ids_count_patches(rng):
    ids = AddTimeIndex()({"target": np.zeros((2, 3, 4))}, rng)["time_id"]["target"]
    assert ids.tolist() == [[0, 1, 2], [0, 1, 2]]


# the task


def test_the_last_patches_are_predicted_in_the_asked_share(rng):
    sample = {"target": np.zeros((2, 100, 4))}
    lengths = []
    for _ in range(2000):
        mask = MaskedPrediction(0.15, 0.5)(sample, rng)["prediction_mask"]
        assert (mask[0] == mask[1]).all()
        lengths.append(int(mask[0].sum()))
        assert not mask[0, : 100 - lengths[-1]].any()
    assert (min(lengths), max(lengths)) == (15, 50)
    # uniform on (15, 50): mean 32.5, standard deviation 10.1; five standard errors
    assert abs(np.mean(lengths) - 32.5) < 5 * 10.1 / np.sqrt(2000)


def test_at_least_one_patch_is_predicted(rng):
    assert MaskedPrediction(0.15, 0.15)({"target": np.zeros((1, 2, 4))}, rng)["prediction_mask"].tolist() == [
        [False, True]
    ]


@pytest.mark.parametrize("ratios", [(0.5, 0.2), (-0.1, 0.5), (0.2, 1.0)])
def test_impossible_mask_ratios_are_refused(ratios):
    with pytest.raises(ValueError, match="mask ratios must satisfy"):
        MaskedPrediction(*ratios)


def test_past_covariates_end_with_the_context_and_are_never_predicted(rng):
    fields = {"target": np.ones((1, 4, 2)), "past_feat_dynamic_real": np.ones((2, 4, 2))}
    ids = {name: np.zeros(value.shape[:2], int) for name, value in fields.items()}
    sample = {**fields, "observed_mask": fields, "variate_id": ids, "time_id": ids}
    masked = ExtendMask()(MaskedPrediction(0.5, 0.5)(sample, rng), rng)
    assert masked["past_feat_dynamic_real"].shape == (2, 2, 2)
    assert all(masked[name]["past_feat_dynamic_real"].shape[:2] == (2, 2) for name in ("observed_mask", "time_id"))
    assert masked["prediction_mask"]["target"].tolist() == [[False, False, True, True]]
    assert not masked["prediction_mask"]["past_feat_dynamic_real"].any()


# flattening


def test_flattening_goes_variate_by_variate_targets_first(rng):
    collection = {"past_feat_dynamic_real": np.array([[7, 8]]), "target": np.array([[1, 2, 3], [4, 5, 6]])}
    assert FlatPackCollection("time_id")({"time_id": collection}, rng)["time_id"].tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    flat = FlatPackFields()({"target": np.ones((2, 3, 4)), "past_feat_dynamic_real": np.zeros((1, 2, 4)), "x": 1}, rng)
    assert flat["target"].shape == (8, 4)
    assert set(flat) == {"target", "x"}


def test_a_number_becomes_a_sequence(rng):
    assert (
        SequencifyField("patch_size")({"target": np.zeros((3, 2)), "patch_size": 8}, rng)["patch_size"].tolist()
        == [8] * 3
    )


def test_missing_fields_are_named(rng):
    assert SelectFields(("a",))({"a": 1, "b": 2}, rng) == {"a": 1}
    with pytest.raises(ValueError, match=r"has no \['c'\]"):
        SelectFields(("a", "c"))({"a": 1, "b": 2}, rng)
