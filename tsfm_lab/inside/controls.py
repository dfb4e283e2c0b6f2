"""The control of every look inside: the same architecture with weights that have learnt nothing."""

from typing import TypeVar

import torch

from tsfm_lab.distributions import decode_output
from tsfm_lab.models import CheckpointMixin

M = TypeVar("M", bound=CheckpointMixin)


def untrained_twin(module: M, seed: int = 0) -> M:
    """A model of the same class and configuration with the initial weights of `seed`, in evaluation mode.

    What it shows is due to the architecture, the data and the way of looking; only what exceeds it was learnt.
    """
    arguments = module.config
    if isinstance(arguments.get("distr_output"), dict):
        arguments["distr_output"] = decode_output(arguments["distr_output"])
    parameter = next(module.parameters())
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        twin = type(module)(**arguments)
    return twin.to(parameter).eval()
