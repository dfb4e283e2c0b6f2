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
# # 09 · What did the layers learn?
#
# Four trained models lie open: MOIRAI, its STU hybrid, a MOIRAI-MoE and a MOIRAI-2. We read the attention off by layer
# and head, lay the learned filters of the STU layers beside it with their poles and memory, see which expert takes
# which token, leave layers out, ask each layer for the period and the trend of series that we made, and measure how
# alike the layers of baseline and hybrid are.
#
# **What would falsify a finding: its control.** A picture of a trained model shows what was learned, what the
# architecture brings along and what the data alone make of it. So every look is repeated on an untrained twin, with
# shuffled labels or with even attention, and only what exceeds the control is called learned. What may come out either
# way is printed, and not asserted.

# %% tags=["parameters"]
SCALE = "smoke"  # "smoke" (the small checkpoints that ship, two CPU cores), "lab" or "full" (one GPU)
# what is looked into: a checkpoint that ships, a folder, a run's directory of a trained model, or a hub id
BASELINE = None  # a MOIRAI with attention in every layer
HYBRID = None  # one with causal STU layers
EXPERTS = None  # one with experts
DECODER = None  # a causal one with quantiles
SEED = None  # of the untrained twins and of what is drawn
SEASON_STEPS = None  # season of the series in which heads may find it
SEASON_TWINS = None  # untrained twins that a head which finds the season has to exceed
PATCH_SIZE = None  # steps of a token; one that all four have
CONTEXT_TOKENS = None  # tokens that are read
HORIZON_TOKENS = None  # tokens that are to be predicted
PROBE_SERIES = None  # series with a known period and trend
ABLATION_SERIES = None  # the first of them, on which layers are left out
PATTERN_SERIES = None  # series of each pattern that experts are asked about
DRAWS = None  # shuffles of a permutation null
HELD_OUT = None  # list of sets of the registry on which layers are left out
HELD_OUT_WINDOWS = None  # last windows of each series
SCORE_CONTEXT = None  # steps of history that a scored forecast sees
NUM_SAMPLES = None  # draws of a scored forecast
DEVICE = None  # "cpu" or "cuda"

# %%
from contextlib import ExitStack

import numpy as np
import pandas as pd
import torch
from matplotlib import pyplot as plt
from scipy.stats import ks_2samp

import tsfm_lab
from tsfm_lab import inside, plotting
from tsfm_lab.data import load
from tsfm_lab.evaluation import HeldOutScore, open_held_out, save_table
from tsfm_lab.models.moirai_hybrid import count_parameters
from tsfm_lab.nn import STUCore
from tsfm_lab.runs import open_run, resolve_config
from tsfm_lab.training.presets import PRESETS

plotting.use_theme()
plt.rcParams["figure.dpi"] = 76  # maps are large files
config = resolve_config(PRESETS["09_inside_the_models"], globals())
run = open_run("09_inside_the_models", config)
run.start(device=config.device)
if config.scale == "smoke":
    torch.set_num_threads(1)  # the matrices are too small for more, and sums keep their order

# %% [markdown]
# ## 1 · The models, and their twins
#
# `untrained_twin` makes a model of the same class and configuration with weights that have seen nothing.

# %%
names = {"baseline": config.baseline, "hybrid": config.hybrid, "experts": config.experts, "decoder": config.decoder}
models = {role: tsfm_lab.load(name, device=config.device).module for role, name in names.items()}
twins = {role: inside.untrained_twin(module, seed=config.seed) for role, module in models.items()}
layers = {role: module.encoder.layers for role, module in models.items()}
pd.DataFrame(
    {
        role: {
            "checkpoint": names[role],
            "class": type(module).__name__,
            "parameters": f"{count_parameters(module):,}",
            "layers": " ".join("STU" if hasattr(layer, "stu") else "attention" for layer in layers[role]),
        }
        for role, module in models.items()
    }
).T

# %%
stu = inside.stu_layers(models["hybrid"])
assert stu
assert all(layer.causal for layer in stu.values())  # filters from lag 0 on, which have poles
assert not inside.stu_layers(models["baseline"])
for role, module in models.items():
    assert count_parameters(module) == count_parameters(twins[role])
    assert config.patch_size in module.patch_sizes

# %% [markdown]
# ## 2 · Attention maps beside learned filters
#
# An attention layer computes $W v$ with weights $W$ that it never hands out. We read them off with unit vectors as
# values, $W I = W$: masks, bias and rotation are then the layer's own. To see that nothing was made up, we put $W v$
# through the layer's last projection and compare with what the layer gave.

# %%
p, horizon = config.patch_size, config.horizon_tokens * config.patch_size
length = config.context_tokens * p + horizon
co2 = pd.Series(load("co2")[0].target[0]).interpolate().to_numpy()[None, -length:]
batches = {role: inside.pack_rows(co2, module, p, horizon) for role, module in models.items()}
maps = {role: inside.attention_maps(module, batches[role]) for role, module in models.items()}
for role, module in models.items():
    last = max(maps[role])
    attention, seen = layers[role][last].self_attn, {}
    hook = attention.register_forward_hook(lambda _, inputs, output, seen=seen: seen.update(x=inputs, y=output))
    with torch.no_grad():
        module(**batches[role])
        v = attention.project(*seen["x"][:2])[2].repeat_interleave(attention.num_heads // attention.num_groups, dim=2)
        mixed = attention.out_proj(torch.einsum("bhqk,bkhe->bqhe", maps[role][last], v).flatten(2))
    hook.remove()
    torch.testing.assert_close(mixed, seen["y"], rtol=1e-3, atol=1e-4)

# %%
for role in ("experts", "decoder"):
    for weights in maps[role].values():
        assert not weights.triu(1).any()  # the causal models look back alone
for weights in maps["baseline"].values():
    assert (weights.triu(1).sum((-2, -1)) > 0).all()  # MOIRAI looks ahead too, at hidden tokens
    torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]))

# %% [markdown]
# The weights are drawn as a multiple of **even attention**, the control: what the mask alone would give. An STU layer
# has no weights that depend on the input: it convolves each of its channels with one filter, whatever the series.


# %%
def draw_map(panel, weights, title):
    """log₂ of the weight over the even one: 0 is as the mask alone would have it."""
    ratio = torch.log2(weights / inside.uniform_attention(weights))[0, 0].cpu()
    panel.imshow(ratio, cmap=plt.get_cmap("vlag", 7), vmin=-3, vmax=3, aspect="auto", interpolation="nearest")
    panel.grid(visible=False)
    panel.set(title=title, xticks=[0, config.context_tokens], yticks=[0, config.context_tokens])


def draw_filters(panel, filters, title):
    """Filters of 32 channels, from short to long by mean lag, each as a share of its largest tap."""
    some = torch.linspace(0, len(filters) - 1, 32).long()
    chosen = filters[inside.mean_lag(filters.square()).argsort()[some]][:, : config.context_tokens]
    scaled = chosen / chosen.abs().amax(1, keepdim=True)
    panel.imshow(scaled, cmap=plt.get_cmap("vlag", 7), vmin=-1, vmax=1, aspect="auto", interpolation="nearest")
    panel.grid(visible=False)
    panel.set(title=title, xlabel="lag, tokens", ylabel="channel, by mean lag", yticks=[])


filters = {n: inside.channel_filters(layer) for n, layer in stu.items()}
shown = np.unique(np.linspace(0, len(layers["hybrid"]) - 1, 4).astype(int))  # at most four layers, two heads

# %%
heads = range(min(2, *(weights.shape[1] for role in ("baseline", "hybrid") for weights in maps[role].values())))
rows = [(role, head) for role in ("baseline", "hybrid") for head in heads]
grid = [[f"{role} {n} {head}" if n in maps[role] else f"{role} {n}" for n in shown] for role, head in rows]
figure, panels = plt.subplot_mosaic(grid, figsize=(7.5, 5.2))
for key, panel in panels.items():
    role, n, *head = key.split()
    if head:
        draw_map(panel, maps[role][int(n)][:, [int(head[0])]], f"{role} {n}, head {head[0]}")
    else:
        draw_filters(panel, filters[int(n)], f"{role} {n}: filters")
figure.supylabel("token that looks", fontsize="medium")
figure.suptitle("co2: where a token looks, as a multiple of even attention, by layer and head; filters", x=0, ha="left")
plt.show()

# %% [markdown]
# Red is more than even, blue less, white as the mask has it; the scale ends at 8 times and one eighth. Rows are tokens
# that look, columns those looked at; the last ones are hidden. Filters are those of 32 channels, each as a share of
# its largest tap.
#
# That the filters are what the layer does we see from the layer itself: an impulse in each channel in turn comes out
# with the energy that the filters have, lag by lag. With shared branches every odd lag is zero, whatever was learned.

# %%
for n, layer in stu.items():
    channels = torch.arange(layer.d_model)
    impulses = torch.zeros(layer.d_model, layer.seq_len, layer.d_model, device=config.device)
    impulses[channels, 0, channels] = 1
    with torch.no_grad():
        response = STUCore.forward(layer, impulses).double().cpu()  # (i l o)
    torch.testing.assert_close(response.square().sum(0).T, inside.output_energy(layer), rtol=1e-3, atol=1e-6)
    if layer.use_approx and models["hybrid"].config["branches"] == "shared":
        assert not filters[n][:, 1::2].any()

# %% [markdown]
# ## 3 · Does a head find the season?
#
# Diagonal stripes in a map look like a season that a head goes by. We make series with a season and ask how much more
# weight a head puts on tokens about whole seasons away (to half a token) than on others, as multiples of even
# attention. A head may prefer those *distances* whatever the series, so we divide by its ratio on noise. And tokens a
# season apart are *alike*, so that random heads may prefer or avoid them too: the best head has to exceed the best
# heads of untrained twins.

# %%
rng = np.random.default_rng(config.seed)
cycles = np.arange(length) / config.season_steps + rng.random((8, 1))
season, noise = np.cos(2 * np.pi * cycles) + 0.1 * rng.standard_normal((8, length)), rng.standard_normal((8, length))


def season_ratios(module):
    """Weight over even weight about whole seasons away by that elsewhere, on seasons and on noise: (heads), (heads)."""
    batch, ratios = inside.pack_rows(np.concatenate([season, noise]), module, p, horizon), ([], [])
    seasons = torch.arange(1, config.context_tokens) * p / config.season_steps
    near = ((seasons - seasons.round()).abs() * config.season_steps <= p / 2) & (seasons > 0.5)
    for weights in inside.attention_maps(module, batch).values():
        for rows, found in zip((slice(0, 8), slice(8, 16)), ratios, strict=True):
            part, w = {name: value[rows] for name, value in batch.items()}, weights[rows]
            by_distance = [inside.weight_by_distance(x, part).cpu() for x in (w, inside.uniform_attention(w))]
            ratio = (by_distance[0] / by_distance[1])[:, 1 : config.context_tokens]
            found += (ratio[:, near].mean(1) / ratio[:, ~near].mean(1)).tolist()
    return np.array(ratios[0]), np.array(ratios[1])


# %% tags=["nbval-ignore-output"]
rows = {}
for role, module in models.items():
    on_season, on_noise = season_ratios(module)
    best = (on_season / on_noise).argmax()
    row = {"layer": sorted(maps[role])[best // maps[role][max(maps[role])].shape[1]], "on seasons": on_season[best]}
    row |= {"on noise": on_noise[best], "quotient": on_season[best] / on_noise[best]}
    seeds = range(config.seed, config.seed + config.season_twins)
    by_chance = [np.divide(*season_ratios(inside.untrained_twin(module, k))).max() for k in seeds]
    row |= {"twins, median": np.median(by_chance), "twins, largest": max(by_chance)}
    row["p"] = (1 + sum(chance >= row["quotient"] for chance in by_chance)) / (1 + len(by_chance))
    rows[role] = row | {"learned": row["p"] <= 0.05}
pd.DataFrame(rows).T.infer_objects().round(2)

# %% [markdown]
# A quotient of 3 is three times the weight. p is the share of models, this one among the untrained ones, whose best
# head does as well; where "learned" is false, the preference is one that random weights have too.
#
# ## 4 · Poles, half-lives, memory
#
# A filter of an STU is a sum of exponentials, $h_l = \sum_n c_n \alpha_n^l$. Its bank fixes the poles $\alpha_n$, some
# dozens of each sign, the same in every layer and before training; **what is learned are the residues** $c_n$. They are
# large and cancel, so these poles tell nothing of a filter. For that we look for the few poles, at most twelve, that
# give the filter to 5 %. A pole $\alpha$ has the half-life $\ln 2 / {-\ln|\alpha|}$, in tokens; with shared branches it
# has a mirror at $-\alpha$.

# %%
twin_stu = inside.stu_layers(twins["hybrid"])
for n, layer in stu.items():
    alpha, residues = inside.bank_system(layer)
    response = residues @ (alpha ** torch.arange(layer.seq_len)[:, None]).T
    assert (response - filters[n]).norm() < 1e-5 * filters[n].norm()
    assert torch.equal(alpha, inside.bank_system(twin_stu[n])[0])  # the same poles before training
    print(f"layer {n}: {len(alpha)} fixed poles, {residues.numel():,} residues of {len(filters[n])} filters")

# %%
fits, energies = {}, {}
for who, of in (("trained", stu), ("untrained", twin_stu)):
    for n, layer in of.items():
        fits[who, n] = [inside.fit_poles(h) for h in inside.channel_filters(layer)]
        energies[who, n] = inside.output_energy(layer)
half_lives = {key: torch.stack([inside.half_life(fit.poles[0]) for fit in of]) for key, of in fits.items()}
for key, of in fits.items():
    assert np.median([fit.error for fit in of]) < 0.1, f"few poles do not give the filters of {key}"

# %% [markdown]
# Memory is the lag up to which 90 % of a channel's energy lies, energy being the squared weight: of white tokens the
# share of the output's variance. Half-lives are of the pole with the most energy.

# %% tags=["nbval-ignore-output"]
rows = {}
for n in stu:
    for who in ("trained", "untrained"):
        of, lives, memory = fits[who, n], half_lives[who, n], inside.effective_memory(energies[who, n]).double()
        rows[f"layer {n}, {who}"] = {
            "poles": np.median([len(fit.poles) for fit in of]),
            "error": np.median([fit.error for fit in of]),
            "half-life, tokens": lives.quantile(0.5, interpolation="lower").item(),
            "in steps": lives.quantile(0.5, interpolation="lower").item() * p,
            "90 % below": lives.quantile(0.9, interpolation="lower").item(),
            "memory, tokens": memory.median().item(),
            "in steps ": memory.median().item() * p,
            "90 % below ": memory.quantile(0.9).item(),
        }
poles_table = pd.DataFrame(rows).T
save_table(poles_table.reset_index(names="filters"), run.path / "poles.csv")
poles_table.round(3)

# %% [markdown]
# The same number exists for attention, the energy of its weights by distance, with even attention for control:

# %%
known = inside.draw_known_series(config.probe_series, length, seed=config.seed)


def lags_of_heads(module, look=lambda weights: weights):
    """Layer → mean lag of each head's energy, in tokens, over 64 series."""
    batch = inside.pack_rows(known.values[:64], module, p, horizon)
    energy = {n: inside.attention_energy(look(w)) for n, w in inside.attention_maps(module, batch).items()}
    return {n: inside.mean_lag(inside.weight_by_distance(e, batch)).cpu() for n, e in energy.items()}


lags = {role: lags_of_heads(models[role]) for role in ("baseline", "hybrid", "decoder")}
even = {role: lags_of_heads(models[role], inside.uniform_attention) for role in lags}
reach = {n: inside.mean_lag(energies["trained", n][:, : config.context_tokens]) for n in stu}


# %%
def draw_fit(panel, n):
    """The filter of layer n whose few poles are off by the median, and those poles' response."""
    of = fits["trained", n]
    channel = int(np.argsort([fit.error for fit in of])[len(of) // 2])
    taps, fit = filters[n][channel][: config.context_tokens], of[channel]
    panel.stem(taps, basefmt=" ", markerfmt=" ")
    panel.plot(fit.respond(len(taps)), "o", color="C1", markersize=3, label=f"{len(fit.poles)} poles")
    panel.set(title=f"A filter, met by few poles to {fit.error:.0%}", xlabel="lag, tokens", ylabel="h")
    panel.legend()


def draw_half_lives(panel):
    """Share of channels whose leading pole has less than a half-life."""
    for (who, n), lives in half_lives.items():
        style = "-" if who == "trained" else ":"
        panel.step(lives.sort().values, torch.linspace(0, 1, len(lives)), style, color=f"C{n}", label=f"{n}, {who}")
    panel.set(xscale="log", title="Half-lives of leading poles", xlabel="tokens", ylabel="share of channels below")
    panel.legend(title="layer", fontsize="small")


def draw_lags(panel):
    """Mean lag of heads (points), of even attention (dashes) and of STU channels (boxes from 10 to 90 %)."""
    for k, (role, by_layer) in enumerate(lags.items()):
        points = [(n + 0.15 * (k - 1), lag) for n, values in by_layer.items() for lag in values]
        panel.plot(*zip(*points, strict=True), "o", color=f"C{k}", label=role)
        panel.axhline(torch.cat(list(even[role].values())).mean(), color=f"C{k}", linewidth=0.8, linestyle="--")
    for n, values in reach.items():
        panel.boxplot(values, positions=[n], widths=0.3, whis=(10, 90), showfliers=False, manage_ticks=False)
    panel.set(
        title="Mean lag: heads; STU (boxes)", xlabel="layer", ylabel="tokens", xticks=range(len(layers["hybrid"]))
    )
    panel.set_ylim(0, 1.5 * panel.get_ylim()[1])
    panel.legend(fontsize="small", ncols=2, loc="upper left")


# %%
axes = plotting.figure(4, width=10.5, height=2.4)
draw_fit(axes[0], min(stu))
for n in stu:
    plane = torch.cat([fit.poles[:2] for fit in fits["trained", n]])  # a pole and its mirror or conjugate
    axes[1].plot(plane.real, plane.imag, ".", color=f"C{n}", markersize=2, label=f"layer {n}")
axes[1].add_patch(plt.Circle((0, 0), 1, fill=False, color="0.6"))
axes[1].set(title="Leading poles, |α| = 1", xlabel="real part", ylabel="imaginary part", aspect="equal")
axes[1].set(xlim=(-1.3, 1.3), ylim=(-1.3, 1.3))
axes[1].legend(fontsize="small")
draw_half_lives(axes[2])
draw_lags(axes[3])
plt.show()

# %% tags=["nbval-ignore-output"]
for n in stu:
    for name, of in (
        ("half-lives", half_lives),
        ("mean lags", {key: inside.mean_lag(e) for key, e in energies.items()}),
    ):
        test = ks_2samp(of["trained", n], of["untrained", n])
        verdict = "moved by training" if test.pvalue < 0.01 else "not told apart from untrained ones"
        print(f"layer {n}: {name} {verdict} (Kolmogorov-Smirnov {test.statistic:.2f}, p {test.pvalue:.2g})")
of_heads, of_even = (torch.cat(list(by_layer["hybrid"].values())).median() for by_layer in (lags, even))
print(f"mean lag: STU channels {torch.cat(list(reach.values())).median():.1f} tokens, the hybrid's heads", end=" ")
print(f"{of_heads:.1f}, even attention {of_even:.1f}")

# %% [markdown]
# Most of a filter's memory is there before training: the largest of the fixed filters $\phi_k$ are short, and random
# combinations of them are too. So a short memory alone is no sign of learning; the distance from the untrained twin is.
#
# ## 5 · Which expert takes what
#
# Six kinds of series, the same number of each. Left: the experts of the last layer by kind; middle: by place in the
# row, the hidden tokens at the end. Right: what the first expert of a token tells of the kind and of the place, mutual
# information less the mean of its null. Tokens of one series agree with each other, so kinds are shuffled among whole
# series, not among tokens; places within each series. **The twin is the control that matters**: kinds differ in what
# the router reads, and a random gate tells them apart too.

# %%
patterns, kind = inside.draw_patterns(config.pattern_series, length, seed=config.seed)
kind = torch.from_numpy(kind)
chosen = {
    who: inside.expert_choices(module, inside.pack_rows(patterns, module, p, horizon)).cpu()
    for who, module in (("trained", models["experts"]), ("untrained", twins["experts"]))
}  # (L s n k)
num_experts, places = len(layers["experts"][-1].ffn.experts), torch.arange(chosen["trained"].shape[2])
information = {
    (who, of, n): inside.measure_information(first, labels, draws=config.draws, seed=config.seed)
    for who, choices in chosen.items()
    for n, first in enumerate(choices[..., 0])
    for of, labels in (("kind", kind), ("place", places[None]))
}
best = max((information["trained", "kind", n] for n in range(len(layers["experts"]))), key=lambda test: test.excess)
assert best.p_value < 0.05

# %%
axes = plotting.figure(3, width=10.5, height=2.4, width_ratios=(1, 1, 0.9))
of_kind = inside.expert_share(chosen["trained"][-1], kind, num_experts)
of_place = inside.expert_share(chosen["trained"][-1].transpose(0, 1), places, num_experts)
plotting.heatmap(axes[0], of_kind, xlabel="expert of the last layer", label="share", vmin=0)
axes[0].set_yticks(range(len(inside.PATTERNS)), inside.PATTERNS)
axes[0].set_title("By kind of series")
plotting.heatmap(axes[1], of_place.T, xlabel="place in the row, tokens", ylabel="expert", label="share", vmin=0)
axes[1].set_title("By place")
for k, of in enumerate(("kind", "place")):
    for who, style in (("trained", "-o"), ("untrained", ":o")):
        excess = [information[who, of, n].excess for n in range(len(layers["experts"]))]
        axes[2].plot(excess, style, color=f"C{k}", markersize=4, label=f"{of}, {who}")
axes[2].set(title="What an expert tells", xlabel="layer", ylabel="bits beyond the null", xticks=range(len(excess)))
axes[2].legend(fontsize="small", loc="center left", bbox_to_anchor=(1.02, 0.5))
plt.show()

# %% tags=["nbval-ignore-output"]
rows = [
    {"weights": who, "of": of, "layer": n, "bits": test.bits, "null": test.null.mean().item(), "p": test.p_value}
    | {"share of the choice's entropy": test.excess / test.entropy if test.entropy else 0.0}
    for (who, of, n), test in information.items()
]
save_table(pd.DataFrame(rows), run.path / "experts.csv")
pd.DataFrame(rows).pivot_table(index=["of", "layer"], columns="weights").round(3)

# %% [markdown]
# ## 6 · Leaving a layer out
#
# Every layer adds something to its tokens, $x \leftarrow x + f(x)$. We make the update of one layer zero, its mixing
# (attention or STU), its feed-forward or both, and look at the loss on some of our series, which no model was
# trained on, and at the forecasts of the held-out real sets. The twin is the control: there is nothing to lose.

# %% tags=["nbval-ignore-output"]
sets = [open_held_out(name, num_series=20, num_windows=config.held_out_windows) for name in config.held_out]
held_out = HeldOutScore(sets, context_length=config.score_context, num_samples=config.num_samples)
tables = []
for role, who, module in [(r, "trained", models[r]) for r in models] + [(r, "untrained", twins[r]) for r in models]:
    batch = inside.pack_rows(known.values[: config.ablation_series], module, p, horizon)

    def score(module, batch=batch, forecasts=who == "trained" and role != "experts"):
        """The loss and, where it takes a moment only, WQL as a share of seasonal naive's."""
        return {"loss": inside.packed_loss(module, batch)} | ({"wql": held_out(module)["wql"]} if forecasts else {})

    tables.append(pd.DataFrame(inside.ablate_layers(module, score)).assign(model=role, weights=who))
ablation = pd.concat(tables, ignore_index=True)
save_table(ablation, run.path / "ablation.csv")

# %% tags=["nbval-ignore-output"]
axes = plotting.figure(4, width=10.5, height=2.3)
for panel, role in zip(axes, models, strict=True):
    for who, style in (("trained", "o-"), ("untrained", ":")):
        rows = ablation[(ablation["model"] == role) & (ablation["weights"] == who)]
        parts = rows.iloc[1:].pivot(index="layer", columns="without", values="loss") - rows["loss"].iloc[0]
        for k, without in enumerate(("mix", "feed", "mix+feed")):
            label = without if who == "trained" else None
            panel.plot(parts.index, parts[without], style, markersize=4, color=f"C{k}", label=label)
    panel.axhline(0, color="0.6", linewidth=0.8)
    panel.set(title=role, xlabel="layer left out", xticks=range(len(layers[role])))
axes[0].set_ylabel("loss more than the whole's")
axes[-1].legend(title="without", fontsize="small", loc="center left", bbox_to_anchor=(1.02, 0.5))
plt.show()

# %% tags=["nbval-ignore-output"]
scored = (
    ablation.dropna(subset="wql").fillna({"layer": -1}).astype({"layer": int}).set_index(["model", "kind", "layer"])
)
whole = scored.loc[scored["without"] == "", "wql"].groupby("model", sort=False).first()
print("WQL / seasonal naive of the whole:", ", ".join(f"{role} {value:.3f}" for role, value in whole.items()))
parts = scored[scored["without"] != ""].pivot_table(index=["model", "layer", "kind"], columns="without", values="wql")
parts.div(whole, axis=0, level="model").round(3)

# %% [markdown]
# The figure has the loss, solid for the trained model and dotted for its twin (the decoder's is of quantiles, in
# scales); the table has WQL as a multiple of the whole model's on the held-out sets. A multiple of 1 says that the part
# can go, below 1 that these few windows are better forecast without it.
#
# Without any layer a token stays what it was embedded as. MOIRAI's hidden tokens are then all alike, and its law knows
# nothing of the series but location and scale: it must be worse. A causal model still reads the patch before; whether
# its layers add to that on series like these is a finding.

# %%
bare = {}
for role, module in models.items():
    batch = inside.pack_rows(known.values[: config.ablation_series], module, p, horizon)
    whole = inside.packed_loss(module, batch)
    with ExitStack() as stack:
        for n in range(len(layers[role])):
            stack.enter_context(inside.without_update(module, n))
        first, *_, last = inside.layer_representations(module, batch)
        bare[role] = {"whole": whole, "without any layer": inside.packed_loss(module, batch)}
    assert torch.equal(first, last)
    if role in ("baseline", "hybrid"):
        assert bare[role]["without any layer"] > whole + 0.05

# %% tags=["nbval-ignore-output"]
pd.DataFrame(bare).T.round(3)

# %% [markdown]
# ## 7 · What a straight line can read
#
# We made series with a known period and a known trend. Does a layer's mean token tell them to a *linear* reader? A
# ridge regression is fitted to two thirds of the series and judged on the others by $R^2$, for log period and for the
# rise of the trend in standard deviations. Two controls: the untrained twin, and the same probe for shuffled labels.

# %%
labels = torch.from_numpy(np.stack([np.log(known.period), known.rise], axis=1))
train = torch.arange(config.probe_series) % 3 > 0
order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(config.seed))
probes = {}
for who, of in (("trained", models), ("untrained", twins)):
    for role, module in of.items():
        means = inside.mean_representations(module, inside.pack_rows(known.values, module, p, horizon))
        probes[role, who] = inside.probe_layers(means, labels, train)  # (L+1 2)
        if who == "trained":
            probes[role, "shuffled"] = inside.probe_layers(means, labels[order], train)
for role in models:
    assert (probes[role, "shuffled"] < 0.2).all()
    assert (probes[role, "trained"].amax(0) > probes[role, "shuffled"].amax(0) + 0.2).all()

# %%
axes = plotting.figure(2, width=9.5, height=2.3, sharey=True)
for panel, column, title in zip(axes, (0, 1), ("log period", "rise of the trend"), strict=True):
    for k, role in enumerate(models):
        for who, style in (("trained", "-o"), ("untrained", ":")):
            panel.plot(probes[role, who][:, column], style, color=f"C{k}", markersize=4, label=f"{role}, {who}")
        panel.plot(probes[role, "shuffled"][:, column], "--", color="0.7", linewidth=0.8)
    panel.set(title=f"A linear probe of the {title}", xlabel="after layer", ylim=(-0.3, 1.02))
    panel.set_xticks(range(len(probes[role, who])), ["tokens", *range(len(probes[role, who]) - 1)])
axes[0].set_ylabel("R² on held-out series")
axes[1].legend(fontsize="small", loc="center left", bbox_to_anchor=(1.02, 0.5))
plt.show()

# %% tags=["nbval-ignore-output"]
columns = ["log period", "rise"]
probe_table = pd.concat(
    {key: pd.DataFrame(values.numpy(), columns=columns).rename_axis("layers passed") for key, values in probes.items()},
    names=["model", "weights"],
)
save_table(probe_table.reset_index(), run.path / "probes.csv")
best = probe_table.groupby(["model", "weights"], sort=False).max().unstack("weights")
for column in columns:
    gained = best[column]["trained"] - best[column]["untrained"]
    print(f"{column}: trained less untrained", ", ".join(f"{role} {gain:+.2f}" for role, gain in gained.items()))
best.round(2)

# %% [markdown]
# Random layers keep much of what they are given: an untrained twin is already readable, and only the difference is
# learned. That a probe reads a property does not say that the model uses it.
#
# ## 8 · Do baseline and hybrid see the same?
#
# Linear CKA compares the tokens after a layer of one model with those after a layer of the other, up to a rotation and
# a scale. We use the unbiased estimate of its inner products: the biased one is far from 0 even where nothing is
# shared. Controls: the same tokens in another order, which must give 0, and two untrained twins.
#
# Tokens carry what they started as through all layers, $x_L = x_0 + \sum f(x)$, and a few large directions decide CKA;
# so we compare what the layers **added**, $x_L - x_0$, too.

# %%
some, tokens = known.values[: min(160, config.probe_series)], {}
for who, of in (("trained", models), ("untrained", twins)):
    for role in ("baseline", "hybrid"):
        batch = inside.pack_rows(some, of[role], p, horizon)
        first, *others = inside.visible_representations(of[role], batch)
        tokens[role, who, "tokens"] = [first, *others]
        tokens[role, who, "added"] = [x - first for x in others]
similar = {
    (who, what): inside.cka_between_layers(tokens["baseline", who, what], tokens["hybrid", who, what]).cpu()
    for who in ("trained", "untrained")
    for what in ("tokens", "added")
}

# %%
x, y = tokens["baseline", "trained", "tokens"][-1], tokens["hybrid", "trained", "tokens"][-1]
generator = torch.Generator().manual_seed(config.seed)
order = torch.randperm(len(x), generator=generator)
rotation = torch.linalg.qr(torch.randn(x.shape[1], x.shape[1], generator=generator))[0].to(x)
few = order[: x.shape[1]]  # as many tokens as channels
assert abs(inside.linear_cka(x, 3 * x @ rotation) - 1) < 1e-3
assert abs(inside.linear_cka(x, y[order])) < 0.02
biased, unbiased = (cka(x[few], y[few.flip(0)]).item() for cka in (inside.biased_cka, inside.linear_cka))
assert biased > unbiased

# %%
axes = plotting.figure(3, width=10.5, height=2.4, width_ratios=(1, 1, 1.1))
for panel, who in zip(axes, ("trained", "untrained"), strict=False):
    plotting.heatmap(panel, similar[who, "added"], ylabel="baseline, layer", label="CKA", vmin=0, vmax=1)
    panel.set(title=f"What the layers added, {who}", xlabel="hybrid, layer")
    panel.set(xticks=range(len(layers["hybrid"])), yticks=range(len(layers["baseline"])))
for k, (key, values) in enumerate(similar.items()):
    passed = np.arange(len(values)) - (key[1] == "tokens")
    axes[2].plot(passed, values.amax(1), "o-" if key[0] == "trained" else "o:", color=f"C{k % 2}", label=", ".join(key))
axes[2].set(title="Most alike layer of the hybrid", xlabel="baseline, layer (−1: embedding)", ylabel="CKA")
axes[2].set_ylim(0, 1.05)
axes[2].legend(fontsize="small", loc="lower left")
plt.show()

# %% tags=["nbval-ignore-output"]
for what in ("tokens", "added"):
    trained, untrained = (similar[who, what][-1, -1].item() for who in ("trained", "untrained"))
    more = "more" if trained > untrained else "less"
    print(f"{what} at the last layers: CKA {trained:.2f} trained, {untrained:.2f} untrained: training made", end=" ")
    print(f"them {more} alike than random weights on the same series are")

# %%
run.finish()

# %% [markdown]
# ## Summary
#
# - Attention weights are read off the layer itself, and times the values they are its output. Of each map the multiple
#   of even attention counts; of a head that finds the season the excess over untrained heads and over noise.
# - The filters of an STU are the layer's impulse response. Their many poles are fixed by the bank and the same before
#   training; what is learned are residues. A few poles per filter describe it to some per cent and have half-lives.
# - A filter's short memory is a prior of the bank: the untrained twin has it. The test tells whether training moved it.
# - Experts tell something of the kind of series, beyond shuffles of whole series. How much of it a random gate tells as
#   well stands beside it.
# - Leaving out layers shows which of them a loss or a forecast needs. Not every layer is needed on every series, and
#   a part whose absence helps is printed as such.
# - Period and trend can be read from the tokens with a straight line, shuffled labels cannot; untrained twins are the
#   mark to beat.
# - CKA with the unbiased estimate is 0 for shuffled tokens; how much more alike trained layers are than untrained ones
#   is the finding.
#
# ## Exercises
#
# 1. Point `HYBRID` to a model with `branches=separate` (notebook 04 trains one as a variant). Do its filters use odd
#    lags? Do the poles still come in pairs?
# 2. Which makes half-lives differ from layer to layer, training or the draw of the weights? Try other `SEED`s.
# 3. Leave out two layers at once. Is the loss the sum of the two?
# 4. Probe single tokens in place of their mean. Which layers know the period at the *first* token?
