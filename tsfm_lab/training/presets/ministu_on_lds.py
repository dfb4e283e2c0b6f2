"""Presets of notebooks/02_ministu_on_lds: a MiniSTU against linear dynamical systems and against other learners."""

from dataclasses import dataclass


@dataclass(frozen=True)
class MinistuOnLds:
    """The systems, the unit, the other learners and the sizes that are timed. All of it runs on the CPU."""

    scale: str
    seeds: tuple[int, ...] = (0, 1, 2)  # of systems, weights and inputs (section 3)

    # training (section 3)
    state_dim: int = 16
    input_dim: int = 2
    output_dim: int = 2
    spectral_radius: float = 0.95
    seq_len: int = 64  # L, steps
    num_filters: int = 24  # K, here and in the other sections
    num_steps: int = 1500  # optimiser steps on the symmetric system
    general_steps: int = 400  # on the general one, which stops improving early
    batch_size: int = 8  # sequences
    learning_rate: float = 1e-2

    # what K filters can reach (section 4)
    floor_seq_len: int = 512  # steps

    # other learners (section 5)
    radii: tuple[float, ...] = (0.9, 0.99, 0.999)  # spectral radii of the systems
    systems: int = 8  # of each radius
    noise: float = 0.1  # of the noisy outputs, in standard deviations of the clean ones
    data_seq_len: int = 128  # steps
    data_sequences: int = 8  # sequences to learn from
    adam_steps: int = 200
    # first learning rates, falling to zero: the best of 3, 1, 0.3, 0.1, 0.03, 0.01 on systems of other seeds
    stu_learning_rate: float = 1.0
    lds_learning_rate: float = 0.3
    gru_learning_rate: float = 0.1

    # speed (sections 6 and 7)
    timed_sizes: tuple[tuple[int, ...], ...] = ((512, 32, 4), (2048, 32, 1), (512, 96, 2))  # L, channels, batch
    decode_lengths: tuple[int, ...] = (256, 1024, 4096)  # steps already seen

    def __post_init__(self) -> None:
        for name in ("num_steps", "general_steps", "adam_steps", "batch_size", "systems", "data_sequences"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.seeds or not self.radii:
            raise ValueError(f"seeds and radii must name at least one each, got {self.seeds} and {self.radii}")
        if any(len(size) != 3 for size in self.timed_sizes):
            raise ValueError(f"timed_sizes must be triples (L, channels, batch), got {self.timed_sizes}")


MINISTU_ON_LDS = {
    "smoke": MinistuOnLds("smoke"),
    "lab": MinistuOnLds(
        "lab",
        seeds=(0, 1, 2, 3, 4),
        seq_len=128,
        num_steps=4000,
        general_steps=2000,
        batch_size=32,
        floor_seq_len=2048,
        radii=(0.9, 0.97, 0.99, 0.997, 0.999),
        systems=16,
        data_seq_len=256,
        adam_steps=2000,
        timed_sizes=((512, 64, 8), (1024, 64, 8), (4096, 64, 2), (512, 384, 4), (1024, 384, 2)),
        decode_lengths=(256, 1024, 4096, 8192),
    ),
    # the example of the published package: 20 states, 10 inputs, 5 outputs, sequences of 128 steps in batches of 32
    "full": MinistuOnLds(
        "full",
        seeds=(0, 1, 2, 3, 4),
        state_dim=20,
        input_dim=10,
        output_dim=5,
        spectral_radius=0.99,
        seq_len=128,
        num_steps=10000,
        general_steps=10000,
        batch_size=32,
        floor_seq_len=4096,
        radii=(0.9, 0.97, 0.99, 0.997, 0.999),
        systems=16,
        data_seq_len=512,
        data_sequences=16,
        adam_steps=3000,
        timed_sizes=((512, 64, 8), (1024, 64, 8), (4096, 64, 2), (512, 384, 4), (1024, 384, 2), (4096, 384, 1)),
        decode_lengths=(256, 1024, 4096, 8192),
    ),
}
