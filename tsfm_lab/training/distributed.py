"""Processes that srun or torchrun has started, each with one device: how the trainer joins them."""

import os
from typing import Any

from lightning.pytorch.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from lightning.pytorch.strategies import DDPStrategy


class ExternalDDPStrategy(DDPStrategy):
    """DDP over processes that exist already, a Jupyter kernel each.

    Lightning refuses DDP inside a kernel because of its launcher; where there is nothing to launch, none is needed.
    """

    def _configure_launcher(self) -> None:
        pass


def process_layout() -> dict[str, Any]:
    """Arguments of Lightning's Trainer for this process: devices, num_nodes, strategy, plugins.

    A step of srun or torchrun with several tasks: DDP over them. Otherwise this process alone with one device; further
    GPUs need a process each.
    """
    environment: ClusterEnvironment
    if int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
        # the batch script requeues; Lightning's own requeueing would leave a checkpoint that the next launch restores
        environment = SLURMEnvironment(auto_requeue=False)
        num_nodes = int(os.environ["SLURM_NNODES"])
    elif "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ["WORLD_SIZE"]) > 1:
        environment = TorchElasticEnvironment()
        num_nodes = int(os.environ["WORLD_SIZE"]) // int(os.environ["LOCAL_WORLD_SIZE"])
    else:
        # said explicitly, or Lightning takes any SLURM allocation around this process for its own
        return {"devices": 1, "num_nodes": 1, "strategy": "auto", "plugins": [LightningEnvironment()]}
    return {
        "devices": environment.world_size() // num_nodes,
        "num_nodes": num_nodes,
        "strategy": ExternalDDPStrategy(cluster_environment=environment),
        "plugins": [],
    }
