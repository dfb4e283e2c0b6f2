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
# # 08 · Does fine-tuning help on my data?
#
# A pretrained model forecasts series that it has never seen. Training it a little more on your own may help; or it may
# not, or make it worse, as users of the published code report (uni2ts issues
# [161](https://github.com/SalesforceAIResearch/uni2ts/issues/161) and
# [188](https://github.com/SalesforceAIResearch/uni2ts/issues/188)). So we never fine-tune without asking: **the same
# windows are forecast before and after**, windows that neither the weights nor the learning rate were chosen on.
#
# We take a small MOIRAI that ships with the package and a real series that it was not pretrained on, train its head
# alone, low-rank adaptors, or all of it, search a learning rate, let it overfit on purpose, and end with a recipe.
#
# **What would falsify it.** That the forecasts of the last windows are no better after than before.

# %% tags=["parameters"]
SCALE = "smoke"  # smoke (under half a minute on two CPU cores), lab (one GPU) or full (a published checkpoint)
# model and data
MODEL = None  # a shipped checkpoint, a folder, a run's model or an id on the hub; of any kind
DATA = None  # list of sets of the registry or files, each fine-tuned on by itself
SERIES = None  # of each set, the first ones
PREDICTION_LENGTH = None  # steps
CONTEXT_LENGTH = None  # steps of history that the model sees
NUM_SAMPLES = None  # draws of a forecast
VAL_WINDOWS = None  # windows of each series that choose weights and learning rate
TEST_WINDOWS = None  # windows of each series that are forecast before and after
# fine-tuning
MODES = None  # list of full, head, low_rank
SEEDS = None  # list of seeds, of adaptors, batches and draws
LR = None  # highest learning rate
LRS = None  # list of learning rates that the search tries, the peer's first
MAX_STEPS = None  # of the optimiser
VAL_EVERY = None  # steps
PATIENCE = None  # validations without a lower loss until it stops
BATCH_SIZE = None  # rows of packed windows
RANK = None  # of the low-rank adaptors
# overfitting
SMALL_DATA = None  # a set that is too small
SMALL_LENGTH = None  # steps of its forecasts
SMALL_LR = None  # a learning rate that is too large for it
SMALL_STEPS = None  # of the optimiser
# machine
DEVICE = None  # auto, cpu or gpu

# %%
import tempfile
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib import pyplot as plt
from torch import nn

import tsfm_lab
from tsfm_lab import data, plotting
from tsfm_lab.data.registry import find
from tsfm_lab.evaluation import save_table
from tsfm_lab.metrics import mase, seasonal_error
from tsfm_lab.runs import open_run, resolve_config
from tsfm_lab.training.adaptors import count_trained, merge, prepare
from tsfm_lab.training.presets import PRESETS

plotting.use_theme()
config = resolve_config(PRESETS["08_finetune"], globals())
run = open_run("08_finetune", config)
run.start(device=config.device)
shown = config == PRESETS["08_finetune"]["smoke"]  # the sizes of effects below are claims about these settings alone
if config.scale == "smoke":
    torch.set_num_threads(1)  # the matrices are too small for more, and sums keep their order


# %% [markdown]
# ## 1 · Before and after, on the same windows
#
# Every series is cut in time. The last windows are the **test**: forecast before and after, looked at by nobody in
# between. The windows before them are for **validation**: they say when to stop and which learning rate to take. What
# is left is for **training**: windows that begin anywhere in it, with their horizon inside it.

# %%
name = config.data[0]
collection = data.load(name, repair=True)[: config.series]
h = config.prediction_length or find(name).horizons[0]
series = replace(collection[0], target=collection[0].target[:1])  # the first variate, for figures
test, val = config.test_windows * h, config.val_windows * h
edges = [series.length - test - val, series.length - test, series.length]
(axes,) = plotting.figure()
for label, begin, end in zip(("training", "validation", "test"), (0, *edges[:-1]), edges, strict=True):
    begin = max(begin, edges[0] - 2 * (test + val))
    axes.plot(series.stamps()[begin:end], series.target[0, begin:end], label=label)
axes.legend()
axes.set(title=f"{name}: the last {config.test_windows} windows of {h} steps are the judge", ylabel=series.item_id)
plt.show()

# %% [markdown]
# One call does the whole: it opens nothing but the model and the series, changes neither, and returns the fine-tuned
# forecaster with what it came to.


# %%
def open_base():
    """The pretrained model as a forecaster."""
    device = "cpu" if config.device == "cpu" else None
    sizes = {"context_length": config.context_length, "num_samples": config.num_samples}
    return tsfm_lab.load(config.model, device=device, **sizes)


def tune(data=collection, horizon=h, **how):
    """The notebook's settings, but for what is asked."""
    fixed = ("val_windows", "test_windows", "max_steps", "val_every", "patience", "batch_size", "rank", "lr", "device")
    settings = {"mode": "full", "seed": config.seeds[0], **{field: getattr(config, field) for field in fixed}, **how}
    folder = run.path / f"{data.name}-{settings['max_steps']}-{settings['patience']}"  # what is done is not done again
    return tsfm_lab.finetune(open_base(), data, horizon, folder=folder, **settings)


# %% tags=["nbval-ignore-output"]
found = tune()
found.scores.round(4)

# %% [markdown]
# MASE is the mean absolute error of the median in units of the average step from one value to the next; WQL is the
# quantile loss over nine levels as a share of the series' size (notebook 07). We check the MASE by hand: cut the test
# windows ourselves, forecast them with the base and with the fine-tuned model, and put the seasonal naive forecast
# beside them.

# %%
windows = [series.window(0, series.length - k * h) for k in range(config.test_windows, 0, -1)]
labels = np.stack([series.target[0, window.length : window.length + h] for window in windows])
scale = np.stack([seasonal_error(window.target[0], series.mase_season) for window in windows])
models = {"before": open_base(), "after": found.forecaster, "seasonal naive": tsfm_lab.load("seasonal_naive")}
forecasts, errors = {}, {}
for when, model in models.items():
    forecasts[when] = model.forecast(data.SeriesList(windows), h, seed=config.seeds[0])
    errors[when] = mase(labels, forecasts[when]["0.5"].to_numpy().reshape(-1, h), scale, axis=1)
for when in ("before", "after"):
    of_series = found.windows[found.windows["item_id"] == found.windows["item_id"].iloc[0]]
    assert not shown or np.allclose(errors[when], of_series[f"mase {when}"], rtol=1e-4)

# %% tags=["nbval-ignore-output"]
pd.DataFrame(errors, index=[f"window {k + 1}" for k in range(len(windows))]).rename_axis(columns="MASE").round(2)

# %%
axes = plotting.figure(2, width=7, sharey=True)
steps = np.arange(-3 * h, h)
for panel, when in zip(axes, ("before", "after"), strict=True):
    last = forecasts[when].tail(h)
    panel.plot(steps, series.target[0, -4 * h :], color="0.3", label="observed")
    (line,) = panel.plot(steps[-h:], last["0.5"], label="median")
    panel.fill_between(steps[-h:], last["0.1"], last["0.9"], alpha=0.25, color=line.get_color(), label="80 % interval")
    panel.set(title=f"The last window, {when} fine-tuning", xlabel="steps from the forecast's origin")
axes[0].legend(fontsize=7)
plt.show()

# %% [markdown]
# The model comes out of pretraining knowing that series have shapes. Of *this* shape, its season, its trend and how
# certain one can be of them, it learns in a few seconds.

# %%
change = found.scores["change"]
print(f"WQL on the test windows {'fell' if change['test', 'wql'] < 0 else 'rose'}")
assert not shown or change["test", "wql"] < -0.2, "a fifth less, at least, on a long and regular series"
assert not shown or found.improved

# %% [markdown]
# ## 2 · What to train: the head, low-rank adaptors, everything
#
# *Full* fine-tuning moves every weight. *Head* moves only the projection from features to the law. *Low-rank* adaptors
# (Hu et al. 2021, [2106.09685](https://arxiv.org/abs/2106.09685), §4.1) leave each weight matrix $W_0$ as it is and
# learn a change of rank $r$ beside it,
#
# $$W = W_0 + \tfrac{\alpha}{r} B A, \qquad B \in \mathbb R^{o \times r},\; A \in \mathbb R^{r \times i},\; B = 0
# \text{ at first},$$
#
# which is folded into $W_0$ in the end: the saved model has the keys it always had. By hand, on one layer:

# %%
torch.manual_seed(0)
layer, x, r, alpha = nn.Linear(6, 4), torch.randn(3, 6), 2, 16.0
W0 = layer.weight.detach().clone()
prepare(nn.Sequential(layer), "low_rank", rank=r, alpha=alpha)
A, B = layer.parametrizations.weight[0].A, layer.parametrizations.weight[0].B
assert torch.equal(layer(x), x @ W0.T + layer.bias), "B = 0: nothing changes at first"
nn.init.normal_(B)
y = x @ (W0 + alpha / r * B @ A).T + layer.bias
assert torch.allclose(layer(x), y, atol=1e-5)
merge(layer)
assert torch.allclose(layer(x), y, atol=1e-5)
assert list(layer.state_dict()) == ["bias", "weight"]
print("trained numbers:", {mode: count_trained(prepare(deepcopy(open_base().module), mode)) for mode in config.modes})

# %% tags=["nbval-ignore-output"]
results = {}
for dataset in config.data:
    series_of = data.load(dataset, repair=True)[: config.series]
    horizon = config.prediction_length or find(dataset).horizons[0]
    for mode in config.modes:
        for seed in config.seeds:
            results[dataset, mode, seed] = tune(series_of, horizon, mode=mode, seed=seed)
changes = pd.DataFrame(
    [{"data": d, "mode": m, "seed": s, **one.scores["change"]["test"]} for (d, m, s), one in results.items()]
)
save_table(changes, run.path / "changes.csv")
changes.groupby(["data", "mode"])[["mase", "wql"]].agg(["mean", "min", "max"]).round(3)

# %% tags=["nbval-ignore-output"]
(axes,) = plotting.figure()
groups = changes.groupby(["data", "mode"], sort=False)["wql"]
for place, (_, group) in enumerate(groups):
    axes.plot(100 * group, np.full(len(group), place), "o")
names = [f"{mode} ({dataset})" for (dataset, mode), _ in groups]
helped = groups.max() < 0
axes.axvline(0, color="0.6", linewidth=0.8)
axes.set(yticks=range(len(names)), yticklabels=names, xlabel="change of WQL on the test windows, % (one point a seed)")
axes.set(title=f"{helped.sum()} of {len(helped)} ways helped under every seed", ylim=(-0.5, len(names) - 0.5))
plt.show()

# %%
wql = changes[changes["data"] == name].groupby("mode")["wql"].agg(["min", "mean", "max"])
if shown:
    print("all weights help under every seed:", bool(wql.loc["full", "max"] < 0))
    assert wql.loc["full", "max"] < 0
    assert wql["mean"].idxmin() == "full", "the features must change too, not only what is read off them"

# %% [markdown]
# ## 3 · The learning rate, chosen on validation
#
# `lr=None`, or a list, trains once for each rate and keeps the one with the lowest validation loss. The peer's default
# is 5·10⁻⁷, constant. Adam moves a weight by about the learning rate a step, so in $n$ steps no weight moves by more
# than about $5 \cdot 10^{-7} n$: hardly anything.

# %% tags=["nbval-ignore-output"]
searched = tune(lr=list(config.lrs))
before = searched.history["val_loss"].dropna().iloc[0]
peers = tune(lr=config.lrs[0])
(axes,) = plotting.figure()
axes.semilogx(list(searched.searched), list(searched.searched.values()), "o-", label="after, at its best")
axes.axhline(before, color="0.5", linestyle="--", label="before")
axes.axvline(searched.lr, color="0.8", zorder=0)
axes.legend()
axes.set(xlabel="highest learning rate", ylabel="validation loss", title="The peer's rate does nothing visible")
plt.show()

# %%
gains = {lr: before - loss for lr, loss in searched.searched.items()}
assert searched.lr == max(gains, key=gains.get), "the search takes the lowest validation loss"
assert min(gains.values()) >= 0, "early stopping begins with the base model: it never validates worse"
if shown:
    share = gains[config.lrs[0]] / gains[searched.lr]
    print(f"at the peer's rate less than a tenth of the search's gain: {share < 0.1}")
    assert share < 0.1
    assert abs(peers.scores.loc[("test", "wql"), "change"]) < 0.05

# %% [markdown]
# ## 4 · Overfitting, and what catches it
#
# Now too little data and too large a rate: the yearly flow of the Nile, of which some fifty values are left for
# training. Without early stopping (`patience=None`) the last weights stay, whatever they are.

# %% tags=["nbval-ignore-output"]
small = data.load(config.small_data, repair=True)[: config.series]
small_h = config.small_length or find(config.small_data).horizons[0]
settings = {"lr": config.small_lr, "max_steps": config.small_steps}
careless = tune(small, small_h, **settings, patience=None)
careful = tune(small, small_h, **settings)
every = config.val_every


def curves(one):
    """Steps, training loss (mean of the steps before) and validation loss at each validation."""
    history = one.history.set_index("step")
    val = history["val_loss"].dropna()
    train = history["loss"].rolling(every, min_periods=1).mean().reindex(val.index)
    return val.index.to_numpy(), train.to_numpy(), val.to_numpy()


# %% tags=["nbval-ignore-output"]
steps, train, val_loss = curves(careless)
stop = careful.history["step"].max()
(axes,) = plotting.figure()
plotting.lines(axes, steps, np.stack([train, val_loss]), ["training", "validation"], marker="o", markersize=3)
axes.axvline(stop, color="0.6", linestyle=":")
axes.annotate("early stopping\nends here", (stop, axes.get_ylim()[1]), xytext=(4, -22), textcoords="offset points")
axes.set(xlabel="step", ylabel="loss", title="The training loss falls, the validation loss rises: overfitting")
plt.show()

# %%
if shown:
    assert train[-1] < np.nanmax(train) - 0.3, "it learns the training part"
    assert val_loss[-1] > val_loss.min() + 0.1, "and is worse outside of it than it has been"
    assert stop < config.small_steps, "early stopping does not wait for the end"
kept = careful.searched[config.small_lr]
assert kept == curves(careful)[2].min() <= curves(careful)[2][0]
print("early stopping keeps the weights of the lowest validation loss:", kept <= val_loss[-1])

# %% [markdown]
# ## 5 · A model that became worse is not saved
#
# Early stopping guards the validation *loss*. What counts are the *forecasts*, so these are compared as well: `save`
# refuses a model whose quantile loss rose on the validation or on the test windows, and says by how much.

# %% tags=["nbval-ignore-output"]
scratch = tempfile.TemporaryDirectory()
folder = Path(scratch.name)
try:
    careless.save(folder / "careless")
except ValueError as error:
    print(error)

# %%
print("made worse without early stopping:", bool(careless.worse()))
assert not shown or careless.worse()
assert (folder / "careless").exists() == (not careless.worse())
saved = found.save(folder / "tuned", force=bool(found.worse()))
again = tsfm_lab.load(saved, context_length=config.context_length, num_samples=config.num_samples, device="cpu")
state = found.forecaster.module.cpu().state_dict()
assert all(torch.equal(value, again.module.state_dict()[key]) for key, value in state.items())
assert again.module.state_dict().keys() == open_base().module.state_dict().keys()
print("what is saved opens with the same weights, under the same keys")

# %% [markdown]
# Being early does not make it good, nor being refused bad: with this little data validation and test windows may
# disagree. To keep the base wherever either score rises loses models that would have done well, too: see both.

# %% tags=["nbval-ignore-output"]
columns = {"no early stopping": careless, "early stopping": careful}
pd.concat({label: one.scores for label, one in columns.items()}).xs("wql", level="metric").round(4)

# %% [markdown]
# ## 6 · The recipe for your own table
#
# A DataFrame with a column of dates and one of values is all it takes. Here the table is a stand-in; yours comes from
# `pd.read_csv`.

# %%
frame = pd.DataFrame({"date": series.stamps(), "value": series.target[0]}).iloc[-1000:]

# %% tags=["nbval-ignore-output"]
base = tsfm_lab.load(config.model, context_length=config.context_length, device="cpu")
mine = tsfm_lab.finetune(base, frame, h, lr=config.lr, mode="low_rank", max_steps=config.max_steps, val_every=8)
print(mine.scores.round(4))
if mine.improved:
    mine.save(folder / "my-model")  # tsfm_lab.load(folder / "my-model") opens it

# %% [markdown]
# Then:
#
# 1. Look at `change` on the **test** rows, once. If it is not clearly negative, keep the base model.
# 2. With little data take `mode="head"` or `"low_rank"`, and a smaller `lr`.
# 3. Where there is time, give `lr=None`: a search over five rates, on validation.
# 4. Never choose a setting by its test score. Take more test windows, or wait for new data.

# %%
assert mine.improved == (not mine.worse() and mine.scores.loc[("test", "wql"), "change"] < 0)
assert (folder / "my-model").exists() == mine.improved
scratch.cleanup()
run.finish()

# %% [markdown]
# ## Summary
#
# - On a long regular series a few dozen steps of all weights make a small pretrained model much better. The head alone
#   and low-rank adaptors scatter around no change at this rate: look at the range over the seeds, not at the mean.
# - The peer's learning rate changes nothing that one could see in as many steps; one that a search finds does.
# - On fifty values the training loss falls while the validation loss rises. Early stopping takes the best weights on
#   validation, the base model's if none are better. It does not promise better test forecasts, and the comparison on
#   the same windows says when they are not; such a model is not saved unless asked.
# - One series and one small model: that fine-tuning *can* help is shown here, not that it does on your data. That is
#   what the two columns are for. `papers/moirai.md` has other sets.
#
# ## Exercises
#
# 1. `MODEL = "moirai-moe-tiny"` or `"moirai2-tiny"`: are the ways of training in the same order?
# 2. `DATA = ["sunspots"]` with `PREDICTION_LENGTH = 11`: does fine-tuning help there? What does the history say?
# 3. `RANK = 1`: how much of the low-rank gain is left, for how many trained numbers?
