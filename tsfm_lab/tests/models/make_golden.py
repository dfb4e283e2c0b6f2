"""Writes golden/moirai.npz: what uni2ts 2.0.0 computes for a small MOIRAI on a packed batch.

Run where uni2ts is installed:  python -m tsfm_lab.tests.models.make_golden
The weights are a formula of their names, so that the file holds the batch and the results alone. The package computes
in float64, because float32 is no reference here: in it a gradient is .6 % off (the component of scale .001 multiplies a
location's rounding by a thousand). Stored is float32.
"""

import zlib
from pathlib import Path

import numpy as np
import torch

from tsfm_lab.tests.models.packed_rows import PATCH_SIZES, make_packed_batch

FILE = Path(__file__).parent / "golden" / "moirai.npz"
SIZES = {
    "d_model": 128,
    "num_layers": 2,
    "patch_sizes": PATCH_SIZES,
    "max_seq_len": 56,
    "attn_dropout_p": 0.0,
    "dropout_p": 0.0,
}
LOSS_FIELDS = ("target", "prediction_mask", "observed_mask", "sample_id", "variate_id")


def hash_uniform(name, shape):
    """Numbers in [−1, 1) that depend on the name and place alone: splitmix64, in exact integers."""
    with np.errstate(over="ignore"):
        z = np.arange(1, int(np.prod(shape)) + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z += np.uint64(zlib.crc32(name.encode())) << np.uint64(32)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return torch.from_numpy((z >> np.uint64(40)).astype(np.float32) / 2**23 - 1).view(*shape)


@torch.no_grad()
def fill_weights(model):
    """Norms around 1, biases up to .3, matrices up to √(3/width), that is of variance 1/width."""
    for name, parameter in model.named_parameters():
        numbers = hash_uniform(name, parameter.shape)
        if "norm" in name:
            parameter.copy_(1 + 0.3 * numbers)
        elif name.endswith("bias"):
            parameter.copy_(0.3 * numbers)
        else:
            parameter.copy_(numbers * (3 / parameter.shape[-1]) ** 0.5)


def to_double(batch):
    return {name: value.double() if value.is_floating_point() else value for name, value in batch.items()}


def inside_patches(batch):
    """(b t p) bool: positions of real tokens inside their patch, the only ones that a law speaks of."""
    return torch.arange(batch["target"].shape[-1]) < batch["patch_size"][..., None]


def project_gradients(model):
    """For each parameter the norm of its gradient and the gradient's product with a fixed direction."""
    return {
        name: torch.stack([p.grad.norm(), (p.grad * hash_uniform(f"{name} direction", p.shape)).sum()])
        for name, p in model.named_parameters()
    }


def compute_golden():
    from uni2ts.distribution import (
        LogNormalOutput,
        MixtureOutput,
        NegativeBinomialOutput,
        NormalFixedScaleOutput,
        StudentTOutput,
    )
    from uni2ts.loss.packed import PackedNLLLoss
    from uni2ts.model.moirai.module import MoiraiModule

    batch = make_packed_batch(tokens=56, seed=2)
    inputs = to_double(batch)
    output = MixtureOutput(
        [StudentTOutput(), NormalFixedScaleOutput(1e-3), NegativeBinomialOutput(), LogNormalOutput()]
    )
    model = MoiraiModule(output, **SIZES)
    fill_weights(model)
    model.double()
    for module in model.modules():
        if hasattr(module, "_init_freq"):  # the tables of rotary angles were made in float32
            module.cos = None
            module._init_freq(SIZES["max_seq_len"])
    encoded = []
    model.encoder.register_forward_hook(lambda module, args, result: encoded.append(result.detach()))
    law = model(**inputs)
    inside = inside_patches(batch)
    mixture = law.base_dist
    loss = PackedNLLLoss()(law, **{name: inputs[name] for name in LOSS_FIELDS})
    loss.backward()
    values = {
        "log_weights": mixture.weights.logits[inside],
        **{
            f"{type(component).__name__}.{name}": getattr(component, name)[inside]
            for component in mixture.components
            for name in component.arg_constraints
            if (type(component).__name__, name) != ("Normal", "scale")
        },
        "log_prob": law.log_prob(inputs["target"])[inside],
        "mean": law.mean[inside],
        "loss": loss,
        "encoded": encoded[0][batch["sample_id"] > 0],
        "loc": law.loc,
        "scale": law.scale,
    }
    gradients = {f"grad/{name}": value for name, value in project_gradients(model).items()}
    results = {name: value.detach().float() for name, value in (values | gradients).items()}
    return {**{f"batch/{name}": value for name, value in batch.items()}, **results}


if __name__ == "__main__":
    FILE.parent.mkdir(exist_ok=True)
    np.savez_compressed(FILE, **{name: value.numpy() for name, value in compute_golden().items()})
    print(f"{FILE}: {FILE.stat().st_size / 1000:.0f} kB")
