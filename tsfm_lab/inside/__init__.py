"""Look inside trained models: attention, filters and their poles, experts, ablation, probes, similarity of layers.

Every look has its control: an untrained twin, shuffled labels, or attention that is even.
"""

from tsfm_lab.inside.ablation import ablate_layers, packed_loss, without_update
from tsfm_lab.inside.attention import (
    attention_energy,
    attention_maps,
    read_weights,
    uniform_attention,
    weight_by_distance,
)
from tsfm_lab.inside.cka import biased_cka, cka_between_layers, linear_cka, unbiased_hsic
from tsfm_lab.inside.controls import untrained_twin
from tsfm_lab.inside.experts import (
    InformationTest,
    expert_choices,
    expert_share,
    measure_information,
    mutual_information,
)
from tsfm_lab.inside.filters import channel_filters, output_energy, stu_layers
from tsfm_lab.inside.known import PATTERNS, KnownSeries, draw_known_series, draw_patterns
from tsfm_lab.inside.memory import effective_memory, mean_lag
from tsfm_lab.inside.poles import PoleFit, bank_system, fit_poles, half_life
from tsfm_lab.inside.probes import probe_layers, ridge_probe
from tsfm_lab.inside.representations import layer_representations, mean_representations, visible_representations
from tsfm_lab.inside.rows import pack_rows, visible_tokens

__all__ = [
    "PATTERNS",
    "InformationTest",
    "KnownSeries",
    "PoleFit",
    "ablate_layers",
    "attention_energy",
    "attention_maps",
    "bank_system",
    "biased_cka",
    "channel_filters",
    "cka_between_layers",
    "draw_known_series",
    "draw_patterns",
    "effective_memory",
    "expert_choices",
    "expert_share",
    "fit_poles",
    "half_life",
    "layer_representations",
    "linear_cka",
    "mean_lag",
    "mean_representations",
    "measure_information",
    "mutual_information",
    "output_energy",
    "pack_rows",
    "packed_loss",
    "probe_layers",
    "read_weights",
    "ridge_probe",
    "stu_layers",
    "unbiased_hsic",
    "uniform_attention",
    "untrained_twin",
    "visible_representations",
    "visible_tokens",
    "weight_by_distance",
    "without_update",
]
