"""MoiraiModule: published sizes and names, checkpoints, what the mask hides, and the laws of predicted values."""

import json

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file

from tsfm_lab.distributions import MixtureOutput, NormalOutput, QuantileOutput, StudentTOutput
from tsfm_lab.models import checkpoint
from tsfm_lab.models.moirai import MoiraiModule, published_mixture
from tsfm_lab.models.moirai_hybrid import MoiraiHybridModule
from tsfm_lab.nn.attention_blocks import plan_blocks
from tsfm_lab.tests.models.packed_rows import PATCH_SIZES, make_packed_batch

SMALL = {
    "d_model": 64,
    "num_layers": 2,
    "patch_sizes": PATCH_SIZES,
    "max_seq_len": 96,
    "attn_dropout_p": 0.0,
    "dropout_p": 0.0,
}
BATCH = make_packed_batch()
PREDICTED = BATCH["prediction_mask"][..., None] & (torch.arange(32) < BATCH["patch_size"][..., None])


def make_model(distr_output=None, **options):
    torch.manual_seed(0)
    return MoiraiModule(distr_output or published_mixture(), **{**SMALL, **options}).eval()


@pytest.mark.parametrize(
    ("size", "parameters", "keys"),
    [("small", 13_827_528, 94), ("base", 91_357_728, 166), ("large", 310_970_624, 310)],
)
def test_the_presets_have_the_parameters_and_keys_of_the_published_checkpoints(size, parameters, keys):
    with torch.device("meta"):
        model = MoiraiModule.from_preset(size)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert len(model.state_dict()) == keys


def test_keys_and_shapes_outside_the_encoder_are_the_published_ones():
    with torch.device("meta"):
        shapes = {key: tuple(value.shape) for key, value in MoiraiModule.from_preset("small").state_dict().items()}
    assert shapes["mask_encoding.weight"] == (1, 384)
    assert shapes["in_proj.weight"] == (5, 384, 128)
    assert shapes["in_proj.bias"] == (5, 384)
    assert shapes["encoder.layers.5.self_attn.q_norm.weight"] == (64,)
    assert shapes["encoder.layers.0.self_attn.var_attn_bias.emb.weight"] == (2, 6)
    assert shapes["encoder.norm.weight"] == (384,)
    assert shapes["param_proj.proj.weights_logits.weight"] == (5, 512, 384)
    assert shapes["param_proj.proj.components.2.total_count.weight"] == (5, 128, 384)


def test_an_unknown_preset_is_refused():
    with pytest.raises(ValueError, match="size must be one of small, base, large, got 'tiny'"):
        MoiraiModule.from_preset("tiny")


@pytest.mark.parametrize(
    "output", [published_mixture(), StudentTOutput(), QuantileOutput()], ids=lambda output: type(output).__name__
)
def test_predicted_values_have_the_law_that_the_whole_batch_has(output):
    model = make_model(output)
    whole, predicted = model(**BATCH).log_prob(BATCH["target"]), model.forward_predicted(**BATCH)
    log_prob = predicted.log_prob(BATCH["target"])
    # float32 densities of values that lie up to 50 scales of a component away
    torch.testing.assert_close(log_prob[PREDICTED], whole[PREDICTED], rtol=1e-3, atol=1e-3)
    assert (log_prob[~PREDICTED] == 0).all()
    assert torch.equal(predicted.index.sort().values, PREDICTED.flatten().nonzero().squeeze(1))


def test_predicted_values_have_the_gradients_that_the_whole_batch_has():
    model = make_model(MixtureOutput([StudentTOutput(), NormalOutput()]))
    gradients = []
    for law in (model(**BATCH), model.forward_predicted(**BATCH)):
        loss = law.log_prob(BATCH["target"])[PREDICTED].sum()
        gradients.append(torch.autograd.grad(loss, list(model.parameters())))
    for whole, part in zip(*gradients, strict=True):
        torch.testing.assert_close(part, whole, rtol=1e-3, atol=1e-3 * float(whole.norm()) + 1e-4)


def test_plans_made_beforehand_change_nothing():
    model, blocks = make_model(), plan_blocks(BATCH["sample_id"], BATCH["variate_id"])
    made_inside, given = (model(**BATCH, blocks=plan).log_prob(BATCH["target"]) for plan in (None, blocks))
    assert torch.equal(made_inside, given)


def test_hidden_values_do_not_reach_the_law():
    model = make_model()
    changed = {**BATCH, "target": torch.where(BATCH["prediction_mask"][..., None], 1e4, BATCH["target"])}
    torch.testing.assert_close(model(**changed).mean, model(**BATCH).mean, rtol=0, atol=0)


def test_other_samples_do_not_reach_a_samples_law():
    model, mine = make_model(), BATCH["sample_id"] == 1
    changed = {**BATCH, "target": torch.where(mine[..., None], BATCH["target"], BATCH["target"] + 7)}
    torch.testing.assert_close(model(**changed).mean[mine], model(**BATCH).mean[mine], rtol=0, atol=0)


def test_the_names_of_variates_do_not_matter():
    model = make_model()
    renamed = {**BATCH, "variate_id": 20 - BATCH["variate_id"]}
    real = BATCH["sample_id"] > 0
    torch.testing.assert_close(model(**renamed).mean[real], model(**BATCH).mean[real], rtol=1e-4, atol=1e-3)


def test_the_law_follows_the_targets_scale():
    model, real = make_model(), BATCH["sample_id"] > 0
    scaled = {**BATCH, "target": 8 * BATCH["target"] * BATCH["observed_mask"]}
    # ε = 1e-5 in the scale is all that does not follow
    torch.testing.assert_close(model(**scaled).mean[real], 8 * model(**BATCH).mean[real], rtol=1e-3, atol=1e-2)


def test_under_autocast_the_residual_stream_and_the_law_stay_float32():
    model, streams = make_model(), []
    for layer in model.encoder.layers:
        layer.register_forward_hook(lambda module, args, y: streams.append(y.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        law = model.forward_predicted(**BATCH).law
    exact = model.forward_predicted(**BATCH).law
    assert set(streams) == {law.mean.dtype} == {torch.float32}
    # bfloat16 has 8 bits; in scales of the series
    torch.testing.assert_close(law.base.mean, exact.base.mean, rtol=0.1, atol=0.1)


def test_without_scaling_values_are_taken_as_they_are():
    law = make_model(scaling=False)(**BATCH)
    assert (law.loc == 0).all()
    assert (law.scale == 1).all()


def test_a_saved_model_comes_back_with_its_law(tmp_path):
    model = make_model()
    model.save_pretrained(tmp_path)
    again = MoiraiModule.from_pretrained(tmp_path)
    assert again.distr_output == model.distr_output
    assert torch.equal(again(**BATCH).mean, model(**BATCH).mean)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["distr_output"]["_target_"] == "uni2ts.distribution.mixture.MixtureOutput"
    assert config["patch_sizes"] == [8, 16, 32]


def test_a_hub_id_is_downloaded_and_opened(tmp_path, monkeypatch):
    model = make_model()
    model.save_pretrained(tmp_path)

    def download(repo_id, filename, **options):
        return str(tmp_path / filename)

    for module in (huggingface_hub.hub_mixin, checkpoint):
        monkeypatch.setattr(module, "hf_hub_download", download)
    assert torch.equal(MoiraiModule.from_pretrained("someone/some-model")(**BATCH).mean, model(**BATCH).mean)


def test_pushing_uploads_what_saving_writes(monkeypatch):
    uploaded = {}

    class Hub:
        def __init__(self, token=None):
            self.create_repo = lambda repo_id, **options: huggingface_hub.RepoUrl(f"https://hf.co/{repo_id}")

        def upload_folder(self, repo_id, folder_path, **options):
            uploaded[repo_id] = {file.name for file in folder_path.iterdir()}

    monkeypatch.setattr(huggingface_hub.hub_mixin, "HfApi", Hub)
    make_model().push_to_hub("someone/some-model")
    assert uploaded["someone/some-model"] >= {"config.json", "model.safetensors"}


def test_a_published_config_without_model_type_is_read(tmp_path):
    make_model().save_pretrained(tmp_path)
    edit_config(tmp_path, lambda config: {key: value for key, value in config.items() if key != "model_type"})
    assert MoiraiModule.from_pretrained(tmp_path).patch_sizes == PATCH_SIZES


def edit_config(folder, change):
    file = folder / "config.json"
    file.write_text(json.dumps(change(json.loads(file.read_text()))))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: {k: v for k, v in state.items() if k != "encoder.norm.weight"}, "missing keys .*encoder.norm"),
        (lambda state: {**state, "encoder.centroid": torch.ones(1)}, "extra keys .*encoder.centroid"),
        (
            lambda state: {**state, "encoder.norm.weight": torch.ones(32)},
            r"other shapes .*norm.weight: \(32,\)",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(tmp_path, change, message):
    make_model().save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    save_file(change(load_file(file)), file)
    with pytest.raises(ValueError, match=message):
        MoiraiModule.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda config: {**config, "model_type": "moirai_hybrid"}, "loads model_type 'moirai', got 'moirai_hybrid'"),
        (lambda config: {k: v for k, v in config.items() if k != "d_model"}, r"needs \['d_model'\]"),
        (lambda config: {**config, "d_ff": 512}, r"no parameters \['d_ff'\]"),
        (
            lambda config: {**config, "distr_output": {"_target_": "os.system"}},
            "unknown distribution output",
        ),
    ],
)
def test_a_config_of_another_model_is_refused(tmp_path, change, message):
    make_model().save_pretrained(tmp_path)
    edit_config(tmp_path, change)
    with pytest.raises(ValueError, match=message):
        MoiraiModule.from_pretrained(tmp_path)


def test_a_hybrid_checkpoint_is_not_taken_for_a_baseline(tmp_path):
    torch.manual_seed(0)
    MoiraiHybridModule(published_mixture(), **SMALL).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="moirai_hybrid"):
        MoiraiModule.from_pretrained(tmp_path)


def test_pickled_weights_are_not_opened(tmp_path):
    model = make_model()
    model.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        MoiraiModule.from_pretrained(tmp_path)
