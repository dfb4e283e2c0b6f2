"""Training of MOIRAI-MoE: what is minimised, what is logged, and centroids from a trained MOIRAI."""

import csv
from dataclasses import replace

import numpy as np
import pytest
import torch

from tsfm_lab.models import MoiraiModule, MoiraiMoEHybridModule, MoiraiMoEModule
from tsfm_lab.nn.moe import load_balancing_loss, record_routing, router_z_loss
from tsfm_lab.runs import RunDirectory, resolve_config
from tsfm_lab.tests.training import tiny_run
from tsfm_lab.training.centroids import cluster_tokens, set_centroids, token_representations
from tsfm_lab.training.experiment import make_mixture, make_stream, train
from tsfm_lab.training.losses import PackedNLLLoss
from tsfm_lab.training.presets import PRESETS
from tsfm_lab.training.pretrain_moirai_moe import MoiraiMoEHybridPretrain, MoiraiMoEPretrain
from tsfm_lab.training.specs import make_pretraining, parse_spec
from tsfm_lab.training.trainer import TrainerOptions, fit

SIZES = {"d_model": 64, "num_layers": 2, "patch_sizes": tiny_run.PATCH_SIZES, "max_seq_len": tiny_run.TOKENS}
SIZES |= {"num_experts": 6}
TINY = replace(
    PRESETS["04_pretrain_stu"]["smoke"],
    data=("synthetic",),
    synthetic_series=3,
    synthetic_length=64,
    num_layers=2,
    patch_sizes=(8, 16),
    max_seq_len=32,
    batch_rows=2,
    max_steps=2,
    device="cpu",
)


def make_model(module=MoiraiMoEModule, router="linear", max_steps=4, **options):
    torch.manual_seed(0)
    pretrain = MoiraiMoEHybridPretrain if module is MoiraiMoEHybridModule else MoiraiMoEPretrain
    module = module.from_preset("small", router=router, **SIZES)
    return pretrain(module, max_steps=max_steps, warmup_steps=1, lr=3e-3, **options)


def start(folder, model, max_steps=4):
    """Train; returns the rows of metrics.csv."""
    fit(model, tiny_run.stream(), RunDirectory(folder, {}), TrainerOptions(max_steps, device="cpu", log_lines=0))
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def numbers(rows, name):
    return [float(row[name]) for row in rows]


@pytest.mark.parametrize("module", [MoiraiMoEModule, MoiraiMoEHybridModule])
@pytest.mark.parametrize("router", ["linear", "centroid"])
def test_the_loss_is_the_next_tokens_likelihood_whatever_is_added_to_it(module, router, tmp_path):
    model, batch = make_model(module, router, balance_weight=5.0), tiny_run.stream().batch(0)
    with torch.no_grad():
        law = model.module(**batch)
    predicted = batch["prediction_mask"]
    log_prob = torch.zeros_like(batch["target"])
    log_prob[:, 1:] = law.log_prob(batch["target"].roll(-1, dims=1))[:, :-1]  # of each token, by the one before it

    class Shifted:
        def log_prob(self, value):
            return log_prob.where(predicted[..., None], 0.0)

    expected = PackedNLLLoss()(Shifted(), batch)
    rows = start(tmp_path, model)
    assert float(rows[0]["loss"]) == pytest.approx(float(expected), rel=1e-4)  # other products read the head
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])


def test_balance_entropy_and_dead_experts_are_those_of_the_batch(tmp_path):
    model, batch = make_model(), tiny_run.stream().batch(0)
    with torch.no_grad(), record_routing(model.module) as record:
        model.module.forward_predicted(**batch)
    real = (batch["sample_id"] > 0).flatten()
    loads = []
    for routing in record:
        experts = routing.experts[real] if len(routing.experts) == len(real) else routing.experts
        loads.append(np.bincount(experts.flatten(), minlength=6) / experts.numel())
    first = start(tmp_path, model)[0]
    assert float(first["balance"]) == pytest.approx(np.mean([6 * load.max() for load in loads]), rel=1e-5)
    entropies = [-(load[load > 0] * np.log(load[load > 0])).sum() / np.log(6) for load in loads]
    assert float(first["entropy"]) == pytest.approx(np.mean(entropies), rel=1e-5)
    assert float(first["dead_experts"]) == sum(int((load == 0).sum()) for load in loads)


def test_what_is_minimised_has_the_balance_and_z_losses_of_real_tokens():
    plain, weighted = (make_model(balance_weight=w, z_weight=2 * w, gradient_clip=1e9) for w in (0.0, 1.0))
    batch = tiny_run.stream().batch(0)
    real = (batch["sample_id"] > 0).flatten()
    found = []
    for model in (plain, weighted):
        model._sum_over_ranks = lambda value: value
        (piece,), sizes = model.on_before_batch_transfer(batch, 0)
        objective, loss = model._objective(piece, *sizes)
        found.append((objective.detach(), loss))
    with torch.no_grad(), record_routing(plain.module) as record:
        plain.module.forward_predicted(**batch)
    kept = [type(r)(*(x[real] for x in r)) if len(r.experts) == len(real) else r for r in record]
    expected = sum(load_balancing_loss(r) + 2 * router_z_loss(r) for r in kept) / len(kept)
    assert float(found[1][0] - found[0][0]) == pytest.approx(float(expected), rel=1e-4)
    assert torch.equal(found[0][1], found[1][1])


def test_the_balance_loss_evens_the_experts_out(tmp_path):
    rows = {
        weight: start(tmp_path / str(weight), make_model(balance_weight=weight, z_weight=0.0, max_steps=30), 30)
        for weight in (0.0, 1.0)
    }
    assert np.mean(numbers(rows[1.0], "entropy")[-5:]) > np.mean(numbers(rows[0.0], "entropy")[-5:])


def test_fewer_rows_a_forward_pass_log_the_same_figures(tmp_path):
    whole, parts = (start(tmp_path / name, make_model(micro_rows=rows)) for name, rows in (("a", None), ("b", 1)))
    for name in ("balance", "entropy", "dead_experts"):
        assert numbers(parts, name)[0] == pytest.approx(numbers(whole, name)[0], rel=1e-6)
    assert numbers(parts, "loss")[0] == pytest.approx(numbers(whole, "loss")[0], rel=1e-5)


def test_centroids_are_the_means_of_their_clusters():
    torch.manual_seed(0)
    moirai = MoiraiModule.from_preset("small", **{name: SIZES[name] for name in list(SIZES)[:4]}).eval()
    batches = [tiny_run.stream().batch(step) for step in range(3)]
    centroids = cluster_tokens(moirai, batches, 6, seed=1)
    assert (centroids.shape, centroids.dtype) == ((2, 6, 64), torch.float64)
    for tokens, centers in zip(token_representations(moirai, batches), centroids, strict=True):
        visible = sum(int(((b["sample_id"] > 0) & ~b["prediction_mask"]).sum()) for b in batches)
        assert len(tokens) == visible
        nearest = torch.cdist(tokens.double(), centers).argmin(1)
        means = torch.stack([tokens[nearest == e].double().mean(0) for e in range(6)])
        assert (means - centers).norm() < 0.2 * centers.norm()  # twenty iterations need not have converged
    assert torch.equal(cluster_tokens(moirai, batches, 6, seed=1), centroids)


def test_too_few_tokens_and_other_shapes_are_refused():
    moirai = MoiraiModule.from_preset("small", **{name: SIZES[name] for name in list(SIZES)[:4]}).eval()
    with pytest.raises(ValueError, match="100000 centroids need as many tokens"):
        cluster_tokens(moirai, [tiny_run.stream().batch(0)], 100_000)
    with pytest.raises(ValueError, match=r"must be \(layers experts d_model\) = \(2, 6, 64\), got \(1, 6, 64\)"):
        set_centroids(make_model(router="centroid").module, torch.zeros(1, 6, 64))
    with pytest.raises(ValueError, match="router='centroid'"):
        set_centroids(make_model().module, torch.zeros(2, 6, 64))


def test_short_names_stand_for_trainable_routers():
    assert parse_spec("moe") == ("moirai_moe", {"router": "linear"})
    assert parse_spec("moe_hybrid+num_experts=4") == ("moirai_moe_hybrid", {"router": "linear", "num_experts": 4})
    assert parse_spec("moe+router=centroid") == ("moirai_moe", {"router": "centroid"})


@pytest.mark.parametrize("scale", ["smoke", "lab", "full"])
@pytest.mark.parametrize("spec", ["moe", "moe_hybrid", "moirai_moe", "moirai_moe_hybrid"])
def test_every_form_has_a_preset_at_every_scale(scale, spec):
    config = resolve_config(PRESETS["04_pretrain_stu"], {"SCALE": scale, "MODELS": [spec]})
    with torch.device("meta"):
        module = make_pretraining(spec, config, seed=0).module
    assert len(module.encoder.layers) == config.num_layers
    assert module.patch_sizes == config.patch_sizes


def test_a_run_clusters_the_tokens_of_the_moirai_trained_before(tmp_path):
    run, mixture = RunDirectory(tmp_path, {}), make_mixture(TINY)
    with pytest.raises(ValueError, match="put 'moirai' before it in MODELS, or choose router=linear"):
        train("moirai_moe", TINY, run, mixture, seed=0, log_lines=0)
    train("moirai", TINY, run, mixture, seed=0, log_lines=0)
    found = train("moirai_moe", TINY, run, mixture, seed=0, log_lines=0).module.encoder.state_dict()["centroid"]
    moirai = MoiraiModule.from_pretrained(tmp_path / "moirai-s0" / "model")
    stream = make_stream(TINY, mixture, 0)
    assert torch.equal(found, cluster_tokens(moirai, (stream.batch(step) for step in range(8)), 32, seed=0))
    assert MoiraiMoEModule.from_pretrained(tmp_path / "moirai_moe-s0" / "model").config["router"] == "centroid"
