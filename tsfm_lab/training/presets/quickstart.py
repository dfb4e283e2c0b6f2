"""Presets of notebooks/00_quickstart: what forecasts, and what is forecast."""

from dataclasses import dataclass, replace

from tsfm_lab.runs.config import unhashed

SHIPPED = ("moirai-tiny", "moirai-hybrid-tiny", "moirai-moe-tiny", "moirai2-tiny")
PUBLISHED_SMALL = (
    "Salesforce/moirai-1.1-R-small",
    "Salesforce/moirai-moe-1.0-R-small",
    "Salesforce/moirai-2.0-R-small",
)
PUBLISHED_LARGE = ("Salesforce/moirai-1.1-R-large", "Salesforce/moirai-moe-1.0-R-base", "Salesforce/moirai-2.0-R-small")


@dataclass(frozen=True)
class Quickstart:
    """What notebook 00 forecasts, by whatever `tsfm_lab.load` opens."""

    scale: str
    models: tuple[str, ...] = SHIPPED
    classical: tuple[str, ...] = ("seasonal_naive", "theta")
    data: tuple[str, ...] = ("co2", "nile")  # sets of the registry; the first is drawn
    context_length: int = 512  # steps of history that a model sees
    windows: int = 4  # last ones of each series that are scored
    device: str = unhashed("cpu")

    def __post_init__(self) -> None:
        if not self.models or not self.data:
            raise ValueError(f"models and data must name at least one each, got {self.models} and {self.data}")
        if "seasonal_naive" not in self.classical:
            raise ValueError(f"classical must have seasonal_naive, to which the scores relate, got {self.classical}")
        for name in ("context_length", "windows"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


_SMOKE = Quickstart("smoke")

QUICKSTART = {
    "smoke": _SMOKE,
    "lab": replace(_SMOKE, scale="lab", models=(*SHIPPED, *PUBLISHED_SMALL), context_length=1000, device="cuda"),
    "full": replace(_SMOKE, scale="full", models=PUBLISHED_LARGE, context_length=1000, device="cuda"),
}
