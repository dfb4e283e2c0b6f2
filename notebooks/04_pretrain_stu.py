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
# # 04 · Is the hybrid as good as the baseline, and what does it cost?
#
# MOIRAI ([2402.02592](https://arxiv.org/abs/2402.02592)) is a transformer over patches of any number of series. We
# replace every other attention layer by a spectral (STU) layer, which convolves each series with a learned combination
# of fixed filters ([2409.10489](https://arxiv.org/abs/2409.10489)), and pretrain both on **the same batches**. Then we
# compare them at equal steps and at equal time, over several seeds, on real series that neither has seen.
#
# **What would falsify the hybrid.** That it forecasts worse by more than the seeds differ; or that its steps take
# longer, as they did in the experiment that this notebook repeats, where the hybrid ran at half the baseline's speed.
#
# At smoke scale the models are tiny and train for seconds, on synthetic and a few real series: enough to see every part
# work, not enough to settle the question. `runs/params/04_pretrain_stu.lab.yaml` and `.full.yaml` are for that.
#
# The same experiment takes MOIRAI's successors and their STU forms: `MODELS = ["moe", "moe_hybrid"]` for MOIRAI-MoE
# ([2410.10469](https://arxiv.org/abs/2410.10469)), `["moirai2", "moirai2_hybrid"]` for MOIRAI-2
# ([2511.11698](https://arxiv.org/abs/2511.11698)); `runs/params/04_pretrain_stu.family.lab.yaml` names all six.

# %% tags=["parameters"]
SCALE = "smoke"  # smoke (about a minute on two CPU cores), lab (one GPU, ten minutes) or full (as published)
# what is compared; a variant of a model is written with its options, see VARIANTS in the preset
MODELS = None  # list of moirai, hybrid, moe, moe_hybrid, moirai2, moirai2_hybrid and variants
SEEDS = None  # list of seeds, of weights and batches alike
VARIANTS = None  # models of the shorter comparison in section 9; an empty list leaves it out
VARIANT_STEPS = None  # optimiser steps of each variant
RESUME_STEPS = None  # optimiser steps of the run that is interrupted in section 8
# data
DATA = None  # list of sets to pretrain on: synthetic, names or pools of the registry, lotsa_v1_unweighted, folders
SYNTHETIC_SERIES = None  # series of the synthetic set
SYNTHETIC_LENGTH = None  # steps of each
HELD_OUT = None  # list of sets of the registry to score forecasts on
HELD_OUT_SERIES = None  # series of each, at most
HELD_OUT_WINDOWS = None  # last windows of each series
CONTEXT_LENGTH = None  # steps of history that a scored forecast sees
NUM_SAMPLES = None  # draws of a scored forecast
# model
D_MODEL = None  # width; 64 channels a head
NUM_LAYERS = None  # layers of the encoder
PATCH_SIZES = None  # list of patch sizes, steps
MAX_SEQ_LEN = None  # tokens of a packed row, and lags of the filters
# optimisation
BATCH_ROWS = None  # packed rows of a batch
MAX_STEPS = None  # optimiser steps of each run
STEPS_PER_EPOCH = None  # steps that the tables count as an epoch
LR = None  # highest learning rate
WEIGHT_DECAY = None  # of AdamW
GRADIENT_CLIP = None  # largest norm of the gradient
WARMUP_STEPS = None  # steps of linear warm-up; takes precedence over WARMUP_FRACTION
WARMUP_FRACTION = None  # warm-up as a share of MAX_STEPS
PRECISION = None  # fp32, tf32 or bf16
COMPILE = None  # True compiles the encoder
VAL_EVERY = None  # steps between two scorings
# machine; nothing here changes the name of the run
MICRO_ROWS = None  # rows of one forward pass; lower it when memory is short, the steps stay the same
NUM_WORKERS = None  # processes that make batches
DEVICE = None  # auto, cpu or gpu
CHECKPOINT_STEPS = None  # steps between two checkpoints
CHECKPOINT_MINUTES = None  # minutes between two checkpoints
TENSORBOARD = None  # True writes TensorBoard files too

# %%
import itertools
import os
import signal

import numpy as np
import pandas as pd
import torch
from matplotlib import pyplot as plt

from tsfm_lab import plotting
from tsfm_lab.data import Series, as_sample, load, packing_waste, pretraining_chain, trace_chain
from tsfm_lab.evaluation import (
    HeldOutScore,
    at_equal_steps,
    at_equal_time,
    open_held_out,
    read_metrics,
    save_table,
    table_of_runs,
)
from tsfm_lab.runs import Preempted, open_run, resolve_config
from tsfm_lab.training import Validation, make_mixture, make_pretraining, make_stream, same_task, train
from tsfm_lab.training.presets import PRESETS

plotting.use_theme()
config = resolve_config(PRESETS["04_pretrain_stu"], globals())
run = open_run("04_pretrain_stu", config)
run.start()
if config.scale == "smoke":
    torch.set_num_threads(1)  # the matrices are too small for more, and sums keep their order

# %% [markdown]
# `None` stands for the preset's value, and a misspelt parameter is refused. The hash of the configuration names the
# directory `run.path`; a child directory for each model and seed holds its `metrics.csv`, checkpoints and trained
# weights. Running this notebook again goes on where it stopped. A variant of a model is written
# `moirai_hybrid+num_eigh=8+causal=false`, a set that counts as 20 series `elnino=20`.

# %% [markdown]
# ## 1 · From a series to tokens: the ten transforms
#
# We take twelve quarterly series of the US economy, blank four years of each to have something missing, and let them
# through MOIRAI's pretraining chain. `trace_chain` yields the sample after each transform.

# %%
real = load("macrodata")[0]
target = real.target.copy()
target[:, 100:116] = np.nan
holed = Series(real.item_id, real.start, real.freq, target)
chain = pretraining_chain((8, 16, 32), max_seq_len=64, max_dim=4)
after = dict(trace_chain(chain, as_sample(holed), np.random.default_rng(22)))
p = after["GetPatchSize"]["patch_size"]
packed = after["PackFields"]["target"]  # (c t)
c, n = packed.shape[0], packed.shape[1] // p
f"{holed.target.shape[0]} variates of {holed.length} steps → {c} variates of {n} patches of {p} steps"


# %%
def standardise(rows):
    """Each row to mean 0 and deviation 1, so that all fit one panel."""
    rows = np.asarray(rows, dtype=float)
    return (rows - np.nanmean(rows, axis=-1, keepdims=True)) / np.nanstd(rows, axis=-1, keepdims=True)


observed, imputed = after["AddObservedMask"]["observed_mask"]["target"], after["ImputeTimeSeries"]["target"]
mask, tokens = after["MaskedPrediction"]["prediction_mask"], after["SelectFields"]
drawn = {  # (rows steps) are drawn as lines, and as an image where they say so
    "SampleDimension": standardise(after["SampleDimension"]["target"]),
    f"GetPatchSize: {p} steps": standardise(after["GetPatchSize"]["target"][:1]),
    "PatchCrop": standardise(after["PatchCrop"]["target"]),
    "PackFields: image (c t)": standardise(packed),
    "AddObservedMask: image (c t)": observed,
    "ImputeTimeSeries: 0": standardise(imputed),
    "Patchify: image (c·n 32)": after["Patchify"]["target"].reshape(c * n, -1) != 0,
    "Add…Index: image of time_id": after["AddTimeIndex"]["time_id"]["target"],
    "MaskedPrediction: image (c n)": mask,
    "FlatPackCollection: image": np.stack(
        [standardise(tokens[k]) for k in ("variate_id", "time_id", "prediction_mask")]
    ),
}

# %%
figure, panels = plt.subplots(2, 5, figsize=(10.5, 3.6))
for panel, (title, rows) in zip(panels.flat, drawn.items(), strict=True):
    name, _, image = title.partition(": image")
    if image or title.endswith(": image"):
        panel.imshow(rows, aspect="auto", interpolation="nearest", cmap="cividis")
        panel.grid(visible=False)
    else:
        plotting.lines(panel, np.arange(rows.shape[-1]), rows)
    panel.set(title=name + image.replace(" of", ":"), xlabel="step" if rows.shape[-1] > 4 * n else "")
panels[0, 1].set_xticks(np.arange(0, holed.length, p), labels=[])
panels[0, 1].set_xlabel("a tick each patch")
panels[1, 2].set_yticks(range(c), labels=after["AddVariateIndex"]["variate_id"]["target"][:, 0])
panels[1, 2].set(xlabel="patch", ylabel="variate_id")
panels[1, 3].set_xlabel("patch")
panels[1, 4].set(xlabel="token", yticks=range(3), yticklabels=["variate", "time", "mask"])
plt.show()

# %% [markdown]
# The model sees the fields of the last panel only: patches padded to one length, each with its patch size, its series,
# its place in time, and whether it is to be predicted. What each transform promises:

# %%
assert (imputed[~observed] == 0).all()
assert not observed.all()
assert not after["Patchify"]["target"][..., p:].any()
assert (np.diff(mask.astype(int), axis=1) >= 0).all()  # the mask is a suffix …
assert abs(mask.mean() - 0.325) <= 0.175 + 1 / n  # … of 15 to 50 % of the patches, rounded
assert tokens["target"].shape == (c * n, 32)

# %% [markdown]
# ## 2 · The same batches for every model
#
# Samples are packed into rows of `max_seq_len` tokens, and the batch of a step is a pure function of (seed, step):
# whatever the model, the number of processes, and however often the run was interrupted. MOIRAI-2 alone, which reads
# patches of 16 steps only, has batches of its own, from the same series.

# %%
mixture = make_mixture(config)
stream = make_stream(config, mixture, seed=config.seeds[0])
batch, again = stream.batch(7), make_stream(config, mixture, seed=config.seeds[0]).batch(7)
assert all(torch.equal(batch[name], again[name]) for name in again)
print(f"{len(mixture)} series by weight: {', '.join(sorted({s.collection.name for s in mixture.sources})[:8])}")
print(f"a batch is {tuple(batch['sample_id'].shape)} tokens of up to {batch['target'].shape[-1]} steps;", end=" ")
print(f"{int((batch['sample_id'].max(1).values).sum())} samples, {packing_waste(batch):.1%} padding")

# %% [markdown]
# ## 3 · Two models that differ in half of their layers
#
# An STU layer in its approximate form has fewer parameters than an attention layer: one projection of the channels and
# one filter each instead of four projections. `match_parameters` widens the hybrid's feed-forward layers until the
# counts agree.

# %%
specs = list(dict.fromkeys([*config.models, "moirai_hybrid+match_parameters=true"]))
modules = {spec: make_pretraining(spec, config, seed=0).module for spec in specs}
counts = {spec: sum(parameter.numel() for parameter in module.parameters()) for spec, module in modules.items()}
layers = {spec: getattr(module.encoder, "layer_pattern", "all attention") for spec, module in modules.items()}
pd.DataFrame({"parameters": counts, "layers": {spec: str(pattern) for spec, pattern in layers.items()}})

# %%
if {"moirai", "moirai_hybrid"} <= counts.keys():
    assert counts["moirai_hybrid"] < counts["moirai"]
    assert abs(counts["moirai_hybrid+match_parameters=true"] / counts["moirai"] - 1) < 1e-3

# %% [markdown]
# ## 4 · The yardstick: real series that are held out
#
# We score forecasts of the last windows of each held-out set. MASE is the absolute error of the median as a share of
# the average seasonal change in the history; WQL is the quantile loss over nine levels, the CRPS of the tables. During
# training both are recorded **as a share of the seasonal naive forecast's**, geometric mean over the sets: 1 is as good
# as repeating the last season.

# %%
held_out = [
    open_held_out(name, num_series=config.held_out_series, num_windows=config.held_out_windows)
    for name in config.held_out
]
score = HeldOutScore(held_out, context_length=config.context_length, num_samples=config.num_samples)
validation = Validation(score, score.names, every=config.val_every)
pd.DataFrame(score.naive).T.assign(horizon=[s.horizon for s in held_out], windows=[len(s.labels) for s in held_out])

# %% [markdown]
# ## 5 · Pretraining
#
# The loss is the negative log-likelihood of the masked patches under a mixture of a Student-t, a narrow normal, a
# negative binomial and a log-normal, each series weighing the same. The decoders foresee the same patches from the
# tokens before them: MOIRAI-MoE the next one under the same mixture, MOIRAI-2 the next four under the quantile loss.
# AdamW, linear warm-up, then a cosine, gradients clipped to norm 1. Under each seed the models take turns, so that a
# disturbance of the machine meets all.

# %% tags=["nbval-ignore-output"]
trained = {}
for seed in config.seeds:
    for spec in config.models:
        trained[spec, seed] = train(
            spec, config, run, mixture, seed=seed, validation=validation, log_lines=2 if config.scale == "smoke" else 6
        ).module

# %% tags=["nbval-ignore-output"]
runs_table = table_of_runs(run.path, config.steps_per_epoch)
save_table(runs_table, run.path / "runs.csv")
runs_table.round(2)

# %%
metrics = read_metrics(run.path)
save_table(metrics, run.path / "metrics_of_all.csv")
assert set(runs_table["status"]) == {"finished"}
smooth = max(10, config.max_steps // 10)
for (spec, seed), group in metrics.groupby(["model", "seed"]):
    loss, wql = group["loss"].dropna(), group["val_wql"].dropna()
    assert loss.tail(smooth).mean() < loss.head(smooth).mean(), f"the loss of {spec} (seed {seed}) does not fall"
    assert wql.iloc[-1] < wql.iloc[0], f"{spec} (seed {seed}) forecasts no better than untrained"

# %% [markdown]
# Every run's loss falls, and every trained model forecasts the held-out series better than it did untrained. The table
# is the source's table of runs, with what it took: steps a second (median over the steps) and seconds for an epoch.

# %% [markdown]
# ## 6 · Equal steps, equal time
#
# Steps are the fair unit if data is what limits us, seconds if compute is. At equal time the slower model has made
# fewer steps and has not reached the end of its learning-rate schedule, which counts against it. A batch is easy or
# hard for both models alike, so we also draw the difference of their losses on the same batch, for those that share
# batches and task with the first; across tasks only the scores compare.

# %% tags=["nbval-ignore-output"]
axes = plotting.figure(4, width=11, height=2.6)
by_step = metrics.groupby(["model", "step"])[["time_s", "loss", "val_wql"]]
curves, deviation = by_step.mean(), by_step.std().fillna(0)
first = curves.loc[config.models[0], "loss"]
for number, spec in enumerate(config.models):
    curve, style = curves.loc[spec], {"color": f"C{number}"}
    loss, gap, wql = curve["loss"].dropna(), (curve["loss"] - first).dropna(), curve["val_wql"].dropna()
    smoothed, smooth_gap = (values.rolling(smooth).mean() for values in (loss, gap))
    plotting.lines(axes[0], smoothed.index, smoothed, [spec], xlabel="step", ylabel="loss", **style)
    if same_task(spec, config.models[0]):
        plotting.lines(
            axes[1], gap.index, smooth_gap, xlabel="step", ylabel=f"loss − loss of {config.models[0]}", **style
        )
    spread = deviation.loc[spec, "val_wql"][wql.index]
    plotting.lines(axes[2], wql.index, wql, spread=spread, xlabel="step", ylabel="WQL / seasonal naive", **style)
    plotting.lines(
        axes[3], curve["time_s"].fillna(0)[wql.index], wql, xlabel="seconds", ylabel="WQL / seasonal naive", **style
    )
axes[0].set_title("Loss, and score on held-out series: mean, and standard deviation over the seeds")
plt.show()

# %% tags=["nbval-ignore-output"]
columns = ["loss", "val_mase", "val_wql"]
equal = {"steps": at_equal_steps(metrics, columns, smooth), "time": at_equal_time(metrics, columns, smooth)}
comparison = pd.concat(equal, names=["equal", "row"]).reset_index("equal")
save_table(comparison, run.path / "comparison.csv")
summary = comparison.groupby(["equal", "model"])[["step", "time_s", *columns]].agg(["mean", "std"])
summary.round(3)

# %% [markdown]
# The standard deviation is over the seeds. For the scores a difference between the models that is smaller says nothing.
# The losses of one seed are of the same batches, so for them only the difference under each seed counts:

# %% tags=["nbval-ignore-output"]
by_seed = equal["steps"].pivot(index="seed", columns="model", values="loss")
by_seed.sub(by_seed[config.models[0]], axis=0).round(3)

# %% [markdown]
# ## 7 · What the forecasts look like
#
# Neither model continues the season of co2: after a minute of training its median wavers around the level, and its MASE
# is about twice that of seasonal naive. On nile, which has no season, both are better than the last value.


# %% tags=["nbval-ignore-output"]
def draw_forecast(panel, s, spec, color):
    """Median and the 10 to 90 % interval of the last window of a held-out set."""
    forecast = score.forecaster(trained[spec, config.seeds[0]])(s.histories[-1:], s.horizon)
    steps = np.arange(s.horizon)
    panel.fill_between(steps, forecast.quantiles[0, 0], forecast.quantiles[0, -1], alpha=0.2, color=color, linewidth=0)
    panel.plot(steps, forecast.quantiles[0, 4], color=color, label=spec)


axes = plotting.figure(min(len(held_out), 3), width=9)
for panel, s in zip(axes, held_out, strict=False):
    past = s.histories[-1][-3 * s.horizon :]
    panel.plot(np.arange(-len(past), 0), past, color="gray")
    panel.plot(np.arange(s.horizon), s.labels[-1], color="black", label="observed")
    for number, spec in enumerate(config.models):
        draw_forecast(panel, s, spec, f"C{number}")
    panel.set(title=f"{s.name}: median and 80 % interval", xlabel="step from the forecast's start")
axes[0].legend(fontsize="small")
plt.show()

# %% tags=["nbval-ignore-output"]
rows = [
    {"set": name, "model": spec, "seed": seed, **values}
    for (spec, seed), module in trained.items()
    for name, values in score.by_set(module).items()
]
rows += [{"set": name, "model": "seasonal naive", "seed": 0, **values} for name, values in score.naive.items()]
results = pd.DataFrame(rows)
save_table(results, run.path / "results.csv")
results.groupby(["set", "model"])[["mase", "wql"]].agg(["mean", "std"]).round(4)

# %% [markdown]
# ## 8 · Interrupted and resumed
#
# A cluster may ask a job to stop. We send this process the signal that SLURM would send, in the middle of a short run:
# training writes a checkpoint and raises `Preempted`. The same call then goes on, and its losses are those of a run
# that nobody interrupted – on a CPU bit for bit.

# %% tags=["nbval-ignore-output"]
half = max(1, config.resume_steps // 2)
short = {"seed": config.seeds[0], "max_steps": config.resume_steps, "log_lines": 0}
_ = train(config.models[-1], config, run.child("unbroken"), mixture, **short)


def interrupt(module, calls=itertools.count()):  # noqa: B008
    """No score, but a signal at the second call; the first is before the first step."""
    if next(calls) == 1:
        os.kill(os.getpid(), signal.SIGUSR1)
    return {}


try:
    stop = Validation(interrupt, (), every=half)
    train(config.models[-1], config, run.child("interrupted"), mixture, validation=stop, **short)
except Preempted as stopped:
    print(stopped)
_ = train(config.models[-1], config, run.child("interrupted"), mixture, **short)

# %%
unbroken, resumed = (read_metrics(run.path / name).dropna(subset="loss") for name in ("unbroken", "interrupted"))
assert table_of_runs(run.path / "interrupted", 1)["attempts"].item() == 2
assert unbroken["step"].tolist() == resumed["step"].tolist() == list(range(1, config.resume_steps + 1))
difference = np.abs(unbroken["loss"].to_numpy() - resumed["loss"].to_numpy()).max()
assert difference == 0 if torch.get_num_threads() == 1 else difference < 1e-3
f"{len(resumed)} steps in two attempts; largest difference of a loss: {difference:g}"

# %% [markdown]
# ## 9 · What the source leaves open
#
# How many filters, which layers, shared or separate branches, one segment a series or a sample, causal or two-sided,
# approximate or full, and is it the parameters? Each variant changes one thing. At smoke scale this is a demonstration
# of the grid: a few steps under one seed decide nothing, nor do speeds of one short run each.
# `runs/params/04_pretrain_stu.ablation.lab.yaml` and `.ablation.full.yaml` run the same list as `MODELS`, over seeds.

# %% tags=["nbval-ignore-output"]
grid = run.child("variants")
for spec in config.variants:
    train(
        spec,
        config,
        grid,
        mixture,
        seed=config.seeds[0],
        max_steps=config.variant_steps,
        log_lines=0,
        validation=Validation(score, score.names, every=config.variant_steps),
    )

# %% tags=["nbval-ignore-output"]
compared = grid.path if config.variants else run.path
table = table_of_runs(compared, config.steps_per_epoch)[["model", "seed", "parameters", "steps", "steps_per_s"]]
ablation = table.merge(at_equal_steps(read_metrics(compared), columns, smooth), on=["model", "seed"]).drop(
    columns="step"
)
save_table(ablation, run.path / "ablation.csv")
ablation.round(3)

# %% tags=["nbval-ignore-output"]
panels = {"loss": "loss", "val_wql": "WQL / seasonal naive", "steps_per_s": "steps/s"}
spread = ablation.groupby("model", sort=False)[list(panels)].agg(["mean", "std"]).fillna(0)
names = [spec.replace("moirai_hybrid+", "") for spec in spread.index]
axes = plotting.figure(3, width=9, height=0.8 + 0.22 * len(spread), sharey=True)
for panel, (column, label) in zip(axes, panels.items(), strict=True):
    panel.errorbar(spread[column]["mean"], range(len(spread)), xerr=spread[column]["std"], fmt="o")
    panel.set(xlabel=label, yticks=range(len(spread)), yticklabels=names)
axes[0].invert_yaxis()
axes[0].set_title(f"Variants after {int(ablation['steps'].min())} steps")
plt.show()

# %%
run.finish()

# %% [markdown]
# ## Summary
#
# - One chain of small transforms makes the batches, and a batch depends on nothing but (seed, step): both models see
#   the same data, and an interrupted run repeats the unbroken one's losses.
# - Both models learn: their loss falls and their forecasts of held-out real series beat the untrained model's.
# - By the tests above: the scores of the two differ by no more than their seeds do; and a hybrid of this size takes
#   about as long for a step as the baseline, now a little more, now less (at 384/6/6 it takes .84 to .89 of it:
#   `runs/LOG.md`).
# - The comparison is in three tables: of the runs (speed, time of an epoch), at equal steps and equal time with the
#   spread over seeds, and of the variants. All are in `run.path` as CSV files, beside the trained weights.
# - A tiny model after a minute says little about a large one after a day. What larger runs have shown stands in
#   `papers/moirai.md` and `runs/LOG.md`, with the run it comes from.
#
# ## Exercises
#
# 1. Train on `DATA = ["synthetic"]` alone and on real series alone. Which held-out set suffers?
# 2. With shared branches every odd lag of a filter is zero. Does `branches=separate` show in the loss? Over how many
#    seeds do you have to look?
# 3. Halve `BATCH_ROWS` and double `MAX_STEPS`. Which of the two comparisons changes its verdict?
