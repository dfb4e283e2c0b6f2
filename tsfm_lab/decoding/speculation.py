"""What a speculative decoder is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isnan
from typing import Literal

MODES = ("exact", "tolerance", "sweep", "stride")


@dataclass(frozen=True)
class Speculation:
    """How drafts are made and judged. Standard deviations are in units of each window's own.

    Raises ValueError for a number out of its range, and for one that has no part in the mode.
    """

    mode: Literal["exact", "tolerance", "sweep", "stride"] = "exact"
    k: int = 3  # drafted tokens a round; adaptive: at most; a sweep drafts the whole horizon
    adaptive: bool = False  # choose k each round from the acceptance so far and measured costs
    block: bool = False  # exact: judge the drafted tokens together, which keeps more of them
    own_variance: bool = False  # exact, stride: the draft's variance is its own; else the target's is shared
    sigma: float | None = None  # of the target; None: its own, calibrated or learned
    sigma_mode: Literal["fixed", "adaptive"] = "fixed"  # adaptive (stride): from the means' difference
    sigma_adapt_c: float = 1.5  # σ² is so many times the mean squared difference
    bias: float = 1.0  # stride: factor on the acceptance probability, which bends the law
    tolerance: float | None = None  # tolerance, stride: accept a token within this mean squared deviation

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}, got {self.mode!r}")
        if self.k < 1:
            raise ValueError(f"k must be at least 1 drafted token, got {self.k}")
        if self.sigma is not None and not 0 < self.sigma < inf:
            raise ValueError(f"sigma must be positive, got {self.sigma}; None takes the target's own")
        if not self.bias >= 1:
            raise ValueError(f"bias must be at least 1, got {self.bias}: below, drafts are refused that p would accept")
        if self.bias != 1 and self.mode != "stride":
            raise ValueError(f"bias must be 1 in {self.mode} mode, got {self.bias}: it is a part of mode='stride'")
        if self.tolerance is None and self.mode == "tolerance":
            raise ValueError("mode='tolerance' needs a tolerance, a mean squared deviation in units of the window's σ²")
        if self.tolerance is not None and (isnan(self.tolerance) or self.tolerance < 0):
            raise ValueError(f"tolerance must not be negative, got {self.tolerance}")
        if self.tolerance is not None and self.mode not in ("tolerance", "stride"):
            raise ValueError(f"tolerance must be None in {self.mode} mode, got {self.tolerance}")
        if self.sigma_mode not in ("fixed", "adaptive"):
            raise ValueError(f"sigma_mode must be fixed or adaptive, got {self.sigma_mode!r}")
        if self.sigma_mode == "adaptive" and self.mode != "stride":
            raise ValueError(f"sigma_mode must be fixed in {self.mode} mode: 'adaptive' is a part of mode='stride'")
        if not 0 < self.sigma_adapt_c < inf:
            raise ValueError(f"sigma_adapt_c must be positive, got {self.sigma_adapt_c}")
        if not self.draws and (self.own_variance or self.sigma is not None):
            raise ValueError(f"{self.mode} mode is made of means: leave out own_variance and sigma")
        if self.block and (self.mode != "exact" or self.own_variance):
            raise ValueError("block=True needs mode='exact' and a shared sigma (own_variance=False)")

    @property
    def draws(self) -> bool:
        """Whether the forecast is a draw from a law; else it is made of means."""
        return self.mode in ("exact", "stride")
