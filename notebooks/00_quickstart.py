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
# # 00 · What can I forecast in five minutes?
#
# A table of your own, with a model of each family of this workbook. We take a real series as a DataFrame, forecast it
# with one call, draw what four small models say of it, and score them on windows that none of them has seen.
#
# Nothing is downloaded. The models ship with the package, about a million parameters each, pretrained for minutes on
# one CPU core on synthetic series and two small real sets (`elnino`, `macrodata`), so they show how things work rather
# than what a foundation model can do: `SCALE = "lab"` adds the published small checkpoints, which need a network once.
#
# **What would falsify their use.** That they are no better than *seasonal naive*, which repeats the last season.

# %% tags=["parameters"]
SCALE = "smoke"  # smoke (seconds on a CPU), lab (adds the published small models) or full (the published large ones)
MODELS = None  # list of shipped checkpoints, folders of your own, runs' directories or hub ids
CLASSICAL = None  # list of classical forecasters to compare with
DATA = None  # list of sets of the registry that have a horizon; the first is drawn
CONTEXT_LENGTH = None  # steps of history that a model sees
WINDOWS = None  # last windows of each series that are scored
DEVICE = None  # cpu or cuda, of the models

# %%
import numpy as np
import pandas as pd
import torch
from matplotlib import dates
from matplotlib import pyplot as plt

import tsfm_lab
from tsfm_lab import plotting
from tsfm_lab.data import load as load_data
from tsfm_lab.data.registry import find
from tsfm_lab.evaluation import open_held_out, save_table
from tsfm_lab.evaluation.evaluate import domain_of
from tsfm_lab.runs import open_run, resolve_config
from tsfm_lab.training.presets import PRESETS

plotting.use_theme()
config = resolve_config(PRESETS["00_quickstart"], globals())
run = open_run("00_quickstart", config)
run.start(device=config.device)
if config.scale == "smoke":
    torch.set_num_threads(1)  # the matrices are too small for more, and sums keep their order

# %% [markdown]
# ## 1 · A real series in a DataFrame
#
# The carbon dioxide over Mauna Loa, weekly since 1958, with gaps where the instrument stood still. A time column and a
# value column are all that is needed; NaN is a missing value. We keep the last year to compare with.

# %%
name = config.data[0]
series, horizon = load_data(name)[0], find(name).horizons[0]
stamps = pd.date_range(series.start, periods=series.length, freq=series.freq)
table = pd.DataFrame({"timestamp": stamps, name: series.target[0]})
past, future = table[:-horizon], table[-horizon:]
print(f"{len(table)} steps of {series.freq}, {int(table[name].isna().sum())} missing; the last {horizon} are kept back")
past.tail(3)

# %% [markdown]
# ## 2 · One call
#
# `tsfm_lab.load` opens whatever forecasts: a checkpoint that ships, a folder, a run of this workbook, an id on the hub,
# or a classical method. `forecast` takes the table and gives a long one: an item, a stamp, the mean and nine quantiles.

# %% tags=["nbval-ignore-output"]
forecaster = tsfm_lab.load(config.models[0], context_length=config.context_length, device=config.device)
forecast = forecaster.forecast(past, prediction_length=horizon)
assert (pd.DatetimeIndex(forecast["timestamp"]) == pd.DatetimeIndex(future["timestamp"])).all()
levels = [column for column in forecast if column.startswith("0.")]
assert (np.diff(forecast[levels], axis=1) >= 0).all()  # quantiles do not cross
forecast[["item_id", "timestamp", "0.1", "0.5", "0.9"]].head(3).round(1)


# %% [markdown]
# ## 3 · A model of each family
#
# MOIRAI sees all patches at once and fills in the masked future; its hybrid has spectral (STU) layers in place of half
# of the attention layers; MOIRAI-MoE draws the next patch again and again, through layers of experts; MOIRAI-2 gives
# quantiles instead of a law. Notebook 03 takes them apart.

# %%
forecasters = {
    **{spec: tsfm_lab.load(spec, context_length=config.context_length, device=config.device) for spec in config.models},
    **{spec: tsfm_lab.load(spec, season=find(name).season_length) for spec in config.classical},
}
forecasts = {spec: model.forecast(past, prediction_length=horizon) for spec, model in forecasters.items()}
assert all(len(rows) == horizon and rows[levels].notna().all(axis=None) for rows in forecasts.values())

# %%
rows = -(-len(forecasts) // 2)
figure, panels = plt.subplots(rows, 2, figsize=(9, 1.6 * rows), sharex=True, sharey=True, squeeze=False)
shown = table[-4 * horizon :]
for panel, (spec, found) in zip(panels.flat, forecasts.items(), strict=False):
    panel.plot(shown["timestamp"], shown[name], color="gray", linewidth=0.8)
    panel.fill_between(found["timestamp"], found["0.1"], found["0.9"], alpha=0.3, linewidth=0)
    panel.plot(found["timestamp"], found["0.5"])
    panel.set_title(spec)
for panel in panels[:, 0]:
    panel.set_ylabel(name)
panels[0, 0].xaxis.set_major_locator(dates.AutoDateLocator(minticks=3, maxticks=9))
panels[0, 0].xaxis.set_major_formatter(dates.ConciseDateFormatter(panels[0, 0].xaxis.get_major_locator()))
for panel in panels.flat[len(forecasts) :]:
    panel.set_visible(False)
figure.suptitle(
    "The last year: what came (gray), the median and the central 80 %", fontsize="medium", x=0.02, ha="left"
)
plt.show()

# %% [markdown]
# ## 4 · How good is that?
#
# One picture is no evidence. We score the last windows of each set: MASE is the absolute error of the median, WQL the
# quantile loss over nine levels, both **as a share of seasonal naive's**, so that 1 is as good as repeating the last
# season (for the yearly Nile: the last year). The models were pretrained on neither set: their records say so, and
# `tsfm_lab.evaluation` marks the rows of a model that was.

# %% tags=["nbval-ignore-output"]
scores = {spec: {} for spec in forecasters}
for held_out in [open_held_out(data, num_series=20, num_windows=config.windows) for data in config.data]:
    for spec, model in forecasters.items():
        if spec in config.classical:
            model.season = find(held_out.name).season_length
        found = held_out.score(model.forecast)
        scores[spec].update({f"{held_out.name} {metric.upper()}": value for metric, value in found.items()})
absolute = pd.DataFrame.from_dict(scores, orient="index")
comparison = absolute / absolute.loc["seasonal_naive"]
save_table(comparison.rename_axis("model").reset_index(), run.path / "comparison.csv")
comparison.round(2)

# %%
for spec in config.models:
    marks = {domain_of(forecasters[spec], data)[0] for data in config.data}
    print(f"{spec}: {', '.join(forecasters[spec].pretraining or ['not recorded'])}; these sets are {', '.join(marks)}")
    assert "in domain" not in marks
median_error = held_out.naive_score()["mase"]  # computed without a forecaster
assert np.isclose(absolute.loc["seasonal_naive", f"{held_out.name} MASE"], median_error)
if config.scale == "smoke":
    assert (comparison.loc[list(config.models)].filter(like="MASE") < 1).all(axis=None)

# %% [markdown]
# All four have a smaller MASE than seasonal naive on both sets. Theta, fitted to each series by itself, has as small a
# MASE as the best of them on the first and a smaller one than most on the second, but a larger WQL. Two series say
# little: the README has the table over 27 held-out sets and three seeds (`python -m tsfm_lab.bench shipped`).
#
# ## 5 · Your own table
#
# Several series stand in a long table, by a column `item_id`, or side by side in a wide one. They may have any length
# and gaps. Covariates are columns too: `past=[…]` if they end with the target, `known=[…]` if their future is known.

# %% tags=["nbval-ignore-output"]
months = pd.date_range("2020-01-31", periods=60, freq="ME")
season = 10 + 3 * np.sin(2 * np.pi * np.arange(60) / 12)
wide = pd.DataFrame({"Rome": season, "Oslo": season - 8}, index=months)
wide.loc[months[20:23], "Oslo"] = np.nan
own = forecaster.forecast(wide, prediction_length=12, quantile_levels=(0.1, 0.5, 0.9))
assert own.groupby("item_id").size().to_dict() == {"Oslo": 12, "Rome": 12}
own.groupby("item_id").head(2).round(1)

# %% [markdown]
# What cannot be forecast is refused, with what is wrong and what to do:

# %%
for attempt in (
    lambda: tsfm_lab.load("moirai-tyni"),
    lambda: forecaster.forecast(wide.iloc[[0, 2, 1, 3, 5, 4]].assign(city="Rome"), prediction_length=12),
    lambda: forecaster.forecast(wide, prediction_length=12, quantile_levels=(0.5, 1.5)),
):
    try:
        attempt()
    except ValueError as error:
        print("·", str(error)[:120])
run.finish()

# %% [markdown]
# ## Summary
#
# - Two lines forecast a table: `tsfm_lab.load(name)`, `.forecast(table, prediction_length)`.
# - Four families and the classical methods share that surface, GluonTS data sets and plain arrays included
#   (`forecaster.create_predictor()`).
# - Whether a model is of use is a share of seasonal naive's score on data that it has not seen; the README has a table
#   of all held-out sets and three seeds.
#
# Next: `03_architectures` (what the models are), `04_pretrain_stu` (train them), `07_evaluation` (score them by the
# benchmarks' protocols), `08_finetune` (fit one to your data), `09_inside_the_models` (what they learned).
#
# ## Exercises
#
# 1. Set `CONTEXT_LENGTH` to 104 weeks. Which models lose the trend, which the season?
# 2. Forecast `load_data("elnino")`. Why may its score not stand in the table above?
# 3. Open a checkpoint of your own: notebook 04 leaves them in `runs/04_pretrain_stu/…/moirai-s0`.
