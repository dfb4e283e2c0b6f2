"""A parameters cell becomes a frozen configuration with a stable name."""

from dataclasses import dataclass, replace
from typing import Literal

import pytest

from tsfm_lab.runs.config import config_hash, resolve_config, unhashed


@dataclass(frozen=True)
class Config:
    scale: str
    steps: int = 10
    learning_rate: float = 1e-2
    seeds: tuple[int, ...] = (0, 1)
    model: Literal["moirai", "hybrid"] = "moirai"
    warmup: int | None = 3
    verbose: bool = False
    device: str = unhashed("cpu")

    def __post_init__(self):
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")


PRESETS = {"smoke": Config("smoke"), "lab": Config("lab", steps=1000)}


def test_none_keeps_the_value_of_the_preset():
    assert resolve_config(PRESETS, {"SCALE": "lab", "STEPS": None}) == PRESETS["lab"]


def test_values_are_converted_to_the_annotated_types():
    config = resolve_config(PRESETS, {"SCALE": "smoke", "LEARNING_RATE": "1e-3", "SEEDS": [3, 4], "WARMUP": 5})
    assert (config.learning_rate, config.seeds, config.warmup) == (1e-3, (3, 4), 5)


def test_names_that_are_not_parameters_are_passed_over():
    namespace = {"SCALE": "smoke", "np": pytest, "_": 3, "In": ["x"], "Config": Config, "PRESETS": PRESETS["smoke"]}
    assert resolve_config(PRESETS, namespace) == PRESETS["smoke"]


@pytest.mark.parametrize(
    ("namespace", "message"),
    [
        ({"SCALE": "smok"}, "SCALE must be one of"),
        ({"SCALE": "smoke", "STEPPS": 3}, "unknown parameter STEPPS; did you mean STEPS"),
        ({"SCALE": "smoke", "QQQ": 3}, "unknown parameter QQQ; known: DEVICE"),
        ({"SCALE": "smoke", "STEPS": 1.5}, "STEPS must be int, got 1.5"),
        ({"SCALE": "smoke", "STEPS": True}, "STEPS must be int, got True"),
        ({"SCALE": "smoke", "VERBOSE": 1}, "VERBOSE must be bool, got 1"),
        ({"SCALE": "smoke", "SEEDS": 3}, "SEEDS must be tuple"),
        ({"SCALE": "smoke", "LEARNING_RATE": "fast"}, "LEARNING_RATE must be float, got 'fast'"),
        ({"SCALE": "smoke", "MODEL": "gpt"}, "MODEL must be one of"),
        ({"SCALE": "smoke", "STEPS": 0}, "steps must be at least 1, got 0"),
    ],
)
def test_a_bad_parameter_is_refused_by_name(namespace, message):
    with pytest.raises(ValueError, match=message):
        resolve_config(PRESETS, namespace)


def test_hash_changes_with_an_option_but_not_with_the_device():
    config = PRESETS["smoke"]
    assert config_hash(replace(config, device="cuda")) == config_hash(config)
    assert config_hash(replace(config, steps=11)) != config_hash(config)


def test_hash_is_the_same_on_every_machine():
    assert config_hash(PRESETS["smoke"]) == "ac983b2e"
