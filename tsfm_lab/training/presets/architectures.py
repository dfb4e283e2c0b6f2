"""Presets of notebooks/03_architectures: the sizes at which the models are compared, and a moment of training."""

from dataclasses import dataclass

from tsfm_lab.runs.config import unhashed


@dataclass(frozen=True)
class Architectures:
    """What notebook 03 traces, counts and times."""

    scale: str
    seed: int = 0
    d_model: int = 128  # of the models that are timed; counts are those of the published sizes
    num_layers: int = 4
    lengths: tuple[int, ...] = (64, 128, 256, 512)  # tokens of a row, one series each
    rounds: int = 3  # timings of each, in turn
    expert_steps: int = 45  # training steps of the models whose experts are looked at
    device: str = unhashed("cpu")

    def __post_init__(self) -> None:
        if not self.lengths or min(self.lengths) < 32:
            raise ValueError(f"lengths must be at least 32 tokens, got {self.lengths}")
        if self.rounds < 1:
            raise ValueError(f"rounds must be at least 1, got {self.rounds}")
        if self.expert_steps < 18:
            raise ValueError(f"expert_steps must be at least 18, to see a loss fall, got {self.expert_steps}")


LONG = (128, 256, 512, 1024, 2048, 4096)

ARCHITECTURES = {
    "smoke": Architectures("smoke"),
    "lab": Architectures("lab", d_model=384, num_layers=6, lengths=LONG, rounds=20, device="cuda"),
    "full": Architectures("full", d_model=1024, num_layers=24, lengths=LONG, rounds=20, device="cuda"),
}
