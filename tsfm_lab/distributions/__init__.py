"""Predictive laws: parametric ones, mixtures, quantiles; and the outputs with which a model predicts them."""

from tsfm_lab.distributions.affine import AffineTransformed
from tsfm_lab.distributions.mixture import Mixture
from tsfm_lab.distributions.outputs import (
    DistributionOutput,
    LaplaceFixedScaleOutput,
    LaplaceOutput,
    LogNormalOutput,
    MixtureOutput,
    NegativeBinomialOutput,
    NormalFixedScaleOutput,
    NormalOutput,
    ParametricOutput,
    ParetoFixedAlphaOutput,
    ParetoOutput,
    QuantileOutput,
    StudentTOutput,
)
from tsfm_lab.distributions.parametric import Laplace, LogNormal, NegativeBinomial, Normal, Pareto, StudentT
from tsfm_lab.distributions.predicted import PredictedValues
from tsfm_lab.distributions.projection import ParamProjection
from tsfm_lab.distributions.published import decode_output, encode_output
from tsfm_lab.distributions.quantile import (
    QuantileKnots,
    check_quantile_levels,
    empirical_quantiles,
    repair_crossings,
)

__all__ = [
    "AffineTransformed",
    "DistributionOutput",
    "Laplace",
    "LaplaceFixedScaleOutput",
    "LaplaceOutput",
    "LogNormal",
    "LogNormalOutput",
    "Mixture",
    "MixtureOutput",
    "NegativeBinomial",
    "NegativeBinomialOutput",
    "Normal",
    "NormalFixedScaleOutput",
    "NormalOutput",
    "ParamProjection",
    "ParametricOutput",
    "Pareto",
    "ParetoFixedAlphaOutput",
    "ParetoOutput",
    "PredictedValues",
    "QuantileKnots",
    "QuantileOutput",
    "StudentT",
    "StudentTOutput",
    "check_quantile_levels",
    "decode_output",
    "empirical_quantiles",
    "encode_output",
    "repair_crossings",
]
