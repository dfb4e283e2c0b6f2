# ---
# jupyter:
#   jupytext:
#     cell_metadata_filter: tags,-all
#     formats: ipynb,py:percent
#     notebook_metadata_filter: kernelspec,-jupytext.text_representation.jupytext_version
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 03 · What differs between MOIRAI, its STU hybrid, MOIRAI-MoE and MOIRAI-2?
#
# All four read the same packed batch. They differ in how a token learns of the others (attention or a convolution, of
# everything or of the past), in what follows (one feed-forward layer or the two of 32 that a router picks) and in what
# comes out. We send one batch through all of them, look at who sees whom, check with gradients that no sample sees
# another, count what each way costs, and look at where the experts' tokens come from.
#
# **What would falsify it.** A non-zero gradient from one sample to another; a token of a causal layer that reads the
# future; experts that take the same tokens whatever the series.
#
# MOIRAI is of Woo et al. ([2402.02592](https://arxiv.org/abs/2402.02592)), the spectral transform unit (STU) of Liu et
# al. ([2409.10489](https://arxiv.org/abs/2409.10489)), MOIRAI-MoE of Liu et al.
# ([2410.10469](https://arxiv.org/abs/2410.10469)), MOIRAI-2 of Liu et al.
# ([2511.11698](https://arxiv.org/abs/2511.11698)). Notebook 01 explains the STU's filters.

# %% tags=["parameters"]
SCALE = "smoke"  # "smoke" (two CPU cores), "lab" or "full" (one GPU): longer rows, larger models
SEED = None  # of weights and of the batch; None: as the scale has it
D_MODEL = None  # width of the models that are timed
NUM_LAYERS = None  # their depth
LENGTHS = None  # tokens of the rows that are timed
ROUNDS = None  # timings of each
EXPERT_STEPS = None  # training steps of the models whose experts are looked at
DEVICE = None  # "cpu" or "cuda"

# %%
import time

import numpy as np
import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode

from tsfm_lab import paths, plotting
from tsfm_lab.data import load
from tsfm_lab.data.mixture import Mixture, Source
from tsfm_lab.data.stream import TrainingStream
from tsfm_lab.data.synthetic import SyntheticCollection
from tsfm_lab.data.transforms import pretraining_chain
from tsfm_lab.models import (
    Moirai2HybridModule,
    Moirai2Module,
    MoiraiHybridModule,
    MoiraiModule,
    MoiraiMoEHybridModule,
    MoiraiMoEModule,
)
from tsfm_lab.models.moirai import SIZES
from tsfm_lab.models.moirai_hybrid import count_parameters, matched_stu_d_ff
from tsfm_lab.nn.moe import Routing, expert_load, load_balancing_loss, load_entropy, record_routing
from tsfm_lab.nn.packed_stu import STUCore
from tsfm_lab.runs import open_run, resolve_config, write_json
from tsfm_lab.runs.files import read_json
from tsfm_lab.training import PackedNLLLoss, cluster_tokens, make_optimizer, set_centroids
from tsfm_lab.training.presets import PRESETS

plotting.use_theme()
config = resolve_config(PRESETS["03_architectures"], globals())
run = open_run("03_architectures", config)
run.start(device=config.device)
torch.manual_seed(config.seed)
config

# %% [markdown]
# ## 1 · One packed batch
#
# A row of the batch holds several *samples*, a sample one or several *variates*, a variate a run of *tokens*: patches
# of 8 to 128 steps in MOIRAI, of 16 in its two successors, so of 16 here. Four ids say which is which, and the
# prediction mask says which tokens are asked of the model. Transforms and packing are the subject of notebook 04; here
# we only look at what comes out.

# %%
patch_sizes = (16,)
mixture = Mixture([Source(load("macrodata"), weight=40), SyntheticCollection(40, seed=config.seed)])
chain = pretraining_chain(patch_sizes, max_seq_len=64, max_dim=3)
stream = TrainingStream(mixture, chain, seed=config.seed, batch_rows=8, max_seq_len=64)
batch = stream.batch(step=0)
pd.DataFrame({name: {"shape": tuple(value.shape), "dtype": value.dtype} for name, value in batch.items()}).T

# %%
ids = ("sample_id", "variate_id", "time_id", "prediction_mask")
for axes, name in zip(plotting.figure(len(ids), width=9, sharey=True), ids, strict=True):
    axes.imshow(batch[name], aspect="auto", interpolation="nearest", cmap="viridis")
    axes.set(title=name, xlabel="token", ylabel="row" if name == ids[0] else "")
    axes.grid(visible=False)

samples = [int(row.max()) for row in batch["sample_id"]]
assert min(samples) >= 1
assert not batch["prediction_mask"][batch["sample_id"] == 0].any()  # padding is never asked for

# %% [markdown]
# ## 2 · The same way in, the same kind of stack, three ways out
#
# All models scale each series by its visible values, map patches to tokens $x \in \mathbb{R}^{d}$ and send them through
# layers of one form:
#
# $$x \leftarrow x + \mathrm{mix}(\mathrm{norm}(x)), \qquad x \leftarrow x + \mathrm{feed}(\mathrm{norm}(x)).$$
#
# | | mix | feed | hidden tokens | a token's output |
# |---|---|---|---|---|
# | MOIRAI | attention | GLU | one learnt vector | the law of its own patch |
# | hybrid | STU in layers 0, 2, 4, attention in the others | GLU | one learnt vector | the law of its own patch |
# | MOIRAI-MoE | causal attention | 2 of 32 GLUs, half as wide | none, as all is causal | the law of the next patch |
# | MOIRAI-2 | causal attention | GLU | none | nine quantiles of the next four patches |
#
# The law is a mixture of four. Both causal models also have an STU form, `MoiraiMoEHybridModule` and
# `Moirai2HybridModule`.

# %%
SMALL = {"d_model": 64, "num_layers": 4, "max_seq_len": 64}
models = {
    "baseline": MoiraiModule.from_preset("small", patch_sizes=patch_sizes, **SMALL).eval(),
    "hybrid": MoiraiHybridModule.from_preset("small", patch_sizes=patch_sizes, **SMALL).eval(),
    "MoE": MoiraiMoEModule.from_preset("small", patch_sizes=patch_sizes, **SMALL).eval(),
    "MOIRAI-2": Moirai2Module.from_preset("small", patch_size=16, **SMALL).eval(),
}


def trace(model, batch):
    """Kind, output shape and root mean square of each layer's output."""
    rows, hooks = [], []

    def record(layer, inputs, output):
        kind = "STU" if hasattr(layer, "stu") else "attention"
        kind += ", experts" if hasattr(layer.ffn, "experts") else ""
        rows.append((kind, tuple(output.shape), round(output.square().mean().sqrt().item(), 2)))

    for layer in model.encoder.layers:
        hooks.append(layer.register_forward_hook(record))
    with torch.no_grad():
        law = model(**batch)
    for hook in hooks:
        hook.remove()
    return rows, law


traces = {name: trace(model, batch) for name, model in models.items()}
columns = {
    f"{name}: {what}": [row[k] for row in rows]
    for name, (rows, _) in traces.items()
    for k, what in enumerate(("layer", "shape", "rms"))
}
pd.DataFrame(columns)

# %%
assert [row[0] for row in traces["hybrid"][0]] == ["STU", "attention", "STU", "attention"]
assert {row[0] for row in traces["MoE"][0]} == {"attention, experts"}
assert {row[1] for rows, _ in traces.values() for row in rows} == {(8, 64, 64)}  # (b t d) throughout
shapes = {
    name: tuple(getattr(law, "batch_shape", law.shape if name == "MOIRAI-2" else ()))
    for name, (_, law) in traces.items()
}
assert shapes["MOIRAI-2"] == (8, 64, 4, 9, 16)  # tokens ahead, quantiles, steps of a patch
shapes

# %% [markdown]
# ## 3 · Who sees whom
#
# Instead of drawing the masks that the code builds we measure what it does. For one row we differentiate the output of
# token $i$ with respect to the input of token $j$ and draw $\lVert \partial y_i / \partial x_j \rVert$. Attention joins
# all tokens of a sample, across its variates; causal attention, of MOIRAI-MoE and MOIRAI-2, those up to a token's own
# time, of all variates. The STU joins only earlier tokens of the same variate.


# %%
def influence(model, layer, batch, row):
    """‖∂y_i/∂x_j‖ of one layer over one row of a batch: (t t), i down, j across."""
    one = {name: value[row : row + 1] for name, value in batch.items()}
    seen = {}
    hook = model.encoder.layers[layer].register_forward_pre_hook(lambda _, inputs: seen.update(inputs=inputs))
    with torch.no_grad():
        model(**one)
    hook.remove()
    x, context = seen["inputs"][:2]
    x = x.detach().requires_grad_()
    y = model.encoder.layers[layer](x, context)[0]
    gradients = [torch.autograd.grad(token.sum(), x, retain_graph=True)[0][0] for token in y]
    return torch.stack(gradients).norm(dim=-1).numpy()


series_of = batch["sample_id"] * 100 + batch["variate_id"]  # one number a series
row = max(range(8), key=lambda r: len(series_of[r].unique()) - len(batch["sample_id"][r].unique()))  # many variates
looked_at = {"attention": ("hybrid", 1), "causal attention": ("MoE", 1), "STU": ("hybrid", 0)}
seen_by = {name: influence(models[model], layer, batch, row) for name, (model, layer) in looked_at.items()}
findings = {
    "attention": "Attention joins a sample's variates",
    "causal attention": "Causal: those up to its time",
    "STU": "The STU joins a series' past",
}
for axes, (name, gradient) in zip(plotting.figure(3, width=11, height=3.2), seen_by.items(), strict=True):
    reach = np.log10(np.where(gradient > 0, gradient, np.nan))
    plotting.heatmap(axes, reach, xlabel="input token j", ylabel="output token i", label="log10 gradient norm")
    axes.set_title(findings[name])

# %% [markdown]
# The white areas are exact zeros, and that is the claim to check: a gradient that is zero *because nothing was
# computed*, not because it is small. A token of padding sees itself alone.

# %%
sample, series = batch["sample_id"][row].numpy(), series_of[row].numpy()
same_sample, same_series = sample[:, None] == sample[None], series[:, None] == series[None]
filled = (sample > 0)[:, None]
earlier = np.tri(64, dtype=bool)

assert not seen_by["attention"][~same_sample].any()  # no sample sees another
assert seen_by["attention"][same_sample & filled].all()  # and all of one sample is seen, across its variates
time_of = batch["time_id"][row].numpy()
until = time_of[None] <= time_of[:, None]
assert not seen_by["causal attention"][~(same_sample & until) & filled].any()  # nor a later time
assert seen_by["causal attention"][same_sample & until & filled].all()
assert not seen_by["STU"][~same_series].any()  # no series sees another
assert seen_by["STU"][~earlier].max() < 1e-6 * seen_by["STU"].max()  # nor its future, but for the transform's rounding
num_samples, num_series = (len(np.unique(ids[sample > 0])) for ids in (sample, series))
assert num_series > num_samples > 1
print(f"the row drawn has {num_samples} samples of {num_series} series")

# %% [markdown]
# The same holds through the whole model, not only a layer: we change every value of one sample and compare the laws of
# all others.

# %%
first = batch["sample_id"] == 1
changed = {**batch, "target": torch.where(first[..., None], batch["target"] + 100, batch["target"])}
others = (batch["sample_id"] > 1)[..., None] & batch["observed_mask"]


def centre(model, batch):
    """The mean of a law, or the median among quantiles of the next patch: (b t p)."""
    output = model(**batch)
    return output[:, :, 0, 4] if isinstance(model, Moirai2Module) else output.mean


for model in models.values():
    with torch.no_grad():
        before, after = (centre(model, one)[others] for one in (batch, changed))
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)  # sums of other blocks may round differently

# %% [markdown]
# ## 4 · A quirk of the published STU: odd lags are zero
#
# The approximate STU gives each channel one filter, $h_l = (1 + (-1)^l) \sum_k \phi_{k,l} M_k$, because both
# branches, $\phi_k$ and $(-1)^l \phi_k$, share their weights $M$. The factor is 2 at even lags and **0 at odd ones**:
# even and odd
# tokens never meet in an STU layer. `branches="separate"` gives each branch its own weights, 9,216 more parameters a
# layer at $d = 384$. Notebook 04 measures whether that helps.

# %%
pulse = torch.zeros(1, 32, 16)
pulse[0, 0] = 1
torch.manual_seed(config.seed)
responses = {}
for branches in ("shared", "separate"):
    with torch.no_grad():
        responses[branches] = STUCore(16, seq_len=32, num_eigh=16, branches=branches)(pulse)[0].abs().mean(1).numpy()
for axes, (branches, response) in zip(plotting.figure(2, width=8, sharey=True), responses.items(), strict=True):
    axes.stem(response, basefmt=" ")
    finding = {"shared": "odd lags are zero", "separate": "every lag counts"}[branches]
    axes.set(title=f"{branches} branches: {finding}", xlabel="lag l, tokens")
axes.figure.supylabel("mean |response|", fontsize="medium")

assert responses["shared"][1::2].max() < 1e-6 * responses["shared"].max()
assert responses["separate"][1::2].min() > 1e-3 * responses["separate"].max()

# %% [markdown]
# ## 5 · Parameters
#
# At the published size the baseline has 13.8 M parameters. The source of the experiment states "~12.5 M" for both;
# that is the hybrid's count. A comparison at unequal sizes favours the larger, so there is also a hybrid whose STU
# layers have a wider GLU, until both counts agree. MOIRAI-MoE has eight times the baseline's parameters; of those a
# token meets a tenth, because 30 of the 32 experts of each layer are left out. Its experts are **not** shared across
# layers, although source 002 says so.

# %%
variants = {
    "baseline": (MoiraiModule, {}),
    "hybrid": (MoiraiHybridModule, {}),
    "hybrid, separate branches": (MoiraiHybridModule, {"branches": "separate"}),
    "hybrid, full STU": (MoiraiHybridModule, {"use_approx": False}),
    "hybrid, matched": (MoiraiHybridModule, {"match_parameters": True}),
    "MoE": (MoiraiMoEModule, {}),
    "MoE hybrid": (MoiraiMoEHybridModule, {}),
    "MOIRAI-2": (Moirai2Module, {}),
    "MOIRAI-2 hybrid": (Moirai2HybridModule, {}),
}
with torch.device("meta"):
    counted = {
        size: {
            name: count_parameters(model.from_preset(size, **options)) for name, (model, options) in variants.items()
        }
        for size in SIZES
    }
assert counted["small"]["baseline"] == 13_827_528
assert counted["small"]["hybrid"] == 12_527_652
assert abs(counted["small"]["hybrid, matched"] / counted["small"]["baseline"] - 1) < 1e-3
assert counted["small"]["MoE"] == 117_025_800
assert counted["small"]["MOIRAI-2"] == 11_387_208
expert = 3 * 384 * 512
active = counted["small"]["MoE"] - 6 * 30 * expert
assert active < counted["small"]["baseline"]
print(f"parameters that a token of the small MoE meets: {active:,}")
print("hidden width of the matched GLU at d = 384:", matched_stu_d_ff(384))
pd.DataFrame(counted).map("{:,}".format)

# %% [markdown]
# ## 6 · Operations and time against length
#
# One series of $t$ tokens a row. Attention compares every pair, so its work grows like $t^2 d$; the STU's transform
# grows like $t \log t \, d$. But at these lengths most of the work is neither: the projections and the GLU, $t d^2$,
# are
# in both. So we expect the hybrid to win by a constant share first, and by more only as rows get long.


# %%
def one_series(length):
    """A batch of two rows, each one series of `length` tokens, a quarter of them to be predicted."""
    generator = torch.Generator().manual_seed(length)
    row = torch.arange(length).expand(2, -1)
    return {
        "target": torch.randn(2, length, 16, generator=generator),
        "observed_mask": torch.ones(2, length, 16, dtype=torch.bool),
        "sample_id": torch.ones(2, length, dtype=torch.int64),
        "time_id": row.clone(),
        "variate_id": torch.zeros(2, length, dtype=torch.int64),
        "prediction_mask": row >= length * 3 // 4,
        "patch_size": torch.full((2, length), 16),
    }


def matrix_flops(model, batch):
    """Floating-point operations of the matrix products of a forward pass (transforms are not counted)."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.forward_predicted(**batch)
    return counter.get_total_flops()


def seconds(model, batch):
    """One forward and backward pass."""
    start = time.perf_counter()
    model.forward_predicted(**batch).log_prob(batch["target"]).sum().backward()
    if config.device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


size = {"d_model": config.d_model, "num_layers": config.num_layers, "max_seq_len": max(config.lengths)}
kinds = {"baseline": MoiraiModule, "hybrid": MoiraiHybridModule, "MoE": MoiraiMoEModule}
counted_too = {name: kind.from_preset("small", patch_sizes=(16,), **size) for name, kind in kinds.items()}
counted_too["MOIRAI-2"] = Moirai2Module.from_preset("small", patch_size=16, **size)
counted_too = {name: model.to(config.device) for name, model in counted_too.items()}
timed = {name: counted_too[name] for name in ("baseline", "hybrid")}
records = []
for length in config.lengths:
    inputs = {name: value.to(config.device) for name, value in one_series(length).items()}
    flops = {name: matrix_flops(model, inputs) for name, model in counted_too.items()}
    for model in timed.values():
        seconds(model, inputs)  # warm-up
    rounds = [{name: seconds(model, inputs) for name, model in timed.items()} for _ in range(config.rounds)]
    ratios = [one["hybrid"] / one["baseline"] for one in rounds]
    records.append(
        {
            "tokens": length,
            **{f"flops {name}/baseline": flops[name] / flops["baseline"] for name in list(flops)[1:]},
            "time hybrid/baseline": float(np.median(ratios)),
            "lowest": min(ratios),
            "highest": max(ratios),
        }
    )
table = pd.DataFrame(records)
machine = {"device": config.device, "threads": torch.get_num_threads()}
write_json(run.path / "lengths.json", {**machine, "rows": records})

# %% [markdown]
# Operations of the matrix products are counted, not timed, so they are the same on every machine. The source claims of
# experts "1.5 × the capacity for less than 1.2 × the compute": of parameters and operations that holds, by far. Of time
# it does not for few tokens, when an expert gets a handful and its weights have to be read all the same:
# `python -m tsfm_lab.bench moirai experts` measures it, `papers/moirai_moe.md` has the figures.

# %%
assert (table["flops hybrid/baseline"] < 1).all()
assert table["flops hybrid/baseline"].is_monotonic_decreasing
assert (table["flops MoE/baseline"] < 1.2).all()
assert counted["small"]["MoE"] / counted["small"]["baseline"] > 1.5
table[["tokens", *(name for name in table if name.startswith("flops"))]].round(3)

# %% tags=["nbval-ignore-output"]
(axes,) = plotting.figure()
tokens, middle = table["tokens"], table["time hybrid/baseline"]
spread = [middle - table["lowest"], table["highest"] - middle]
axes.errorbar(tokens, middle, yerr=spread, marker="o", capsize=3, label="time of a training pass")
axes.plot(tokens, table["flops hybrid/baseline"], marker="s", linestyle="--", label="operations")
axes.axhline(1, color="0.6", linewidth=0.8)
axes.set(xscale="log", xlabel="tokens of a row", ylabel="hybrid / baseline")
axes.set_xticks(tokens, tokens)
axes.minorticks_off()
axes.set_title("What the hybrid saves, against the length of a row")
axes.legend()
print(f"forward and backward, d_model {config.d_model}, {config.num_layers} layers, float32, 2 rows,")
print(f"{config.device}, {torch.get_num_threads()} thread(s), median and range of {config.rounds} interleaved rounds")

# %% [markdown]
# ## 7 · Looking ahead, or not
#
# MOIRAI is an encoder: its attention sees the whole sample, hidden tokens included. The STU as published is causal, so
# in it a context token never learns of what stands behind it. `causal=False` adds a second set of filters for
# the other direction, at the cost of one more bank and not of another transform.

# %%
torch.manual_seed(config.seed)
pulse = torch.zeros(1, 33, 16)
pulse[0, 16] = 1
response = {}
for causal in (True, False):
    with torch.no_grad():
        response[causal] = STUCore(16, seq_len=33, num_eigh=16, causal=causal)(pulse)[0].norm(dim=1)
assert response[True][:16].max() < 1e-6 * response[True].max()  # before the pulse: the transform's rounding
assert response[False][:16].max() > 1e-3 * response[False].max()

# %% [markdown]
# ## 8 · Where experts' tokens come from
#
# The published routers are not trained. Each layer of a trained MOIRAI is fed with data, k-means finds 32 clusters of
# what its feed-forward layer reads, and a token of MOIRAI-MoE goes to the two experts whose centroids are **farthest**
# from it, with weights $\mathrm{softmax}(\lVert x - c \rVert)$ over the two. Not the nearest: that is what the released
# code does, what its weights were trained with, and what has to be repeated to use them. We train a small MOIRAI for a
# moment, cluster its tokens, and look at both rules.

# %%
few = {**SMALL, "patch_sizes": patch_sizes}
corpora = {
    "quarterly, macrodata": load("macrodata"),
    "monthly, elnino": load("elnino"),
    "synthetic": SyntheticCollection(40, seed=config.seed),
}


def stream_of(collection, seed):
    """Batches of 4 rows of one collection."""
    return TrainingStream(Mixture([collection]), chain, seed=seed, batch_rows=4, max_seq_len=64)


streams = {name: stream_of(collection, config.seed) for name, collection in corpora.items()}
unseen = config.expert_steps // 3 + 1  # from here on, no batch is trained on


def train_briefly(model, steps, balance=0.0):
    """AdamW on the packed negative log-likelihood, the corpora in turn; returns the losses."""
    optimizer, loss, losses = make_optimizer(model.train(), 2e-3, 0.1), PackedNLLLoss(), []
    for step in range(steps):
        inputs = list(streams.values())[step % 3].batch(step // 3)
        with record_routing(model) as record:
            value = loss(model.forward_predicted(**inputs), inputs)
        penalty = sum(load_balancing_loss(routing) for routing in record)
        optimizer.zero_grad()
        (value + balance * penalty).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(value.item())
    model.eval()
    return np.array(losses)


def routing_of(model, inputs):
    """The routing of real tokens in every layer, as `forward` sees them."""
    with torch.no_grad(), record_routing(model) as record:
        model(**inputs)
    real = (inputs["sample_id"] > 0).flatten()
    return [Routing(*(part[real] for part in routing)) for routing in record]


torch.manual_seed(config.seed)
moirai = MoiraiModule.from_preset("small", **few)
losses = train_briefly(moirai, config.expert_steps)
assert losses[-9:].mean() < losses[:9].mean()
centroids = cluster_tokens(moirai, (one.batch(unseen) for one in streams.values()), 32, seed=config.seed)
set_centroids(models["MoE"], centroids)

farthest = routing_of(models["MoE"], batch)
nearest = [Routing((-r.scores).topk(2).indices, r.weights, r.scores) for r in farthest]
loads = {"farthest, as published": farthest, "nearest": nearest}
loads = {rule: torch.stack([expert_load(r) for r in routing]) for rule, routing in loads.items()}
for axes, (rule, load_) in zip(plotting.figure(2, width=9, height=2.2), loads.items(), strict=True):
    entropy = load_entropy(load_).mean().item()
    plotting.heatmap(axes, load_.numpy(), xlabel="expert", ylabel="layer", label="share of choices")
    axes.set_title(f"{rule}: entropy {entropy:.2f}")

# %%
common = torch.stack(
    [(f.experts[..., None] == n.experts[:, None]).any() for f, n in zip(farthest, nearest, strict=True)]
)
assert not common.any()  # no token's two farthest centroids are among its two nearest
entropies = {rule: load_entropy(load_).mean().item() for rule, load_ in loads.items()}
assert entropies["farthest, as published"] < entropies["nearest"]
dead = {rule: int((load_ == 0).sum()) for rule, load_ in loads.items()}
print(f"experts of {4 * 32} without a token: {dead}")

# %% [markdown]
# Both rules are uneven on these few tokens, the farthest one more: a centroid that lies apart is far from most tokens
# and gets up to two fifths of them, while one in their midst gets none. We know of no reason for it beyond that it was
# trained so (users ask, uni2ts issue 211); with weights trained under the rule it is the rule.
#
# ## 9 · A router that is trained, and what its experts take
#
# The other router is a learned linear gate with a load-balancing loss. We train a MOIRAI-MoE of eight experts with it
# on series of three kinds and ask of held-back batches: which expert does a token go to (left), and do kinds differ in
# the experts they use by more than two batches of one kind do (right)?

# %%
torch.manual_seed(config.seed)
gated = MoiraiMoEModule.from_preset("small", router="linear", num_experts=8, **few)
losses = train_briefly(gated, config.expert_steps, balance=0.01)
assert losses[-9:].mean() < losses[:9].mean()


def last_loads(name, step):
    """Share of each expert of the last layer, (e), over a batch of one corpus that has not been trained on."""
    return expert_load(routing_of(gated, streams[name].batch(step))[-1]).numpy()


by_kind = {name: np.stack([last_loads(name, unseen + k) for k in range(3)]) for name in streams}
with torch.no_grad(), record_routing(gated) as record:
    gated(**batch)
first_choice = np.stack([r.experts[:, 0].view(8, 64)[row].numpy() for r in record]).astype(float)
first_choice[:, sample == 0] = np.nan
axes = plotting.figure(2, width=10, height=2.4)
plotting.heatmap(axes[0], first_choice, xlabel="token of one row", ylabel="layer", label="first expert", cmap="tab10")
axes[0].set_title("Which expert a token goes to first")
plotting.heatmap(
    axes[1], np.stack([x.mean(0) for x in by_kind.values()]), xlabel="expert of the last layer", label="share"
)
axes[1].set_yticks(range(3), list(by_kind))
axes[1].set_title("Experts by kind of series")

# %% tags=["nbval-ignore-output"]
names = list(by_kind)
within = np.mean([np.abs(x[i] - x[j]).sum() / 2 for x in by_kind.values() for i in range(3) for j in range(i)])
between = np.mean(
    [np.abs(by_kind[a].mean(0) - by_kind[b].mean(0)).sum() / 2 for i, a in enumerate(names) for b in names[:i]]
)
assert between > within
print(f"distance between kinds {between:.2f}, within one {within:.2f}")
all_loads = torch.stack([expert_load(r) for r in routing_of(gated, batch)])
assert (all_loads > 0).sum() > (loads["farthest, as published"] > 0).float().mean() * all_loads.numel()

# %% [markdown]
# The distance of two shares is half the sum of their differences: 0 if they agree, 1 if they have no expert in common.
# Kinds of series lie further apart than batches of one kind, under one seed. It is a beginning of specialisation at
# most: the same expert leads for all three kinds, and nothing here says that the division of labour makes forecasts
# better.
#
# ## 10 · Feeding predictions back
#
# MOIRAI fills its horizon in one pass. A causal model draws a patch, reads it and draws the next: 100 samples of six
# patches after 63 of context take one pass over 69 tokens and 500 over 69 more, because location and scale of the
# series are computed anew with every patch. Freezing them at the context's values leaves one token to read per patch.

# %%
context_tokens, patches, samples_drawn = 63, 6, 100
tokens_read = {
    "exact, as published": 69 + (patches - 1) * samples_drawn * 69,
    "frozen scale": context_tokens + (patches - 1) * samples_drawn,
}
assert tokens_read["exact, as published"] == 34_569
pd.Series(tokens_read)

# %% [markdown]
# Source 001 says that feeding back reduces errors and carries forecasts beyond the model's limits. We trained MOIRAI
# and MOIRAI-MoE on the same batches and scored held-out series (`python -m tsfm_lab.bench expert_claims`; shares of
# seasonal naive's quantile loss, three seeds, rows of 64 tokens in training). "Blind" is the same MoE reading the
# context's mean in place of what it drew. At 1,536 steps the forecast stands 128 tokens from the first one.

# %%
claims = read_json(paths.ROOT / "runs" / "results" / "expert_claims_cpu.json")
claimed = pd.DataFrame(claims["feedback"]["rows"])
wql = claimed.pivot_table(index=["set", "horizon"], columns="way", values="wql")
spread = claimed.pivot_table(index=["set", "horizon"], columns="way", values="wql sd")
wql.map("{:.3f}".format) + " ± " + spread.map("{:.3f}".format)

# %%
run.finish()

# %% [markdown]
# ## Summary
#
# - The models share the way in and the form of a layer. MOIRAI and its hybrid differ in the mixing alone; MOIRAI-MoE
#   and MOIRAI-2 are causal and foretell the next patches, the one by experts and a law, the other by quantiles.
# - Attention joins all tokens of a sample, causal attention those up to a token's time, the STU the earlier tokens of
#   a series. No gradient crosses samples in the three kinds of layer, and changing one sample leaves the laws of the
#   others as they are in all four models.
# - With shared branches an STU layer joins only tokens an even number of steps apart.
# - The small hybrid has 1.3 M parameters less than its baseline; a matched one exists.
# - The hybrid needs fewer operations at every length, and the share falls slowly: the GLU is in both.
# - MOIRAI-MoE has eight times the baseline's parameters for about its operations. The published rule of the farthest
#   centroids leaves more experts idle than the nearest would; a trained gate is a part that can be put in its place.
# - In WQL feeding predictions back beats ignoring them; it beats MOIRAI's one shot in one of six rows.
#
# ## Exercises
#
# 1. Set `layer_pattern="stu"` in section 2: which tokens can then never learn of each other, however many layers?
# 2. Draw section 3 for `segment_by="sample"`. What does the convolution do at the border between two variates?
# 3. Route by the nearest centroids in section 8 and train the experts: does the loss fall faster?
# 4. At which length does attention's $t^2$ overtake the projections for `D_MODEL = 64`? Run with longer `LENGTHS`.
