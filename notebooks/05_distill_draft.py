# ---
# jupyter:
#   jupytext:
#     cell_metadata_filter: tags,-all
#     notebook_metadata_filter: kernelspec,-jupytext.text_representation.jupytext_version
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 05 · Can a quarter-size model stand in for its teacher?
#
# Timer-XL writes a forecast patch by patch, one pass of the network a patch. Speculative decoding (notebook 06) lets a
# small *draft* write and the large *target* only check. It pays where the draft says what the target would have said.
# We train a target, scale a draft down to a quarter of every size, pretrain it elsewhere, distil it, and ask: how far
# is it from its teacher, what is its variance worth, what does it cost, and did it need the teacher at all?
#
# At smoke scale the series is the weekly CO₂ of Mauna Loa, the draft's first school is El Niño's sea surface
# temperature, and training takes seconds: the numbers show what there is to see, not what a trained Timer-XL can do.
# `SCALE = "lab"` or `"full"` trains on ETTh1.
#
# **What would falsify it.** That the distilled draft is no nearer to its teacher than the pretrained one.

# %% tags=["parameters"]
SCALE = "smoke"  # "smoke", "lab" or "full"; None below takes the scale's value
SEED = None  # of weights, batches and noise
IS_TRAINING = None  # False: test checkpoints of your own instead of training
TEST_DIR = None  # folder of your target: of save_pretrained, or with an OpenLTM .pth
TEST_FILE_NAME = None  # name of the .pth in it
PRETRAIN_MODEL_PATH = None  # a draft of your own, to distil or (IS_TRAINING = False) to test
DATA = None  # registered set or table file: trained, distilled and tested on
PRETRAIN_DATA = None  # sets that the draft is pretrained on
MULTIVARIATE = None  # windows of all variates, else of one each
SEQ_LEN = None  # context, steps
INPUT_TOKEN_LEN = None  # patch that a token reads, steps
OUTPUT_TOKEN_LEN = None  # patch that it forecasts, steps
TEST_PRED_LEN = None  # horizons, steps
D_MODEL = None  # the target's width
N_HEADS = None  # the target's heads
D_FF = None  # the target's feed-forward width
E_LAYERS = None  # the target's layers
DRAFT_SCALE_D_MODEL = None  # the draft's share of each
DRAFT_SCALE_N_HEADS = None
DRAFT_SCALE_D_FF = None
DRAFT_SCALE_E_LAYERS = None
DRAFT_NLL_VAR_REG = None  # weight of the penalty on small variances
DRAFT_TEACHER_NOISE = None  # standard deviation of the noise on the teacher's forecasts
NORM_PREFIX_LEN = None  # steps that a window's mean and scale come from in training
DEVICE = None  # "auto", "cpu" or "gpu"

# %%
import time
from dataclasses import replace
from math import erfc, sqrt
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from tsfm_lab import plotting
from tsfm_lab.data.registry import find
from tsfm_lab.forecast.rolling import forecast_errors
from tsfm_lab.models import TimerXLDraft
from tsfm_lab.models.patch_forecaster import TokenLaw
from tsfm_lab.runs import open_run, resolve_config, write_json
from tsfm_lab.training.calibration import coverage
from tsfm_lab.training.presets import PRESETS
from tsfm_lab.training.timer_data import make_windows, some_windows
from tsfm_lab.training.timer_losses import distillation_loss
from tsfm_lab.training.timer_stages import distill_draft, pretrain_draft, train_target, with_sigma

config = resolve_config(PRESETS["05_distill_draft"], globals())
run = open_run("05_distill_draft", config)
plotting.use_theme()
if config.scale == "smoke":
    torch.set_num_threads(1)  # matrices this small are fastest on one thread
p = config.output_token_len
assert config.draft_stochastic, "this notebook reads the draft's variance; other drafts are in notebook 06"
print(f"{config.data}: {config.seq_len} steps of context in tokens of {config.input_token_len}")

# %% [markdown]
# ## 1. A target
#
# A window is cut into $N$ patches; from each token $i$ the network forecasts the patch that follows, and training
# compares all of them (Liu et al. 2025, arXiv:2410.04803, Eq. 9):
#
# $$\mathcal L = \frac1N \sum_{i=1}^{N} \lVert \hat x_{i+1} - x_{i+1} \rVert^2 .$$
#
# After every epoch the validation windows are forecast; the best weights are kept. The test part is read once, below.

# %% tags=["nbval-ignore-output"]
target = train_target(config, run)

# %% [markdown]
# A longer horizon is rolled: append the forecast, drop the oldest patch, forecast again. Errors are squared errors on
# standardised values, as the long-horizon benchmark counts them, beside the last season repeated.

# %% tags=["nbval-ignore-output"]
sizes = {"seq_len": config.seq_len, "input_token_len": config.input_token_len, "autoregressive": False}
test = {
    h: make_windows(config.data, "test", multivariate=config.multivariate, output_token_len=h, **sizes)
    for h in config.test_pred_len
}

# %% tags=["nbval-ignore-output"]
season = 1 if Path(config.data).is_file() else find(config.data).season_length or 1


def repeat_season(model, context, horizon):
    return context[:, -season:].repeat(1, -(-horizon // season), 1)[:, :horizon]


def errors(model, **options):
    return {h: forecast_errors(model, test[h], max_windows=config.max_test_windows, **options).mse for h in test}


table = pd.DataFrame({"season repeated": errors(target, roll_out=repeat_season), "target": errors(target)}).T
table.rename_axis(columns="MSE at horizon").round(4)

# %% [markdown]
# ## 2. A draft is the same network, a quarter of everything
#
# Width, heads, feed-forward width and depth are scaled one by one. Rotary positions turn pairs of channels in half of a
# head, so a head must have a multiple of four. The rule looks at head counts $h$ near the wanted $H$ and takes
# $e = 4\lfloor d/4h \rfloor$ channels a head, minimising $|eh - d| + 20\,|h - H|$. By hand, for a quarter:

# %%
d, wanted = round(config.d_model * 0.25), round(config.n_heads * 0.25)
widths = {h: max(4, d // h // 4 * 4) * h for h in range(max(1, wanted - 2), wanted + 3)}
costs = {h: abs(width - d) + 20 * abs(h - wanted) for h, width in widths.items()}
best = min(costs, key=costs.get)
names = ("input_token_len", "output_token_len", "d_model", "n_heads", "d_ff", "e_layers")
draft = TimerXLDraft(**{name: getattr(config, name) for name in names})
assert (draft.hyperparameters["d_model"], draft.hyperparameters["n_heads"]) == (max(16, widths[best]), best)
count = [sum(parameter.numel() for parameter in model.parameters()) for model in (target, draft)]
print(f"{draft.hyperparameters}: {count[1]:,} of {count[0]:,} parameters, {count[1] / count[0]:.1%}")

# %% [markdown]
# ## 3. Pretrained elsewhere, then distilled
#
# The draft first learns to forecast other data. Then it reads the target's windows and learns the *target's* forecasts
# $t$ in place of the truth. It has two heads, a mean $\mu$ and a log-variance $\ell$, and the loss is
#
# $$\tfrac12 \operatorname{mean}\!\big(\ell + (\mu - t)^2 e^{-\ell}\big)
# + \lambda \operatorname{mean}(\max(0, -\ell - 5)), \qquad t = \hat x_\text{target} + s\,\varepsilon .$$

# %% tags=["nbval-ignore-output"]
pretrained = pretrain_draft(config, run)
distilled = distill_draft(config, run, pretrained, target)
taught_by_data = distill_draft(replace(config, distill=False), run, pretrained, target, "draft-on-data")

# %% [markdown]
# How far is each draft from the teacher on test windows, by lead time? Distances are in standardised units, those in
# which the target errs by the square root of its MSE above.

# %%
x, y = next(iter(some_windows(test[min(test)], 256, 256)))


@torch.no_grad()
def next_patch(model):
    """The law of the patch after each test window."""
    law = model.law(x)
    return TokenLaw(law.mean[:, -p:], None if law.logvar is None else law.logvar[:, -p:])


def distance(model):
    return (next_patch(model).mean - next_patch(target).mean).square().mean(dim=(0, 2)).sqrt()


# %%
drafts = {"pretrained elsewhere": pretrained, "distilled": distilled, "trained on the data": taught_by_data}
(axes,) = plotting.figure()
gaps = np.stack([distance(model) for model in drafts.values()])
plotting.lines(axes, np.arange(1, p + 1), gaps, list(drafts), xlabel="steps ahead", ylabel="RMS distance to target")
axes.set(title="Distillation brings the draft to its teacher", ylim=(0, None))
assert not config.is_training or gaps[1].mean() < 0.5 * gaps[0].mean()

# %% [markdown]
# ## 4. Accuracy: the draft against its teacher, and against no teacher
#
# A control is the same pretrained draft trained on the data itself, with the target's loss and as many steps. If it
# does as well, the teacher taught it nothing that the data would not have.

# %% tags=["nbval-ignore-output"]
for name, model in drafts.items():
    table.loc[f"draft, {name}"] = errors(model)
ratio = table.loc["draft, distilled"] / table.loc["draft, trained on the data"]
print("distilled / trained on the data:", ", ".join(f"{value:.2f} at {h}" for h, value in ratio.items()))
table.rename_axis(columns="MSE at horizon").round(4)

# %%
first = min(test)
assert not config.is_training or table.loc["draft, distilled", first] < table.loc["draft, pretrained elsewhere", first]
assert not config.is_training or 0.5 < ratio[first] < 2

# %% [markdown]
# Both are far better than the pretrained draft and within a fifth of each other; which of the two is ahead changes
# with the learning rate. With the training windows at hand, accuracy is no reason to distil. A decoder asks another
# question, how near the draft is to the *target*. On this short series both come near; on ETTh1 the control forecasts
# as well as the target itself and yet stays half again as far from it as the distilled draft: a decoder would keep .35
# of its patches instead of .53 (`papers/timer_xl.md`).
#
# ## 5. Whose uncertainty is the draft's variance?
#
# Give the target a variance of its own: $\sigma_h$, the root mean square of its errors $h$ steps ahead on validation
# windows, in units of each window's standard deviation. Then ask how often a value falls into the central interval of
# a law: the truth in the target's, the truth in the draft's, the *teacher's forecast* in the draft's.

# %%
target = with_sigma(config, target)
levels = [0.1, 0.25, 0.5, 0.75, 0.9, 0.95]
truth, teacher = y[:, :p], next_patch(target).mean
shares = {
    "truth in the target's": coverage(next_patch(target), truth, levels),
    "truth in the draft's": coverage(next_patch(distilled), truth, levels),
    "teacher in the draft's": coverage(next_patch(distilled), teacher, levels),
}
(axes,) = plotting.figure()
plotting.lines(axes, np.array(levels), np.array(list(shares.values())), list(shares), marker="o")
axes.plot([0, 1], [0, 1], color="0.6", linestyle=":")
axes.set(title="The target's σ covers the truth; the draft's law is too wide for its teacher")
axes.set(xlabel="level of the central interval", ylabel="share inside")
assert not config.is_training or sum(shares["teacher in the draft's"]) > sum(shares["truth in the draft's"])
# %% tags=["nbval-ignore-output"]
for name, model in {"target": target, "draft": distilled}.items():
    print(f"{name}: negative log-likelihood of the truth {distillation_loss(next_patch(model), truth, var_reg=0):.2f}")

# %% [markdown]
# The draft has learned how far *it* is from its teacher plus the noise $s$, not how far the teacher is from the truth.
# Where the two happen to be of one size, the truth is covered too: by the choice of $s$, as the next section shows.
#
# ## 6. What teacher noise and the variance term do
#
# For a draft whose mean is off by $e$, the best log-variance minimises $\tfrac12(\ell + (e^2 + s^2)e^{-\ell}) +
# \lambda\max(0, -\ell - 5)$. Without the penalty that is $\ell = \ln(e^2 + s^2)$: **noise is a floor under the
# variance**. Below $\ell = -5$ the penalty turns the condition into $e^{\ell} = (e^2 + s^2)/(1 - 2\lambda)$: at the
# source's $\lambda = .01$ **it raises a small variance by 2 %**, and only $\lambda \ge \tfrac12$ would stop a collapse.
# We check the minimum with the package's loss, then look at trained drafts.

# %%
e, s, grid = 0.02, 0.05, torch.linspace(-9, 0, 100_001)


def best_log_variance(noise, var_reg):
    losses = 0.5 * (grid + (e**2 + noise**2) * torch.exp(-grid)) + var_reg * (-grid - 5).clamp(min=0)
    law = TokenLaw(torch.zeros(1), grid[losses.argmin()].view(1))
    package = distillation_loss(law, torch.full((1,), e), var_reg=var_reg, extra_variance=noise**2)
    assert torch.isclose(package, losses.min())
    return law.logvar.item()


assert abs(best_log_variance(s, 0.0) - np.log(e**2 + s**2)) < 1e-3
assert abs(best_log_variance(s, 0.01) - np.log((e**2 + s**2) / 0.98)) < 1e-3
assert abs(best_log_variance(0.0, 0.01) - np.log(e**2 / 0.98)) < 1e-3
assert abs(best_log_variance(0.0, 0.5) - -5) < 1e-3

# %% tags=["nbval-ignore-output"]
by_noise = {config.draft_teacher_noise: distilled}
for noise in {0.0, 0.2} - {config.draft_teacher_noise}:
    other = replace(config, draft_teacher_noise=noise)
    by_noise[noise] = distill_draft(other, run, pretrained, target, f"draft-noise-{noise:g}")
noises = sorted(by_noise)

# %%
stdev = [torch.exp(next_patch(by_noise[noise]).logvar / 2).median().item() for noise in noises]
gap = [distance(by_noise[noise]).square().mean().sqrt().item() for noise in noises]
covered = [coverage(next_patch(by_noise[noise]), truth, [0.5]) for noise in noises]
left, right = plotting.figure(2)
labels = ["median σ", "RMS distance to teacher"]
plotting.lines(left, np.array(noises), np.array([stdev, gap]), labels, marker="o", xlabel="teacher noise s")
left.plot(noises, noises, color="0.6", linestyle=":")
left.set(title="Noise is a floor under σ …", ylabel="standardised units", ylim=(0, 1.5 * max(stdev)))
plotting.lines(right, np.array(noises), np.array(covered).T, marker="o", xlabel="teacher noise s")
right.axhline(0.5, color="0.6", linestyle=":")
right.set(title="… and moves what the law covers", ylabel="truth in the 50 % interval", ylim=(0, 1))
assert not config.is_training or (stdev[-1] > 0.9 * 0.2 and covered[0][0] < covered[-1][0])

# %% [markdown]
# ## 7. What a decoder will see
#
# Speculative decoding keeps a drafted patch $x \sim q$ with probability $\min(1, p(x)/q(x))$. With the target's
# $\sigma$ in both laws the mean of that is $2\Phi(-\delta/2)$, $\delta = \lVert(\mu_p - \mu_q)/\sigma\rVert$; with the
# draft's own variance we estimate it by sampling $q$. A draft without a variance, distilled by squared error, joins in.

# %% tags=["nbval-ignore-output"]
without_variance = replace(config, draft_stochastic=False, pretrain_model_path="")
point_run = run.child("point", draft_stochastic=False)
point = distill_draft(without_variance, point_run, pretrain_draft(without_variance, point_run), target)

# %%
law_p = next_patch(target)
sigma = torch.exp(law_p.logvar / 2)


def acceptance(model):
    """(with the target's σ, with the draft's own), means over the test windows."""
    q = next_patch(model)
    delta = ((law_p.mean - q.mean) / sigma).square().sum(dim=1).sqrt()
    shared = np.mean([erfc(value / 2 / sqrt(2)) for value in delta.flatten().tolist()])
    if q.logvar is None:
        return shared, np.nan
    P, Q = torch.distributions.Normal(law_p.mean, sigma), torch.distributions.Normal(q.mean, torch.exp(q.logvar / 2))
    draws = Q.sample((50,))
    return shared, (P.log_prob(draws) - Q.log_prob(draws)).sum(dim=2).clamp(max=0).exp().mean().item()


# %% tags=["nbval-ignore-output"]
torch.manual_seed(0)
accepted = {f"likelihood, noise {noise:g}": acceptance(by_noise[noise]) for noise in noises}
accepted["squared error"] = acceptance(point)
accepted["the data alone"] = acceptance(taught_by_data)[0], np.nan  # its variance was not trained
pd.DataFrame(accepted, ["the target's σ in both", "the draft's own σ"]).T.rename_axis("draft taught by").round(2)

# %%
assert not config.is_training or all(shared > own for shared, own in accepted.values() if not np.isnan(own))

# %% [markdown]
# Over a patch of many steps small mismatches of the variance multiply, so a learned variance costs acceptance that the
# shared one does not. The draft's mean is what distillation is good for; notebook 06 uses it with the target's
# $\sigma$.
#
# ## 8. Cost
#
# One forward pass of each on the same windows, taken in turns; the ratio's median and quartiles.

# %% tags=["nbval-ignore-output"]
ratios = {}
with torch.inference_mode():
    for batch in (1, 64):
        window, seconds = x[:1].repeat(batch, 1, 1), []
        for _ in range(30):
            marks = [time.perf_counter()]
            for model in (target, distilled):
                model(window)
                marks.append(time.perf_counter())
            seconds.append(np.diff(marks))
        ratios[batch] = np.quantile(np.divide(*np.array(seconds[5:]).T), [0.5, 0.25, 0.75])
for batch, (median, low, high) in ratios.items():
    print(f"batch {batch}: the target takes {median:.1f} times as long ({low:.1f} to {high:.1f})")

# %% [markdown]
# ## 9. A checkpoint of your own
#
# `IS_TRAINING = False` with `TEST_DIR` runs this notebook on your target without training, as `is_training 0` does in
# the source; `PRETRAIN_MODEL_PATH` names your draft. An OpenLTM `.pth` is opened as tensors alone: a file that would
# run code is refused, and so is one of other sizes.

# %%
file = run.path / "own.pth"
torch.save({name: value for name, value in target.state_dict().items() if name != "sigma"}, file)
sizes = {key: value for key, value in target.config.items() if key != "sigma"}
again = type(target).from_pth(file, **sizes)
assert torch.equal(again(x), target(x))
try:
    type(target).from_pth(file, **{**sizes, "d_ff": 2 * config.d_ff})
except ValueError as refusal:
    print(str(refusal).partition("other shapes")[2][:80].split(":")[0])

# %% [markdown]
# What this run found stays in its directory.

# %%
results = {
    "parameters": dict(zip(("target", "draft"), count, strict=True)),
    "mse": {name: {int(h): float(row[h]) for h in test} for name, row in table.iterrows()},
    "rms_distance_to_target": dict(zip(drafts, np.sqrt(np.square(gaps).mean(axis=1)).tolist(), strict=True)),
    "acceptance_shared_sigma": {name: float(shared) for name, (shared, _) in accepted.items()},
    "acceptance_own_sigma": {name: float(own) for name, (_, own) in accepted.items() if not np.isnan(own)},
    "times_as_long": {str(batch): median for batch, (median, _, _) in ratios.items()},
}
write_json(run.path / "results.json", results)

# %% [markdown]
# ## Summary
#
# - A quarter of every size leaves a few per cent of the parameters. Distilled, such a draft is near its teacher;
#   pretraining elsewhere alone does not get it there.
# - Trained on the data with as many steps it forecasts about as well: distillation buys nearness to the target and
#   needs no labels; it does not buy accuracy.
# - The draft's variance measures its distance from the teacher plus the noise that was added to it: neither the truth's
#   uncertainty nor what a decoder needs. Noise is a floor under it; a penalty of .01 moves small variances by 2 %.
# - With the target's $\sigma$ in both laws more drafted patches are kept than with the learned one.
#
# ## Exercises
#
# 1. Set `NORM_PREFIX_LEN` to half of `SEQ_LEN`. What does the target lose on sliding windows, and what does notebook 06
#    gain by it?
# 2. Scale only the depth (`DRAFT_SCALE_E_LAYERS = .25`, the others 1). Is a thin deep draft or a wide shallow one
#    nearer to its target at the same number of parameters?
# 3. Pretrain on `("elnino", "synthetic:64")`. Does the head start survive the distillation?
