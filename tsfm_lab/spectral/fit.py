"""Train a MiniSTU on a linear dynamical system: white noise in, the system's output as the target."""

import hashlib
import logging
import sys
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from tsfm_lab.runs.files import atomic_write
from tsfm_lab.spectral.lds import LDS
from tsfm_lab.spectral.mini_stu import MiniSTU

logger = logging.getLogger(__name__)


def train_stu_on_lds(
    lds: LDS,
    seq_len: int,
    num_filters: int,
    num_steps: int = 1000,
    batch_size: int = 32,
    learning_rate: float = 1e-3,
    verbose: bool = True,
    use_mlp: bool = False,
    mlp_hidden_dim: int | None = None,
    mlp_num_layers: int = 2,
    mlp_dropout: float = 0.0,
    mlp_activation: str = "relu",
    *,
    use_hankel_L: bool = False,
    backend: str = "spectral",
    seed: int = 0,
    checkpoint_path: Path | str | None = None,
    checkpoint_every: int = 100,
) -> tuple[MiniSTU, list[float]]:
    """Minimise E ‖STU(u) − LDS(u)‖² over white noise u with Adam; the batch of a step is a function of (seed, step).

    A symmetric system is learnt to a relative error of 1e-4 and less at learning rate 1e-2; at the default 1e-3, the
    published one, a thousand steps leave 3e-2. A general one, with complex eigenvalues, stays near 1e-1.

    Parameters
    ----------
    seq_len: steps in a training sequence, the length of the filters.
    batch_size: sequences in a step.
    verbose: a progress bar on a terminal, some six lines of the log elsewhere.
    backend: of the MiniSTU.
    seed: of the initial weights, the batches and the dropout.
    checkpoint_path: where the training stands. If the file exists, training goes on from it and repeats the losses of
        an unbroken run bit for bit (on the CPU with one thread).
    checkpoint_every: steps between two checkpoints; the last step makes one too.

    Returns
    -------
    stu: the trained MiniSTU, in evaluation mode, on the device and in the dtype of `lds`.
    losses: mean squared error of each step.

    Raises
    ------
    ValueError: the checkpoint was made with other settings (they are named), or holds more than num_steps.
    """
    for name, value in (("num_steps", num_steps), ("batch_size", batch_size), ("checkpoint_every", checkpoint_every)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    model_settings = {
        "seq_len": seq_len,
        "num_filters": num_filters,
        "use_hankel_L": use_hankel_L,
        "use_mlp": use_mlp,
        "mlp_hidden_dim": mlp_hidden_dim,
        "mlp_num_layers": mlp_num_layers,
        "mlp_dropout": mlp_dropout,
        "mlp_activation": mlp_activation,
        "backend": backend,
    }
    settings = {
        **model_settings,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "seed": seed,
        "lds": _fingerprint(lds),
    }
    device, dtype = lds.B.device, lds.B.dtype
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        stu = MiniSTU(input_dim=lds.input_dim, output_dim=lds.output_dim, dtype=dtype, device=device, **model_settings)
        optimizer = torch.optim.Adam(stu.parameters(), lr=learning_rate)
        losses = _resume(checkpoint_path, settings, num_steps, stu, optimizer)
        stu.train()
        for step in _report(range(len(losses), num_steps), losses, num_steps, verbose):
            u = _draw_batch(seed, step, (batch_size, seq_len, lds.input_dim)).to(device, dtype)
            losses.append(_take_step(stu, optimizer, u, lds))
            if checkpoint_path is not None and ((step + 1) % checkpoint_every == 0 or step + 1 == num_steps):
                _save(Path(checkpoint_path), settings, stu, optimizer, losses)
    return stu.eval(), losses


def _draw_batch(seed: int, step: int, shape: tuple[int, ...]) -> Tensor:
    """White noise of a step, and the state of the default generators that dropout draws from in it."""
    digest = hashlib.sha256(f"{seed}/{step}".encode()).digest()
    torch.manual_seed(int.from_bytes(digest[:8], "little", signed=True))
    return torch.randn(shape)


def _take_step(stu: MiniSTU, optimizer: torch.optim.Optimizer, u: Tensor, lds: LDS) -> float:
    with torch.no_grad():
        target = lds(u)
    loss = (stu(u) - target).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def _report(steps: range, losses: list[float], num_steps: int, verbose: bool):
    """The steps, with a progress bar on a terminal or some six log lines elsewhere."""
    bar = tqdm(
        steps, initial=steps.start, total=num_steps, desc="MiniSTU", disable=not (verbose and sys.stderr.isatty())
    )
    every = max(1, num_steps // 5)
    for step in bar:
        yield step
        if not verbose:
            continue
        bar.set_postfix(loss=f"{losses[-1]:.2e}", refresh=False)
        if bar.disable and (step % every == 0 or step + 1 == num_steps):
            logger.info("step %d of %d: loss %.2e", step + 1, num_steps, losses[-1])


def _fingerprint(lds: LDS) -> str:
    """A hash of the system's matrices, so that a checkpoint is not continued on another system."""
    digest = hashlib.sha256()
    for name, parameter in lds.named_parameters():
        digest.update(f"{name} {tuple(parameter.shape)} {parameter.dtype}".encode())
        digest.update(parameter.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _save(path: Path, settings: dict, stu: MiniSTU, optimizer: torch.optim.Optimizer, losses: list[float]) -> None:
    state = {"settings": settings, "model": stu.state_dict(), "optimizer": optimizer.state_dict(), "losses": losses}
    with atomic_write(path, "wb") as file:
        torch.save(state, file)


def _resume(
    path: Path | str | None, settings: dict, num_steps: int, stu: MiniSTU, optimizer: torch.optim.Optimizer
) -> list[float]:
    """Load a checkpoint into the model and the optimiser, if there is one; the losses so far."""
    if path is None or not Path(path).exists():
        return []
    state = torch.load(path, map_location="cpu", weights_only=True)
    changed = {name for name in settings | state["settings"] if settings.get(name) != state["settings"].get(name)}
    if changed:
        was = ", ".join(
            f"{name}={state['settings'].get(name)} (asked: {settings.get(name)})" for name in sorted(changed)
        )
        raise ValueError(f"checkpoint {path} was made with {was}: choose another checkpoint_path, or remove the file")
    if len(state["losses"]) > num_steps:
        raise ValueError(
            f"checkpoint {path} holds {len(state['losses'])} steps, num_steps is {num_steps}: ask for more"
        )
    stu.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return state["losses"]
