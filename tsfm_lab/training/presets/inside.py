"""Presets of notebooks/09_inside_the_models: which checkpoints are looked into, and with how many series."""

from dataclasses import dataclass, replace

from tsfm_lab.runs.config import unhashed


@dataclass(frozen=True)
class Inside:
    """What notebook 09 looks at. A model is whatever `tsfm_lab.load` opens: a name, a folder, a run's, a hub id."""

    scale: str

    # models
    baseline: str = "moirai-tiny"  # attention in every layer
    hybrid: str = "moirai-hybrid-tiny"  # with causal STU layers
    experts: str = "moirai-moe-tiny"  # with experts
    decoder: str = "moirai2-tiny"  # causal, with quantiles
    seed: int = 0  # of the untrained twins and of all that is drawn
    season_steps: int = 52  # of the series in which heads may find the season; no whole number of patches
    season_twins: int = 19  # untrained twins that a head which finds the season has to exceed

    # series; all models read the same ones
    patch_size: int = 16  # steps; of MOIRAI-2 the only one
    context_tokens: int = 32
    horizon_tokens: int = 4
    probe_series: int = 360  # with a known period and trend; a third of them judges the probes
    ablation_series: int = 48  # the first of them, on which layers are left out
    pattern_series: int = 24  # of each pattern, for the experts
    draws: int = 200  # of each permutation null
    held_out: tuple[str, ...] = ("co2", "nile")  # sets of the registry on which layers are left out
    held_out_windows: int = 2  # last windows of each series
    score_context: int = 256  # steps of history that a scored forecast sees
    num_samples: int = 50  # draws of a scored forecast

    device: str = unhashed("cpu")

    def __post_init__(self) -> None:
        positive = (
            "season_twins",
            "horizon_tokens",
            "pattern_series",
            "draws",
            "held_out_windows",
            "score_context",
            "num_samples",
        )
        for name in positive:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.context_tokens < 16:
            raise ValueError(f"context_tokens must be at least 16, to see some seasons, got {self.context_tokens}")
        if not 2 * self.patch_size < self.season_steps < self.context_tokens * self.patch_size // 4:
            raise ValueError(
                f"season_steps must be above two patches of {self.patch_size} steps and "
                f"below a quarter of the context, got {self.season_steps}"
            )
        if self.probe_series < 60:
            raise ValueError(f"probe_series must be at least 60, to fit a probe, got {self.probe_series}")
        if not 1 <= self.ablation_series <= self.probe_series:
            raise ValueError(
                f"ablation_series must be 1 … probe_series={self.probe_series}, got {self.ablation_series}"
            )
        if not self.held_out:
            raise ValueError("held_out must name at least one set, got none")


_SMOKE = Inside(scale="smoke")

_LAB = replace(
    _SMOKE,
    scale="lab",
    probe_series=3000,
    ablation_series=1000,
    pattern_series=200,
    draws=1000,
    held_out=("co2", "nile", "monash_hospital", "monash_tourism_monthly"),
    held_out_windows=4,
    num_samples=100,
    device="cuda",
)

# the published checkpoints of the hub; no hybrid is published, so the tiny one stands in until HYBRID names another
_FULL = replace(
    _LAB,
    scale="full",
    baseline="Salesforce/moirai-1.1-R-small",
    experts="Salesforce/moirai-moe-1.0-R-small",
    decoder="Salesforce/moirai-2.0-R-small",
    context_tokens=48,
)

INSIDE = {"smoke": _SMOKE, "lab": _LAB, "full": _FULL}
