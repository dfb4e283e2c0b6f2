"""Checkpoints: what is saved comes back, and what does not fit is refused by name."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from tsfm_lab.models import load_model
from tsfm_lab.models.checkpoint import open_pth
from tsfm_lab.models.timer import Timer
from tsfm_lab.models.timer_base import TimerBase
from tsfm_lab.models.timer_xl import TimerXL
from tsfm_lab.models.timer_xl_draft import TimerXLDraft
from tsfm_lab.models.ttm import TinyTimeMixer

TOKENS = {"input_token_len": 4, "output_token_len": 4}
SIZES = {**TOKENS, "d_model": 16, "n_heads": 2, "d_ff": 24, "e_layers": 1}
MODELS = [
    lambda: TimerXL(**SIZES),
    lambda: TimerXL(**SIZES, sigma="calibrated"),
    lambda: TimerXL(**SIZES, sigma="correlated"),
    lambda: TimerXLDraft(**{**SIZES, "d_model": 64}, draft_stochastic=True),
    lambda: Timer(**SIZES),
    lambda: TimerBase(**SIZES),
    lambda: TinyTimeMixer(20, **TOKENS, d_model=16),
]


@pytest.fixture
def x():
    return torch.randn(2, 20, 1)


@pytest.mark.parametrize("make", MODELS)
def test_a_saved_model_comes_back_with_its_configuration_and_forecasts(make, x, tmp_path):
    model = make().eval()
    model.save_pretrained(tmp_path)
    again = load_model(tmp_path)  # the class by config.json's model_type
    assert type(again) is type(model)
    assert again.config == model.config
    assert not again.training
    assert torch.equal(again(x), model(x))


def test_a_calibrated_sigma_survives_saving(x, tmp_path):
    model = TimerXL(**SIZES).eval()
    model.set_sigma(torch.full((4,), 0.25))
    model.save_pretrained(tmp_path)
    assert torch.equal(TimerXL.from_pretrained(tmp_path).law(x).logvar, model.law(x).logvar)
    model.set_sigma(torch.full((4,), 0.25), 0.5 * torch.ones(4, 4) + 0.5 * torch.eye(4))
    model.save_pretrained(tmp_path)
    assert torch.equal(TimerXL.from_pretrained(tmp_path).noise_scale.factor, model.noise_scale.factor)


def rewrite(folder, change):
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: {k: v for k, v in state.items() if k != "head.bias"}, r"missing keys \['head.bias'\]"),
        (lambda state: {**state, "head.scale": torch.ones(1)}, r"extra keys \['head.scale'\]"),
        (
            lambda state: {**state, "head.bias": torch.ones(5)},
            r"head.bias: \(5,\) in the checkpoint, \(4,\) in the model",
        ),
    ],
)
def test_missing_extra_and_misshapen_keys_are_refused_by_name(change, message, tmp_path):
    TimerXL(**SIZES).save_pretrained(tmp_path)
    rewrite(tmp_path, change)
    with pytest.raises(ValueError, match=message):
        TimerXL.from_pretrained(tmp_path)


def test_another_model_type_is_refused(tmp_path):
    Timer(**SIZES).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="TimerXL loads model_type 'timer_xl', got 'timer_openltm'"):
        TimerXL.from_pretrained(tmp_path)


def test_an_unknown_entry_of_the_configuration_is_refused(tmp_path):
    TimerXL(**SIZES).save_pretrained(tmp_path)
    config = tmp_path / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "d_modle": 16}))
    with pytest.raises(ValueError, match=r"no parameters \['d_modle'\]"):
        TimerXL.from_pretrained(tmp_path)


def test_a_folder_without_a_model_says_what_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no config\.json"):
        TimerXL.from_pretrained(tmp_path)


def test_a_pth_of_a_trained_model_loads_and_another_size_is_refused(x, tmp_path):
    model = TimerXL(**SIZES).eval()
    torch.save(model.state_dict(), tmp_path / "checkpoint.pth")
    assert torch.equal(TimerXL.from_pth(tmp_path / "checkpoint.pth", **SIZES)(x), model(x))
    with pytest.raises(ValueError, match=r"other shapes.*embedding\.weight"):
        TimerXL.from_pth(tmp_path / "checkpoint.pth", **{**SIZES, "d_model": 32})


def test_a_pth_of_data_parallel_training_loses_its_prefix(tmp_path):
    torch.save({"module.head.bias": torch.ones(4)}, tmp_path / "checkpoint.pth")
    assert open_pth(tmp_path / "checkpoint.pth").keys() == {"head.bias"}


class Harmful:
    def __reduce__(self):
        return print, ("executed",)


def test_a_pth_that_would_execute_code_is_not_opened(tmp_path, capsys):
    torch.save({"head.bias": Harmful()}, tmp_path / "checkpoint.pth")
    with pytest.raises(ValueError, match="no checkpoint of tensors alone"):
        open_pth(tmp_path / "checkpoint.pth")
    assert capsys.readouterr().out == ""


def test_a_pth_of_something_else_is_refused(tmp_path):
    torch.save([torch.ones(4)], tmp_path / "checkpoint.pth")
    with pytest.raises(ValueError, match="must hold a state dict"):
        open_pth(tmp_path / "checkpoint.pth")


def test_timer_base_reads_the_published_configuration(x, tmp_path):
    model = TimerBase(**SIZES).eval()
    model.save_pretrained(tmp_path)
    published = {
        "architectures": ["TimerForPrediction"],
        "model_type": "timer",
        "input_token_len": 4,
        "output_token_lens": [4],
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "hidden_act": "silu",
        "rope_theta": 10000,
        "transformers_version": "4.40.1",
    }
    (tmp_path / "config.json").write_text(json.dumps(published))
    assert torch.equal(TimerBase.from_pretrained(tmp_path)(x), model(x))
    (tmp_path / "config.json").write_text(json.dumps({**published, "output_token_lens": [4, 8]}))
    with pytest.raises(ValueError, match="one output length"):
        TimerBase.from_pretrained(tmp_path)
