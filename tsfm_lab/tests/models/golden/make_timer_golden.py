"""Run a peer of the Timer family on small random weights and store weights, input and output.

    python make_timer_golden.py openltm    DIR OUT.npz    # checkout of github.com/thuml/OpenLTM
    python make_timer_golden.py stride     DIR OUT.npz    # checkout of github.com/PranavSubbaraman/STRIDE
    python make_timer_golden.py timer-base DIR OUT.npz    # folder with the package `sktime_timer`, sktime's copy of the
                                                          # code on the hub (needs transformers 4.40.1)

A case is `<family>` or `<family>/<variant>`, stored as `<family>/weights/<key>`, `<case>/x`, `<case>/y` and, for a
law, `<case>/logvar`. The sizes are below.
"""

import sys
from argparse import Namespace
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import nn

SIZES = {"input_token_len": 4, "output_token_len": 4, "d_model": 16, "n_heads": 2, "d_ff": 24, "e_layers": 2}
OPTIONS = {"dropout": 0.1, "flash_attention": False, "output_attention": False}
MIXER = {"seq_len": 20, "patch_size": 4, "stride": 4, "layers": 2, "hidden_dim": 8, "n_vars": 3, "test_pred_len": 4}
MIXER_MODES = {"mode": "common_channel", "d_mode": "common_channel", "use_decoder": True}
SCALES = {"draft_scale_d_model": 0.5, "draft_scale_n_heads": 0.5, "draft_scale_d_ff": 0.5, "draft_scale_e_layers": 0.5}
TARGET = {**SIZES, "d_model": 48, "n_heads": 4, "d_ff": 128}


def openltm_cases() -> dict[str, tuple[nn.Module, torch.Tensor]]:
    from models import timer, timer_xl, ttm

    def build(module, **options):
        return module.Model(Namespace(**{**SIZES, **OPTIONS, "use_norm": True, "activation": "relu", **options}))

    x = {c: 3 + 2 * torch.randn(2, 20, c) for c in (1, 3)}
    cases = {
        f"xl/{activation}-{'covariate' if covariate else 'multivariate'}-{'norm' if norm else 'raw'}-{c}": (
            build(timer_xl, activation=activation, covariate=covariate, use_norm=norm),
            x[c],
        )
        for activation, covariate, norm, c in [
            ("relu", False, True, 1),
            ("relu", False, True, 3),
            ("gelu", False, False, 3),
            ("relu", True, True, 3),
        ]
    }
    cases["timer"] = build(timer), x[3]
    for levels in (0, 3):
        cases[f"ttm-{levels}"] = build(ttm, **MIXER, **MIXER_MODES, AP_levels=levels), x[3]
    return cases


def stride_cases() -> dict[str, tuple[nn.Module, torch.Tensor]]:
    from models import timer_xl_draft

    options = {**TARGET, **OPTIONS, **SCALES, "use_norm": True, "activation": "relu", "covariate": False}
    x = 3 + 2 * torch.randn(2, 20, 3)
    return {
        f"draft-{name}": (timer_xl_draft.Model(Namespace(**options, draft_stochastic=name == "stochastic")), x)
        for name in ("point", "stochastic")
    }


def timer_base_cases() -> dict[str, tuple[nn.Module, torch.Tensor]]:
    from sktime_timer.configuration_timer import TimerConfig
    from sktime_timer.modeling_timer import TimerForPrediction

    config = TimerConfig(
        input_token_len=4,
        output_token_lens=[4],
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
    )
    return {"timer-base": (TimerForPrediction(config), 3 + 2 * torch.randn(2, 20))}


def forward(model: nn.Module, x: torch.Tensor) -> dict[str, np.ndarray]:
    if x.ndim == 2:  # the hub's model: one variate, and only the last token's forecast
        return {"y": model(input_ids=x.clone(), revin=True, use_cache=False, return_dict=True).logits.numpy()}
    y = model(x.clone(), None, None)  # OpenLTM divides its input in place
    return {"y": y[0].numpy(), "logvar": y[1].numpy()} if isinstance(y, tuple) else {"y": y.numpy()}


def main(peer: str, checkout: str, out: str) -> None:
    sys.path.insert(0, checkout)
    models = sys.modules.setdefault("models", ModuleType("models"))
    models.__path__ = [f"{checkout}/models"]  # without its __init__, which needs more than these models do
    torch.manual_seed(0)
    cases = {"openltm": openltm_cases, "stride": stride_cases, "timer-base": timer_base_cases}[peer]()
    arrays = {}
    for name, (model, x) in cases.items():
        family = name.partition("/")[0]
        for key, parameter in model.named_parameters():
            stored = f"{family}/weights/{key}"
            if stored not in arrays:  # multiples of 1/64, which half precision holds exactly
                arrays[stored] = (torch.randn_like(parameter).mul(0.3 * 64).round() / 64).half().numpy()
            parameter.data = torch.from_numpy(arrays[stored]).float()
        arrays[f"{name}/x"] = x.numpy()
        with torch.no_grad():
            arrays |= {f"{name}/{key}": value for key, value in forward(model.eval(), x).items()}
    np.savez_compressed(Path(out), **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
