"""Learners of linear systems, side by side: many systems of one input and one output are fitted in one go.

Axis m counts the systems; everything of one system stays apart from the others, so that fitting them together gives
what fitting each alone gives. Two ways to learn: least squares on fixed filters, and Adam on a module.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import einsum, rearrange
from torch import Tensor, nn

from tsfm_lab.spectral import random_LDS

STATE_DIM = 8  # of the systems to be learnt
NEW_SEQUENCES = 64  # of each system, to judge by


@dataclass(frozen=True)
class Problems:
    """Sequences of m systems: u, y to learn from (m b t), y perhaps noisy; u_new, y_new to judge by, without noise."""

    u: Tensor
    y: Tensor
    u_new: Tensor
    y_new: Tensor


def draw_problems(
    noises: Sequence[float], radii: Sequence[float], seeds: Sequence[int], num_sequences: int, seq_len: int
) -> Problems:
    """A random symmetric system for each radius and seed, driven by white noise, for each level of output noise.

    noises: added to the outputs to learn from, in standard deviations of the clean outputs; m = (noise radius seed).
    """
    drawn = [
        _draw(noise, radius, seed, num_sequences, seq_len) for noise in noises for radius in radii for seed in seeds
    ]
    return Problems(*(torch.stack(tensors) for tensors in zip(*drawn, strict=True)))


def _draw(noise: float, radius: float, seed: int, b: int, seq_len: int) -> tuple[Tensor, ...]:
    lds = random_LDS(STATE_DIM, 1, 1, radius, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    u = torch.randn(b + NEW_SEQUENCES, seq_len, 1, generator=generator)
    with torch.no_grad():
        y = lds(u)[..., 0]
    y = y / y.std()
    noisy = y + noise * torch.randn(y.shape, generator=generator)
    return u[:b, :, 0], noisy[:b], u[b:, :, 0], y[b:]


def respond(W: Tensor, u: Tensor) -> Tensor:
    """ŷ(t) = Σ_l W(l) u(t − l), an impulse response for each system: W (m l), u (m b t) -> (m b t)."""
    n = 2 * u.shape[-1]
    spectrum = torch.fft.rfft(rearrange(W, "m l -> m 1 l"), n=n) * torch.fft.rfft(u, n=n)
    return torch.fft.irfft(spectrum, n=n)[..., : u.shape[-1]]


def solve(psi: Tensor, problems: Problems) -> Tensor:
    """The best W = Σ_k M_k ψ_k for the data of each system, by least squares: psi (l k), float64 -> W (m l)."""
    W = []
    for u, y in zip(problems.u.to(psi), problems.y.to(psi), strict=True):
        b, k = len(u), psi.shape[1]
        filters = rearrange(psi, "l k -> k l")
        f = rearrange(respond(filters, u.expand(k, b, -1)), "k b t -> (b t) k")
        W.append(psi @ torch.linalg.lstsq(f, rearrange(y, "b t -> (b t) 1")).solution[:, 0])
    return torch.stack(W)


def judge(y_hat: Tensor, problems: Problems) -> Tensor:
    """Mean squared error over the mean square of the truth, on new input: (m b t) -> (m)."""
    return (y_hat - problems.y_new).square().mean(dim=(1, 2)) / problems.y_new.square().mean(dim=(1, 2))


def fit(module: nn.Module, problems: Problems, num_steps: int, learning_rate: float) -> Tensor:
    """Adam on all sequences at once, its learning rate falling linearly to zero; the error of each system (m).

    The losses of the systems are added, and Adam scales each number by its own gradients: neither mixes systems.
    """
    optimizer = torch.optim.Adam(module.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=num_steps)
    for _ in range(num_steps):
        loss = (module(problems.u) - problems.y).square().mean(dim=(1, 2)).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        return judge(module(problems.u_new), problems)


class STULearner(nn.Module):
    """ŷ = Σ_k M_k (ψ_k ∗ u): psi (l k), M (m k)."""

    def __init__(self, num_systems: int, psi: Tensor):
        super().__init__()
        self.psi = psi.float()
        self.M = nn.Parameter(torch.randn(num_systems, psi.shape[1]) * psi.shape[1] ** -0.5)

    def forward(self, u: Tensor) -> Tensor:
        """u (m b t) -> (m b t)."""
        return respond(self.M @ self.psi.T, u)


class DiagonalLDSLearner(nn.Module):
    """h_{t+1} = α ⊙ h_t + B u_t, y_t = C h_t with α = tanh θ, which cannot explode: theta, B, C (m n).

    Run by its impulse response Σ_n C_n B_n α_n^{l−1}, which has the same gradients as the recurrence.
    """

    def __init__(self, num_systems: int, state_dim: int):
        super().__init__()
        shape = (num_systems, state_dim)
        self.theta = nn.Parameter(torch.atanh(2 * torch.rand(shape) - 1))
        self.B = nn.Parameter(torch.randn(shape))
        self.C = nn.Parameter(torch.randn(shape) * state_dim**-0.5)

    def forward(self, u: Tensor) -> Tensor:
        """u (m b t) -> (m b t)."""
        powers = rearrange(torch.tanh(self.theta), "m n -> m n 1") ** torch.arange(u.shape[-1] - 1, device=u.device)
        W = einsum(self.B, self.C, powers, "m n, m n, m n l -> m l")
        return respond(nn.functional.pad(W, (1, 0)), u)


class GRULearner(nn.Module):
    """h ← z ⊙ h + (1 − z) ⊙ tanh(W u + b + r ⊙ U h), gates r, z = sigmoid(W u + b + U h), y = C h, as `torch.nn.GRU`.

    The three blocks r, z and candidate lie side by side: W, b (m 3n), U (m n 3n); C (m n).
    """

    def __init__(self, num_systems: int, hidden_dim: int):
        super().__init__()
        for name, shape in (("W", (3 * hidden_dim,)), ("b", (3 * hidden_dim,)), ("U", (hidden_dim, 3 * hidden_dim))):
            start = (2 * torch.rand(num_systems, *shape) - 1) * hidden_dim**-0.5
            self.register_parameter(name, nn.Parameter(start))
        self.C = nn.Parameter((2 * torch.rand(num_systems, hidden_dim) - 1) * hidden_dim**-0.5)

    def forward(self, u: Tensor) -> Tensor:
        """u (m b t) -> (m b t)."""
        h, states = u.new_zeros(*u.shape[:2], self.C.shape[1]), []
        W, b = rearrange(self.W, "m n -> m 1 n"), rearrange(self.b, "m n -> m 1 n")
        for u_t in u.unbind(dim=-1):
            new_r, new_z, new_h = torch.addcmul(b, rearrange(u_t, "m b -> m b 1"), W).chunk(3, dim=-1)
            past_r, past_z, past_h = torch.bmm(h, self.U).chunk(3, dim=-1)
            candidate = torch.tanh(new_h + torch.sigmoid(past_r + new_r) * past_h)
            h = torch.lerp(candidate, h, torch.sigmoid(past_z + new_z))
            states.append(h)
        return einsum(torch.stack(states, dim=2), self.C, "m b t n, m n -> m b t")
