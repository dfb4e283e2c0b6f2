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
# # 02 · Does an STU learn a system that gradient descent on the system itself cannot?
#
# A spectral transform unit (STU) replaces the state of a linear dynamical system by the fixed filters of notebook 01.
# What is left to learn enters linearly. We train one on symmetric and on general systems, ask how many filters that
# takes, and compare it with learners that do not know the filters: a plain FIR filter of the same length, a GRU, and
# gradient descent on the system itself. Then we run the same weights in two ways, for long sequences and token by
# token.
#
# **What would falsify it.** Another learner that reaches the same error from the same data in the same number of
# steps. Section 5 has one that does, on clean data, and one that does better on noisy data.
#
# Papers: Agarwal et al. ([2312.06837](https://arxiv.org/abs/2312.06837)), Liu et al.
# ([2409.10489](https://arxiv.org/abs/2409.10489)), Shah et al. ([2505.17868](https://arxiv.org/abs/2505.17868)).

# %% tags=["parameters"]
SCALE = "smoke"  # "smoke" (seconds on a laptop), "lab" (minutes) or "full" (the published example, an hour)
SEEDS = None  # of systems, weights and inputs of section 3; None here and below: as the scale has it
SPECTRAL_RADIUS = None  # largest |eigenvalue| of the systems of section 3
SEQ_LEN = None  # length L of the sequences of section 3, steps
NUM_FILTERS = None  # number K of filters
NUM_STEPS = None  # optimiser steps of section 3
LEARNING_RATE = None  # of section 3

# %%
from pprint import pprint

import torch
from einops import einsum, rearrange

from tsfm_lab import plotting
from tsfm_lab.bench import lds_learners
from tsfm_lab.bench.timing import time_in_turns
from tsfm_lab.runs import open_run, resolve_config, write_json
from tsfm_lab.spectral import MiniSTU, get_filter_bank, random_LDS, train_stu_on_lds
from tsfm_lab.training.presets import PRESETS

plotting.use_theme()
config = resolve_config(PRESETS["02_ministu_on_lds"], globals())
run = open_run("02_ministu_on_lds", config)
run.start()
pprint(config)
print("run directory:", run.path.name)

# %% [markdown]
# Every field of `config` can be set in capitals, in the cell above or from the outside
# (`papermill … -p NUM_FILTERS 16`); a misspelt one is refused here. The directory's name ends in a hash of the
# configuration, so the same parameters find the same directory again: that is how an interrupted run goes on.
#
# The asserts below are the claims of this notebook. Other parameters may break one: then the claim does not hold
# there.

# %% [markdown]
# ## 1 · The system
#
# $$h_{t+1} = A h_t + B u_t, \qquad y_t = C h_t, \qquad h_0 = 0. \tag{1}$$
#
# Written as a loop this takes $L$ small steps in a row. `LDS` runs it as a scan: $h$ is doubled in reach $\log_2 L$
# times, each time for the whole sequence at once.


# %%
def run_loop(lds, u):
    """Eq. 1, step by step: u (b t i) -> y (b t o)."""
    h, y = u.new_zeros(len(u), lds.state_dim), []
    for u_t in u.unbind(dim=1):
        y.append(h @ lds.C.T)
        h = h @ lds.A.T + u_t @ lds.B.T
    return torch.stack(y, dim=1)


sizes = (config.state_dim, config.input_dim, config.output_dim, config.spectral_radius)
lds = random_LDS(*sizes, seed=0)
u = torch.randn(4, config.seq_len, config.input_dim, generator=torch.Generator().manual_seed(0))
with torch.no_grad():
    y = lds(u)
    assert torch.allclose(y, run_loop(lds, u), atol=1e-4)
assert (y[:, 0] == 0).all()  # y_0 = C h_0: the system answers one step later
assert abs(lds.spectral_radius - config.spectral_radius) < 1e-5

# %% [markdown]
# ## 2 · The unit
#
# With the filters $\phi_k$ of notebook 01, the unit is
#
# $$\hat y_t = \sum_{k=1}^{K} \sum_{l=0}^{t} \phi_k(l)
# \left( M^{+}_k + (-1)^l M^{-}_k \right)^{\!\top} u_{t-l}, \tag{2}$$
#
# where the plus branch serves positive eigenvalues and the minus branch negative ones. We build it small: one
# transform of the input, one product with the spectra of all $2K$ filters, one contraction with $M$.


# %%
def filter_bank(psi, u):
    """f_k = ψ_k ∗ u for every channel: psi (l k), u (b t i) -> (b t k i)."""
    n = 2 * u.shape[1]
    P, U = torch.fft.rfft(psi[: u.shape[1]], n=n, dim=0), torch.fft.rfft(u, n=n, dim=1)
    return torch.fft.irfft(einsum(P, U, "f k, b f i -> b f k i"), n=n, dim=1)[:, : u.shape[1]]


def stu(psi, M, u):
    """Eq. 2 with both branches as one bank: M (k i o) -> y (b t o)."""
    return einsum(filter_bank(psi, u), M, "b t k i, k i o -> b t o")


torch.manual_seed(0)
unit = MiniSTU(config.seq_len, config.num_filters, config.input_dim, config.output_dim)
psi = get_filter_bank(config.seq_len, config.num_filters).psi  # (l 2K): [φ, (−1)ˡ φ]
M = torch.cat([unit.M_phi_plus, unit.M_phi_minus]).detach()
with torch.no_grad():
    assert torch.allclose(unit(u), stu(psi.float(), M, u), atol=1e-4)
    assert torch.allclose(unit(u[0]), unit(u)[0], atol=1e-5)  # unbatched in, unbatched out
    assert torch.allclose(unit(u[:, :10]), unit(u)[:, :10], atol=1e-4)  # shorter inputs: the filters' first rows

# %% [markdown]
# A longer input than the filters is refused, with the remedy:

# %%
try:
    unit(torch.zeros(1, config.seq_len + 1, config.input_dim))
except ValueError as error:
    print(error)

# %% [markdown]
# ## 3 · Training
#
# White noise in, the system's output as the target, Adam at the learning rate 1e-2. We train on symmetric systems and
# on general ones, and once at 1e-3, the published default. `train_stu_on_lds` writes a checkpoint every 100 steps:
# killed and started again with the same parameters, the notebook goes on from the last one and repeats the losses of
# an unbroken run.


# %%
def relative_mse(y_hat, y):
    """Mean squared error over the mean square of the truth."""
    return ((y_hat - y).square().mean() / y.square().mean()).item()


def train(name, seed, num_steps, learning_rate):
    """Train on one system; returns the losses over the output's mean square, and the relative MSE on new input."""
    lds = random_LDS(*sizes, symmetric=name != "general", seed=seed)
    child = run.child(f"{name}-s{seed}", system=name, seed=seed, num_steps=num_steps, learning_rate=learning_rate)
    training = {"num_steps": num_steps, "batch_size": config.batch_size, "learning_rate": learning_rate, "seed": seed}
    path = child.checkpoints / "stu.pt"
    unit, losses = train_stu_on_lds(
        lds, config.seq_len, config.num_filters, **training, verbose=False, checkpoint_path=path
    )
    log = child.metrics(["loss"])
    log.drop_after(-1)  # what an interrupted attempt wrote
    for step in range(0, num_steps, 25):
        log.append(step, loss=losses[step])
    u = torch.randn(256, config.seq_len, config.input_dim, generator=torch.Generator().manual_seed(10**6 + seed))
    with torch.no_grad():
        y = lds(u)
        return torch.tensor(losses) / y.square().mean(), relative_mse(unit(u), y)


plan = {
    "symmetric": (config.seeds, config.num_steps, config.learning_rate),
    "general": (config.seeds, config.general_steps, config.learning_rate),
    "slow": (config.seeds[:1], config.general_steps, 1e-3),
}
runs = {name: [train(name, seed, *settings) for seed in seeds] for name, (seeds, *settings) in plan.items()}

# %%
(axes,) = plotting.figure()
window = 25  # steps that a point averages
for name, label in (("symmetric", "symmetric"), ("slow", "symmetric, rate 1e-3"), ("general", "general")):
    curves = torch.stack([losses for losses, _ in runs[name]])
    curves = curves[:, : curves.shape[1] // window * window]
    curves = rearrange(curves, "seed (point step) -> seed point step", step=window).mean(dim=-1)
    plotting.ranges(axes, window * (1 + torch.arange(curves.shape[1])), curves[None], [label])
axes.set(yscale="log", title="At the rate 1e-2 a symmetric system is learnt, a general one is not")
axes.set(xlabel="optimiser steps", ylabel="relative MSE")

held_out = {name: [error for _, error in results] for name, results in runs.items()}
assert max(held_out["symmetric"]) < 1e-4  # four orders of magnitude and more, on new input
assert min(held_out["general"]) > 100 * max(held_out["symmetric"])
assert min(held_out["slow"]) > 100 * max(held_out["symmetric"])

# %%
for name, values in held_out.items():
    print(f"{name:<10} held-out relative MSE " + " ".join(f"{value:.0e}" for value in values))

# %% [markdown]
# Lines are medians over the seeds, bands reach from the best to the worst. The general systems are the negative
# result: complex eigenvalues are oscillations, and notebook 01 showed that the filters miss them.

# %% [markdown]
# ## 4 · How many filters? The best any training can reach
#
# Because (2) is linear in $M$, its expected loss under white noise has a closed form. With the impulse response
# $G(0) = 0$, $G(l) = C A^{l-1} B$,
#
# $$\mathbb{E} \sum_t \lVert \hat y_t - y_t \rVert^2
# = \sum_{l=0}^{L-1} (L - l) \, \Bigl\lVert G(l)^\top - \sum_{k} \psi_k(l) M_k \Bigr\rVert^2, \tag{3}$$
#
# a weighted least-squares problem with $2K$ unknowns an entry. Its minimum needs no data and no training.


# %%
def best_error(lds, num_filters, seq_len):
    """The smallest relative MSE that any M can have on white noise, Eq. 3."""
    pulses = torch.zeros(lds.input_dim, seq_len, lds.input_dim, dtype=torch.float64)
    pulses[:, 0] = torch.eye(lds.input_dim)
    with torch.no_grad():
        G = rearrange(lds(pulses), "i l o -> l (i o)")
    weight = torch.arange(seq_len, 0, -1, dtype=torch.float64).sqrt()[:, None]
    Q, _ = torch.linalg.qr(weight * get_filter_bank(seq_len, num_filters).psi)
    target = weight * G
    return ((target - Q @ (Q.T @ target)).norm() / target.norm()).square().item()


for seed, error in zip(config.seeds, held_out["symmetric"], strict=True):
    lds = random_LDS(*sizes, seed=seed, dtype=torch.float64)
    assert best_error(lds, config.num_filters, config.seq_len) < error  # training has not reached it yet


# %%
def oscillates(lds):
    """Whether the slowest mode of a system is a complex pair."""
    eigenvalues = torch.linalg.eigvals(lds.A.detach())
    return eigenvalues[eigenvalues.abs().argmax()].imag.abs().item() > 1e-6


systems = {
    f"symmetric, radius {radius}": [random_LDS(16, 2, 2, radius, seed=seed, dtype=torch.float64) for seed in range(5)]
    for radius in config.radii
}
general = [random_LDS(16, 2, 2, 0.99, symmetric=False, seed=seed, dtype=torch.float64) for seed in range(10)]
systems["general, slowest mode real"] = [lds for lds in general if not oscillates(lds)]
systems["general, slowest mode oscillates"] = [lds for lds in general if oscillates(lds)]

counts = range(2, config.num_filters + 1, 2)
floors = {
    name: torch.tensor([[best_error(lds, k, config.floor_seq_len) for k in counts] for lds in drawn])
    for name, drawn in systems.items()
}

# %%
(axes,) = plotting.figure(width=8.0)
for name, floor in floors.items():
    plotting.ranges(axes, counts, floor[None], [name])
axes.set(yscale="log", xlabel="$K$, filters a branch", ylabel="best relative MSE")
axes.set(title=f"Filters serve real modes up to radius 1, and no lasting oscillation (L = {config.floor_seq_len})")
axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))

for name, floor in floors.items():
    if name.startswith("symmetric"):
        assert floor[:, -1].max() < 1e-6
real, oscillating = floors["general, slowest mode real"][:, -1], floors["general, slowest mode oscillates"][:, -1]
assert oscillating.min() > 0.05
assert real.median() < 0.1 * oscillating.median()

# %% [markdown]
# Lines are medians over systems, bands reach from the best to the worst. Up to radius .999 two dozen filters leave
# next to nothing of a symmetric system. A general one whose slowest mode is real is served in part; if that mode
# oscillates, more filters hardly help.

# %% [markdown]
# ## 5 · Other learners
#
# We draw systems of eight states at each spectral radius. A learner sees a few sequences, either clean or with noise
# on the outputs, and is judged on new ones without noise. Two learners are linear in what they learn, so we solve
# them by least squares:
#
# - the STU,
# - a finite impulse response (FIR) filter, $\hat y_t = \sum_l w_l u_{t-l}$ with a free weight for each lag. It is the
#   case $\psi = I$: one "filter" a lag.
#
# Three are trained, with the same number of Adam steps, each at its best learning rate on other systems:
#
# - the STU again;
# - a *diagonal LDS*, the system itself with as many numbers as the STU. To be fair to it, its eigenvalues are
#   $\tanh \theta_n$, which cannot explode;
# - a GRU of sixteen units.

# %%
noises = (0.0, config.noise)
problems = lds_learners.draw_problems(
    noises, config.radii, range(config.systems), config.data_sequences, config.data_seq_len
)
psi = get_filter_bank(config.data_seq_len, config.num_filters).psi
m, k = len(problems.u), psi.shape[1]  # systems, filters of both branches
errors, numbers = {}, {}
for name, filters in (("STU, solved", psi), ("FIR, solved", torch.eye(len(psi), dtype=psi.dtype))):
    W = lds_learners.solve(filters, problems)
    errors[name] = lds_learners.judge(lds_learners.respond(W, problems.u_new), problems)
    numbers[name] = filters.shape[1]

torch.manual_seed(0)
for name, learner, learning_rate in (
    ("STU, Adam", lds_learners.STULearner(m, psi), config.stu_learning_rate),
    ("diagonal LDS, Adam", lds_learners.DiagonalLDSLearner(m, k // 3), config.lds_learning_rate),
    ("GRU, Adam", lds_learners.GRULearner(m, 16), config.gru_learning_rate),
):
    errors[name] = lds_learners.fit(learner, problems, config.adam_steps, learning_rate)
    numbers[name] = sum(parameter[0].numel() for parameter in learner.parameters())

clean, noisy = (
    {name: error.clamp(min=1e-13).view(2, len(config.radii), -1)[noise] for name, error in errors.items()}
    for noise in (0, 1)  # float32 outputs say nothing below 1e-13
)

# %% tags=["nbval-ignore-output"]
for title, table in (("clean outputs", clean), (f"{config.noise:.0%} noise", noisy)):
    print(f"{title:<20}numbers" + "".join(f"{f'radius {radius}':>24}" for radius in config.radii))
    for name, error in table.items():
        cells = (f"{e.median():.0e} ({e.min():.0e}–{e.max():.0e})" for e in error)
        print(f"{name:<20}{numbers[name]:>7}" + "".join(f"{cell:>24}" for cell in cells))

# %%
left, right = plotting.figure(2, width=8.0)
for axes, table, labels in ((left, clean, []), (right, noisy, list(noisy))):
    samples = torch.stack([rearrange(error, "radius system -> system radius") for error in table.values()])
    plotting.ranges(axes, range(len(config.radii)), samples, labels, marker=".")
    axes.set(yscale="log", xlabel="spectral radius", xticks=range(len(config.radii)), xticklabels=config.radii)
left.set(title="Clean: what is linear is solved", ylabel="relative MSE, new input")
right.set(title="Noisy: fewer numbers, less error")
right.legend(loc="center left", bbox_to_anchor=(1, 0.5))

assert (clean["STU, solved"] < 1e-3 * clean["diagonal LDS, Adam"]).all()
assert (clean["STU, Adam"].median(dim=1).values < clean["diagonal LDS, Adam"].median(dim=1).values).all()
assert clean["FIR, solved"].max() < 1e-9
assert noisy["diagonal LDS, Adam"].median() < noisy["STU, solved"].median() < noisy["FIR, solved"].median()
assert noisy["diagonal LDS, Adam"].max() > noisy["STU, solved"].max()
assert (noisy["GRU, Adam"] > noisy["STU, solved"]).all()

# %% [markdown]
# **Clean outputs.** The STU is solved to the last digit of float32 outputs, at every radius and seed. Gradient
# descent on the system stops many digits earlier, and where depends on the seed: its problem is not convex. But the
# FIR filter is solved just as well.
#
# **The same optimiser.** Trained by Adam, the STU is still ahead of the system, but of its lead of three digits at
# radius .9 one is left at .999: its problem is convex, not well-conditioned. The gain comes from being able to
# *solve* it.
#
# **Noise.** What is solved obeys the textbook law
#
# $$\text{relative MSE} \approx \text{noise}^2 \cdot \frac{\text{free numbers}}{\text{observations}}, \tag{4}$$
#
# so the STU beats the FIR filter by $L / 2K$, a factor that grows with the length. The system itself needs fewer
# numbers still: its median is the best of all, while its unlucky starts end above the STU's worst. The GRU, which
# could represent much more, is last within these steps.

# %%
observations = config.data_sequences * config.data_seq_len
for name in ("STU, solved", "FIR, solved"):
    assert 0.6 < noisy[name].mean() / (config.noise**2 * numbers[name] / observations) < 1.6  # Eq. 4

# %% [markdown]
# So the answer to the title is: on clean data yes, by solving rather than descending. With noise, knowing the model
# class is worth more than convexity.

# %% [markdown]
# ## 6 · Two backends, one function
#
# `backend="spectral"` multiplies spectra and never builds the features $(b \, t \, k \, d)$ that our small version
# does. `backend="lds"` uses that the filters are themselves sums of a few dozen exponentials: it works through the
# sequence in chunks and carries a state from one to the next. Both use the same weights, so a model can be trained
# with one and run with the other. The judge is the definition (2) in float64, term by term: outputs, input gradients,
# weight gradients.


# %%
def sum_directly(psi, M, x):
    """Eq. 2 without any trick: x (b t i) -> y (b t o)."""
    W = einsum(psi, M, "l k, k i o -> l i o")
    y = torch.zeros(*x.shape[:2], M.shape[2], dtype=x.dtype)
    for lag in range(x.shape[1]):
        y[:, lag:] += x[:, : x.shape[1] - lag] @ W[lag]
    return y


def differentiate(unit, x, direction, function=None):
    """Output, and its derivatives by input and weights in a direction; `function` (M, x) replaces the unit."""
    x, M = x.clone().requires_grad_(), [unit.M_phi_plus, unit.M_phi_minus]
    y = unit(x) if function is None else function(torch.cat(M), x)
    return y.detach(), *torch.autograd.grad((y * direction).sum(), [x, *M])


x, direction = torch.randn(2, 2, 512, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
unit = MiniSTU(512, config.num_filters, 8, 8, dtype=torch.float64)
truth = differentiate(unit, x, direction, lambda M, x: sum_directly(unit.bank.psi, M, x))
for dtype, limit in ((torch.float64, 1e-7), (torch.float32, 1e-5)):
    for backend in ("spectral", "lds"):
        same = MiniSTU(512, config.num_filters, 8, 8, dtype=dtype, backend=backend)
        same.load_state_dict(unit.state_dict())
        for value, true in zip(differentiate(same, x.to(dtype), direction.to(dtype)), truth, strict=True):
            assert (value - true).norm() / true.norm() < limit

# %% [markdown]
# Which one is faster depends on the sizes; `backend="auto"` measures once and remembers. Forward and backward pass,
# turn by turn in this process:


# %% tags=["nbval-ignore-output"]
def time_backends(seq_len, channels, batch):
    """Median milliseconds of forward and backward pass with either backend, and what "auto" takes."""
    x = torch.randn(batch, seq_len, channels, requires_grad=True)
    sizes = (seq_len, config.num_filters, channels, channels)
    units = {name: MiniSTU(*sizes, backend=name) for name in ("spectral", "lds", "auto")}
    choice = units.pop("auto").resolve_backend(batch, seq_len)
    calls = {name: lambda unit=unit: unit(x).sum().backward() for name, unit in units.items()}
    return [1e3 * timing.median for timing in time_in_turns(calls, rounds=3).values()], choice


print(f"{torch.get_num_threads()} threads, float32, K = {config.num_filters}")
print(f"{'L':>5}{'channels':>10}{'batch':>7}{'spectral':>12}{'lds':>10}   auto takes")
for seq_len, channels, batch in config.timed_sizes:
    (spectral_ms, lds_ms), choice = time_backends(seq_len, channels, batch)
    print(f"{seq_len:>5}{channels:>10}{batch:>7}{spectral_ms:>9.0f} ms{lds_ms:>7.0f} ms   {choice}")

# %% [markdown]
# ## 7 · Token by token, at a flat cost
#
# A convolution needs the whole past for one more output. But the filters are a diagonal system too,
# $\psi_k(l) \approx \sum_n C_{nk} \alpha_n^l$, so a state of some hundred numbers a channel stands for the past:
#
# $$h_t = \alpha \odot h_{t-1} + x_t, \qquad f_t = C^\top h_t. \tag{5}$$
#
# `prefill` reads what is there in one go, `step` adds one token. Both give what `forward` gives.

# %%
unit = MiniSTU(256, config.num_filters, 8, 8)
x = torch.randn(2, 256, 8, generator=torch.Generator().manual_seed(0))
with torch.no_grad():
    whole = unit(x)
    y, state = unit.prefill(x[:, :200])
    decoded = [y]
    for x_t in x[:, 200:].unbind(dim=1):
        y_t, state = unit.step(x_t, state)
        decoded.append(rearrange(y_t, "b o -> b 1 o"))
assert torch.allclose(torch.cat(decoded, dim=1), whole, atol=1e-4)


# %% tags=["nbval-ignore-output"]
def time_decoding(length):
    """Median milliseconds for the last of `length` tokens, by a step and by recomputing all; numbers in the state."""
    unit, x = MiniSTU(length, config.num_filters, 16, 16), torch.randn(1, length, 16)
    with torch.no_grad():
        _, state = unit.prefill(x[:, :-1])
        times = time_in_turns({"step": lambda: unit.step(x[:, -1], state), "forward": lambda: unit(x)}, rounds=7)
    return 1e3 * times["step"].median, 1e3 * times["forward"].median, state.h.numel() // 16


step_ms, recompute_ms, state_sizes = zip(*map(time_decoding, config.decode_lengths), strict=True)
print("numbers in the state, a channel:", *state_sizes)

(axes,) = plotting.figure()
labels = ["step with a state", "recompute the sequence"]
plotting.lines(axes, config.decode_lengths, [step_ms, recompute_ms], labels, marker=".")
axes.set(xscale="log", yscale="log", xlabel="steps already seen", ylabel="ms for one more")
axes.set_xticks(config.decode_lengths, config.decode_lengths, minor=False)
axes.minorticks_off()
axes.set(title="Decoding costs the same after any number of steps")

assert max(state_sizes) < 256  # and that is the work of a step, whatever the length

# %% [markdown]
# The price: the state stands for filters of length $L$ and nothing beyond, so step $L + 1$ is refused, and it is kept
# in float64, because small filters are differences of large terms.

# %% [markdown]
# ## 8 · Summary
#
# - By Adam, an STU learns a symmetric system to a relative MSE near 1e-6 in 1500 steps at the rate 1e-2. At 1e-3, the
#   published default, it is hardly under way after 400.
# - It learns no lasting oscillation: a general $A$ stays at .1 and more, and more filters hardly help.
# - Its problem is linear, so it can be solved, and then neither the spectral radius nor the seed matters. That, not a
#   better descent, is its advantage over fitting the system.
# - Against an FIR filter it needs $L / 2K$ times fewer noisy observations; on clean data it gains nothing. With
#   noise, the system itself is the best model of the system.
# - The same weights run in the frequency domain, in chunks, or token by token at a cost that does not depend on the
#   past.

# %%
write_json(
    run.path / "results.json",
    {
        "held_out": held_out,
        "clean": {name: error.tolist() for name, error in clean.items()},
        "noisy": {name: error.tolist() for name, error in noisy.items()},
        "decode_ms": {"lengths": config.decode_lengths, "step": step_ms, "recompute": recompute_ms},
    },
)
run.finish()

# %% [markdown]
# ## Exercises
#
# 1. Train with `use_hankel_L=True`. How many filters does one branch need for the error of two?
# 2. Divide each feature $f_k$ by its size before training. Does Adam get to the floor of section 4, and why?
# 3. In section 5, give the diagonal LDS complex eigenvalues and let all learners loose on general systems.
# 4. Increase `DATA_SEQ_LEN` to 512. How do the STU and the FIR filter compare with noise? Check Eq. 4.
