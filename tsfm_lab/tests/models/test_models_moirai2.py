"""MOIRAI-2 and its hybrid: the published numbers, causality, what training reads, checkpoints, bad input."""

import json

import numpy as np
import pytest
import torch

from tsfm_lab.models import Moirai2HybridModule, Moirai2Module, load_model
from tsfm_lab.models.predicted_patches import find_next_tokens
from tsfm_lab.tests.models.make_golden import fill_weights, to_double
from tsfm_lab.tests.models.make_moirai2_golden import FILE, SIZES, SOME, golden_batch
from tsfm_lab.tests.models.packed_rows import make_packed_batch

BATCH = golden_batch()
REAL = BATCH["sample_id"] > 0


def build(kind=Moirai2Module, **options):
    torch.manual_seed(0)
    return kind(**{**SIZES, **options}).eval()


@pytest.fixture(scope="module", params=[Moirai2Module, Moirai2HybridModule], ids=["moirai2", "hybrid"])
def model(request):
    return build(request.param)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_quantiles_are_the_peers(dtype):
    """Against golden/moirai2.npz; 2e-7 is the rounding of what is stored, 1e-5 what float32 allows of sums."""
    model = build()
    fill_weights(model)
    batch = to_double(BATCH) if dtype == torch.float64 else BATCH
    with np.load(FILE) as golden:
        expected = torch.from_numpy(golden["quantiles"])
    found = model.to(dtype)(**batch)[REAL][SOME]
    tolerance = 2e-7 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(found.double(), expected.double(), rtol=tolerance, atol=10 * tolerance)


def test_the_small_preset_is_the_published_checkpoint():
    model = Moirai2Module.from_preset("small")
    assert sum(parameter.numel() for parameter in model.parameters()) == 11_387_208
    assert len(model.state_dict()) == 85
    assert (model.in_proj.hidden_layer.in_features, model.out_proj.output_layer.out_features) == (32, 576)


def test_a_token_sees_its_own_sample_up_to_its_own_time(model):
    """Which targets the gradient of one token's quantiles reaches."""
    target = BATCH["target"].clone().requires_grad_()
    row, sample = 0, int(BATCH["sample_id"][0].max())
    members = (BATCH["sample_id"][row] == sample).nonzero().flatten()
    token = members[len(members) // 2]
    quantiles = model.quantiles(
        model.encode(
            model.embed(target, BATCH["observed_mask"], *(torch.ones_like(target[..., :1]),) * 2),
            *(BATCH[name] for name in ("sample_id", "time_id", "variate_id")),
        )
    )
    quantiles[row, token].sum().backward()
    reached = target.grad.abs().sum(-1) > 0
    allowed = (BATCH["sample_id"] == sample) & (BATCH["time_id"] <= BATCH["time_id"][row, token])
    allowed[1 - row] = False
    assert reached[row, token]
    assert not (reached & ~allowed).any()


def test_what_is_to_be_predicted_does_not_enter_the_scale(model):
    """Change it: the quantiles after tokens that come before it, their scale included, stay as they are."""
    changed = {**BATCH, "target": BATCH["target"] + 100 * BATCH["prediction_mask"][..., None]}
    before = REAL.clone()
    for row, sample in torch.stack([torch.arange(len(REAL))[:, None].expand_as(REAL), BATCH["sample_id"]], -1)[REAL]:
        members = BATCH["sample_id"][row] == sample
        predicted = BATCH["time_id"][row][members & BATCH["prediction_mask"][row]]
        if len(predicted):
            before[row] &= ~(members & (BATCH["time_id"][row] >= predicted.min()))
    assert before.any()
    torch.testing.assert_close(model(**changed)[before], model(**BATCH)[before], rtol=0, atol=0)


def test_the_predicted_patches_are_those_of_a_whole_pass(model):
    found, whole = model.forward_predicted(**BATCH), model(**BATCH)
    wanted = found.ahead >= 0
    place = (found.ahead - torch.arange(1, 5))[wanted]  # j patches after token i stands token i + j
    ahead = torch.arange(4).expand_as(found.ahead)[wanted]
    loc, scale = found.take(found.loc)[wanted], found.take(found.scale)[wanted]
    expected = whole.flatten(0, 1)[place, ahead]
    own = found.quantiles[wanted] * scale[..., None] + loc[..., None]
    torch.testing.assert_close(own, expected, rtol=1e-5, atol=1e-4)  # sums in another order
    assert BATCH["prediction_mask"].flatten()[found.ahead[wanted]].all()
    assert set(found.ahead[wanted].tolist()) == set(BATCH["prediction_mask"].flatten().nonzero().flatten().tolist())


def test_the_next_tokens_are_those_of_the_same_series_at_the_next_times():
    sample, time, variate = (torch.tensor([row]) for row in ([1, 1, 1, 1, 2, 2, 0], [0, 1, 0, 1, 5, 6, 0], [0] * 7))
    variate[0, 2:4] = 1
    expected = [[1, -1], [-1, -1], [3, -1], [-1, -1], [5, -1], [-1, -1], [-1, -1]]
    assert find_next_tokens(sample, time, variate, 2)[0].tolist() == expected


def test_a_token_after_a_gap_in_time_is_no_next_one():
    ids = torch.ones(1, 3, dtype=torch.int64)
    assert find_next_tokens(ids, torch.tensor([[0, 2, 3]]), ids, 2)[0].tolist() == [[-1, -1], [2, -1], [-1, -1]]


def test_checkpoints_go_through_a_folder_and_are_known_by_their_type(model, tmp_path):
    model.save_pretrained(tmp_path)
    again = load_model(tmp_path)
    assert type(again) is type(model)
    assert again.config == {**model.config, "quantile_levels": [*model.quantile_levels]}
    torch.testing.assert_close(again(**BATCH), model(**BATCH), rtol=0, atol=0)


def test_a_published_configuration_is_known_by_its_fields(tmp_path):
    model = build()
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["model_type"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert isinstance(load_model(tmp_path), Moirai2Module)


def test_another_patch_size_than_the_checkpoints_is_refused(model, tmp_path):
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"other shapes.*in_proj\.hidden_layer\.weight"):
        type(model).from_pretrained(tmp_path, patch_size=8)
    with pytest.raises(ValueError, match=r"p=16.*got shape \(2, 40, 32\)"):
        model(**make_packed_batch(tokens=40, patch_sizes=(16, 32)))
    with pytest.raises(ValueError, match=r"one of \[16\].*got \[8\]"):
        model(**{**BATCH, "patch_size": torch.full_like(BATCH["patch_size"], 8)})


@pytest.mark.parametrize("levels", [(0.5, 0.1), (0.1, 0.1), (0.0, 0.5), (0.5, 1.0), ()])
@pytest.mark.parametrize("kind", [Moirai2Module, Moirai2HybridModule])
def test_levels_unsorted_or_outside_0_1_are_refused(kind, levels):
    with pytest.raises(ValueError, match=r"quantile_levels must be ascending and within \(0, 1\), got"):
        build(kind, quantile_levels=levels)


def test_time_that_runs_backwards_is_refused(model):
    time_id = BATCH["time_id"].clone()
    time_id[1, 2] = 0
    with pytest.raises(ValueError, match=r"time_id must not decrease .* got 0 after 1 at token 2 of row 1"):
        model(**{**BATCH, "time_id": time_id})


@pytest.mark.parametrize("name", ["patch_size", "num_predict_token"])
def test_sizes_below_one_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        build(**{name: 0})
    with pytest.raises(ValueError, match="size must be one of small"):
        Moirai2Module.from_preset("tiny")


def test_a_hybrid_of_attention_alone_is_moirai2():
    hybrid, plain = build(Moirai2HybridModule, layer_pattern="attention"), build()
    hybrid.load_state_dict(plain.state_dict())
    torch.testing.assert_close(hybrid(**BATCH), plain(**BATCH), rtol=0, atol=0)


def test_a_series_longer_than_the_filters_is_refused():
    with pytest.raises(ValueError, match=r"a segment has \d+ tokens, the filters 4"):
        build(Moirai2HybridModule, max_seq_len=4, num_eigh=2)(**BATCH)
