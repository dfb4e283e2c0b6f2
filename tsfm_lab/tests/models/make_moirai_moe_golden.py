"""Writes golden/moirai_moe.npz: what uni2ts 2.0.0 computes for a small MOIRAI-MoE on a packed batch.

Run where uni2ts is installed:  python -m tsfm_lab.tests.models.make_moirai_moe_golden
As make_golden.py: weights are a formula of their names, the package computes in float64, stored is float32.
"""

from pathlib import Path
from unittest import mock

import numpy as np
import torch

from tsfm_lab.tests.models.make_golden import (
    LOSS_FIELDS,
    fill_weights,
    hash_uniform,
    inside_patches,
    project_gradients,
    to_double,
)
from tsfm_lab.tests.models.packed_rows import make_packed_batch

FILE = Path(__file__).parent / "golden" / "moirai_moe.npz"
SIZES = {
    "d_model": 128,
    "d_ff": 24,
    "num_layers": 2,
    "patch_sizes": (8, 16),
    "max_seq_len": 40,
    "attn_dropout_p": 0.0,
    "dropout_p": 0.0,
}


@torch.no_grad()
def fill(model):
    """The formula's weights; centroids as far from the origin as tokens are, whose root mean square is about 1."""
    fill_weights(model)
    shape = (SIZES["num_layers"], 32, SIZES["d_model"])
    centroid = 3**0.5 * hash_uniform("encoder.centroid", shape).double()
    model.load_state_dict({**model.state_dict(), "encoder.centroid": centroid})


def compute_golden():
    from uni2ts.distribution import (
        LogNormalOutput,
        MixtureOutput,
        NegativeBinomialOutput,
        NormalFixedScaleOutput,
        StudentTOutput,
    )
    from uni2ts.loss.packed import PackedNLLLoss
    from uni2ts.model.moirai_moe.module import MoiraiMoEModule

    batch = make_packed_batch(tokens=40, seed=2, patch_sizes=SIZES["patch_sizes"])
    inputs, real = to_double(batch), batch["sample_id"] > 0
    output = MixtureOutput(
        [StudentTOutput(), NormalFixedScaleOutput(1e-3), NegativeBinomialOutput(), LogNormalOutput()]
    )
    model = MoiraiMoEModule(output, **SIZES)
    fill(model)
    model.double()
    for module in model.modules():
        if hasattr(module, "_init_freq"):  # the tables of rotary angles were made in float32
            module.cos = None
            module._init_freq(SIZES["max_seq_len"])
    encoded, chosen, topk = [], [], torch.topk
    model.encoder.register_forward_hook(lambda module, args, result: encoded.append(result.detach()))

    def record_topk(*args, **kwargs):
        chosen.append(topk(*args, **kwargs))
        return chosen[-1]

    with mock.patch("torch.topk", record_topk):
        law = model(**inputs)
    inside = inside_patches(batch) & real[..., None]
    loss = PackedNLLLoss()(law, **{name: inputs[name] for name in LOSS_FIELDS})
    loss.backward()
    values = {
        "experts": torch.stack([indices[real.flatten()] for _, indices in chosen]).to(torch.int16),
        "distances": torch.stack([distances[real.flatten()] for distances, _ in chosen]).float(),
        "encoded": encoded[0][real].float(),
        "log_prob": law.log_prob(inputs["target"])[inside].float(),
        "loss": loss.float(),
    }
    gradients = {
        f"grad/{name}": value.float() for name, value in project_gradients(model).items() if "experts" not in name
    }
    experts = {name: parameter.grad for name, parameter in model.named_parameters() if "experts" in name}
    values["expert_gradient_norms"] = torch.stack([gradient.norm() for gradient in experts.values()]).float()
    return {**{f"batch/{name}": value for name, value in batch.items()}, **values, **gradients}


if __name__ == "__main__":
    results = {name: value.detach().numpy() for name, value in compute_golden().items()}
    np.savez_compressed(FILE, **results)
    print(f"{FILE}: {FILE.stat().st_size / 1000:.0f} kB")
