"""Distribution outputs as they stand in config.json: nested `_target_` text, published by uni2ts.

The text is looked up in a table and never imported, so that a checkpoint cannot name code to run.
"""

from __future__ import annotations

import inspect
from typing import Any

from tsfm_lab.distributions import outputs
from tsfm_lab.distributions.outputs import DistributionOutput

CLASSES: dict[str, type[DistributionOutput]] = {
    "uni2ts.distribution.laplace.LaplaceFixedScaleOutput": outputs.LaplaceFixedScaleOutput,
    "uni2ts.distribution.laplace.LaplaceOutput": outputs.LaplaceOutput,
    "uni2ts.distribution.log_normal.LogNormalOutput": outputs.LogNormalOutput,
    "uni2ts.distribution.mixture.MixtureOutput": outputs.MixtureOutput,
    "uni2ts.distribution.negative_binomial.NegativeBinomialOutput": outputs.NegativeBinomialOutput,
    "uni2ts.distribution.normal.NormalFixedScaleOutput": outputs.NormalFixedScaleOutput,
    "uni2ts.distribution.normal.NormalOutput": outputs.NormalOutput,
    "uni2ts.distribution.pareto.ParetoFixedAlphaOutput": outputs.ParetoFixedAlphaOutput,
    "uni2ts.distribution.pareto.ParetoOutput": outputs.ParetoOutput,
    "uni2ts.distribution.student_t.StudentTOutput": outputs.StudentTOutput,
    "tsfm_lab.distributions.QuantileOutput": outputs.QuantileOutput,  # no published counterpart
}
TARGETS = {cls: target for target, cls in CLASSES.items()}


def encode_output(output: DistributionOutput) -> dict[str, Any]:
    """The output as config.json holds it, e.g. {"_target_": "uni2ts.distribution.normal.NormalOutput"}."""

    def encode(value: Any) -> Any:
        if isinstance(value, DistributionOutput):
            return encode_output(value)
        return [encode(item) for item in value] if isinstance(value, tuple) else value

    values = {name: encode(value) for name, value in vars(output).items()}
    return {"_target_": TARGETS[type(output)], **values}


def decode_output(config: dict[str, Any]) -> DistributionOutput:
    """The output that a config.json describes.

    Raises
    ------
    ValueError: a `_target_` or a field that is not known.
    """
    if not isinstance(config, dict) or "_target_" not in config:
        raise ValueError(f"a distribution output must be a mapping with a _target_, got {config!r}")
    target = config["_target_"]
    if target not in CLASSES:
        raise ValueError(f"unknown distribution output {target!r}; known are {', '.join(CLASSES)}")
    cls, values = CLASSES[target], {name: value for name, value in config.items() if name != "_target_"}
    known = inspect.signature(cls).parameters.keys()
    if not values.keys() <= known:
        raise ValueError(f"{target} has fields {sorted(known)}, got {sorted(values)}")
    if isinstance(values.get("components"), list):
        values["components"] = tuple(decode_output(component) for component in values["components"])
    return cls(**values)
