"""Decoding: autoregressive roll-outs and speculative decoding of next-token forecasters, branches of quantiles."""

from tsfm_lab.decoding.autoregressive import grow, roll_out, slide
from tsfm_lab.decoding.costs import Costs, best_k, expected_speedup, measure_costs
from tsfm_lab.decoding.coupling import acceptance_rate, couple, couple_gaussians
from tsfm_lab.decoding.quantile_branches import decode_quantile_branches
from tsfm_lab.decoding.speculation import Speculation
from tsfm_lab.decoding.speculative import SpeculativeDecoder
from tsfm_lab.decoding.tracing import Trace

__all__ = [
    "Costs",
    "Speculation",
    "SpeculativeDecoder",
    "Trace",
    "acceptance_rate",
    "best_k",
    "couple",
    "couple_gaussians",
    "decode_quantile_branches",
    "expected_speedup",
    "grow",
    "measure_costs",
    "roll_out",
    "slide",
]
