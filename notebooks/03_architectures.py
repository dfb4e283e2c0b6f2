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
# # 03 · What differs between MOIRAI and its STU hybrid?
#
# Both models read the same packed batch and end in the same head. They differ in one thing: how a token learns of the
# others. We send one batch through both, look at who sees whom, prove with gradients that no sample sees another, and
# count what each way costs in parameters, operations and time.
#
# **What would falsify it.** A non-zero gradient from one sample to another; a token of the hybrid's STU layers that
# reads the future.
#
# MOIRAI is of Woo et al. ([2402.02592](https://arxiv.org/abs/2402.02592)), the spectral transform unit (STU) of Liu et
# al. ([2409.10489](https://arxiv.org/abs/2409.10489)). Notebook 01 explains its filters.

# %% tags=["parameters"]
SCALE = "smoke"  # "smoke" (two CPU cores), "lab" or "full" (one GPU): longer rows, larger models
SEED = None  # of weights and of the batch; None: as the scale has it
D_MODEL = None  # width of the models that are timed
NUM_LAYERS = None  # their depth
LENGTHS = None  # tokens of the rows that are timed
ROUNDS = None  # timings of each
DEVICE = None  # "cpu" or "cuda"

# %%
import time

import numpy as np
import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode

from tsfm_lab import plotting
from tsfm_lab.data import load
from tsfm_lab.data.mixture import Mixture, Source
from tsfm_lab.data.stream import TrainingStream
from tsfm_lab.data.synthetic import SyntheticCollection
from tsfm_lab.data.transforms import pretraining_chain
from tsfm_lab.models import MoiraiHybridModule, MoiraiModule
from tsfm_lab.models.moirai import SIZES
from tsfm_lab.models.moirai_hybrid import count_parameters, matched_stu_d_ff
from tsfm_lab.nn.packed_stu import STUCore
from tsfm_lab.runs import open_run, resolve_config, write_json
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
# of 8 to 128 steps. Four ids say which is which, and the prediction mask says which tokens are hidden from the model
# and asked of it. Transforms and packing are the subject of notebook 04; here we only look at what comes out.

# %%
patch_sizes = (8, 16, 32)
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
# ## 2 · The same way in and out
#
# Both models scale each series by its visible values, map patches to tokens $x \in \mathbb{R}^{d}$, put one learnt
# vector in place of the hidden ones, and end in a mixture of four laws whose parameters a linear layer makes of each
# token. Between the two stands a stack of layers, and only its kinds differ:
#
# $$x \leftarrow x + \mathrm{mix}(\mathrm{norm}(x)), \qquad x \leftarrow x + \mathrm{GLU}(\mathrm{norm}(x)),$$
#
# where $\mathrm{mix}$ is attention in the baseline, and in the hybrid an STU in layers 0, 2, 4.

# %%
SMALL = {"d_model": 64, "num_layers": 4, "patch_sizes": patch_sizes, "max_seq_len": 64}
models = {"baseline": MoiraiModule, "hybrid": MoiraiHybridModule}
models = {name: model.from_preset("small", **SMALL).eval() for name, model in models.items()}


def trace(model, batch):
    """Kind, output shape and root mean square of each layer's output."""
    rows, hooks = [], []

    def record(layer, inputs, output):
        kind = "STU" if hasattr(layer, "stu") else "attention"
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
assert {row[1] for rows, _ in traces.values() for row in rows} == {(8, 64, 64)}  # (b t d) throughout
shapes = {name: tuple(law.batch_shape) for name, (_, law) in traces.items()}
shapes

# %% [markdown]
# ## 3 · Who sees whom
#
# Instead of drawing the masks that the code builds we measure what it does. For one row we differentiate the output of
# token $i$ with respect to the input of token $j$ and draw $\lVert \partial y_i / \partial x_j \rVert$. Attention joins
# all tokens of a sample, across its variates. The STU joins only earlier tokens of the same variate.


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
seen_by = {name: influence(models["hybrid"], layer, batch, row) for name, layer in (("attention", 1), ("STU", 0))}

for axes, (name, gradient) in zip(plotting.figure(2, width=8, height=3.4), seen_by.items(), strict=True):
    reach = np.log10(np.where(gradient > 0, gradient, np.nan))
    plotting.heatmap(axes, reach, xlabel="input token j", ylabel="output token i", label="log10 gradient norm")
    axes.set_title({"attention": "Attention joins a sample's variates", "STU": "The STU joins a series' past"}[name])

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
for model in models.values():
    with torch.no_grad():
        before, after = (model(**one).log_prob(batch["target"])[others] for one in (batch, changed))
    torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-5)  # sums of other blocks may round differently

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
# layers have a wider GLU, until both counts agree.

# %%
variants = {
    "baseline": (MoiraiModule, {}),
    "hybrid": (MoiraiHybridModule, {}),
    "hybrid, separate branches": (MoiraiHybridModule, {"branches": "separate"}),
    "hybrid, full STU": (MoiraiHybridModule, {"use_approx": False}),
    "hybrid, matched": (MoiraiHybridModule, {"match_parameters": True}),
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


size = {
    "d_model": config.d_model,
    "num_layers": config.num_layers,
    "patch_sizes": (16,),
    "max_seq_len": max(config.lengths),
}
timed = {
    "baseline": MoiraiModule.from_preset("small", **size).to(config.device),
    "hybrid": MoiraiHybridModule.from_preset("small", **size).to(config.device),
}
records = []
for length in config.lengths:
    inputs = {name: value.to(config.device) for name, value in one_series(length).items()}
    flops = {name: matrix_flops(model, inputs) for name, model in timed.items()}
    for model in timed.values():
        seconds(model, inputs)  # warm-up
    rounds = [{name: seconds(model, inputs) for name, model in timed.items()} for _ in range(config.rounds)]
    ratios = [one["hybrid"] / one["baseline"] for one in rounds]
    records.append(
        {
            "tokens": length,
            "flops hybrid/baseline": flops["hybrid"] / flops["baseline"],
            "time hybrid/baseline": float(np.median(ratios)),
            "lowest": min(ratios),
            "highest": max(ratios),
        }
    )
table = pd.DataFrame(records)
machine = {"device": config.device, "threads": torch.get_num_threads()}
write_json(run.path / "lengths.json", {**machine, "rows": records})

# %% [markdown]
# Operations of the matrix products are counted, not timed, so they are the same on every machine.

# %%
assert (table["flops hybrid/baseline"] < 1).all()
assert table["flops hybrid/baseline"].is_monotonic_decreasing
table[["tokens", "flops hybrid/baseline"]].round(3)

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

# %%
run.finish()

# %% [markdown]
# ## Summary
#
# - The models share the way in and the head; a layer differs in its mixing alone.
# - Attention joins all tokens of a sample, the STU the earlier tokens of a series. No gradient crosses samples.
# - With shared branches an STU layer joins only tokens an even number of steps apart.
# - The small hybrid has 1.3 M parameters less than its baseline; a matched one exists.
# - The hybrid needs fewer operations at every length, and the share falls slowly: the GLU is in both.
#
# ## Exercises
#
# 1. Set `layer_pattern="stu"` in section 2: which tokens can then never learn of each other, however many layers?
# 2. Draw section 3 for `segment_by="sample"`. What does the convolution do at the border between two variates?
# 3. At which length does attention's $t^2$ overtake the projections for `D_MODEL = 64`? Run with longer `LENGTHS`.
