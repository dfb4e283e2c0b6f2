"""Random draws of a forecast: determined by its own generator, apart from everybody else's."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(generator: torch.Generator, device: torch.device) -> Iterator[None]:
    """Within the block the default generators draw what `generator` determines; afterwards they go on as before."""
    seed = int(torch.randint(2**62, (), generator=generator))
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
