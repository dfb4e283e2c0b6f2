"""Distribution outputs: how many numbers a law needs per position, and how unbounded ones become its parameters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Distribution

from tsfm_lab.distributions.affine import AffineTransformed
from tsfm_lab.distributions.mixture import Mixture
from tsfm_lab.distributions.parametric import Laplace, LogNormal, NegativeBinomial, Normal, Pareto, StudentT
from tsfm_lab.distributions.quantile import QuantileKnots

# a tree of dicts and lists; its leaves are ints (sizes) or tensors (values)
Tree = dict | list | int | Tensor


def real(x: Tensor) -> Tensor:
    return x


def positive(x: Tensor) -> Tensor:
    return F.softplus(x).clamp_min(torch.finfo(x.dtype).eps)


def above_two(x: Tensor) -> Tensor:
    """Degrees of freedom with which a Student-T has a variance."""
    return 2 + F.softplus(x)


def above_two_strictly(x: Tensor) -> Tensor:
    return 2 + positive(x)


def count(x: Tensor) -> Tensor:
    """Softplus, kept off the 0 that it underflows to (log Γ(0) would be infinite)."""
    return F.softplus(x).clamp_min(torch.finfo(x.dtype).tiny)


class DistributionOutput(ABC):
    """A law as the head of a model: sizes of its parameters, and the law for given unbounded values.

    Its attributes are its constructor's arguments, and all that config.json keeps of it. (No dataclass, because
    huggingface_hub writes those without their name.)
    """

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((type(self), *vars(self).values()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"

    @property
    @abstractmethod
    def args_dim(self) -> Tree:
        """Numbers per position for each parameter, as a tree; the head has a projection for each leaf."""

    @abstractmethod
    def build(self, raw: Tree) -> Distribution:
        """The law for unbounded values, a tree like `args_dim` with leaves (... dim) -> batch shape (...)."""

    def distribution(self, raw: Tree, loc: Tensor | None = None, scale: Tensor | None = None) -> Distribution:
        """`build(raw)`, moved by loc and stretched by scale (broadcastable to (...)) where they are given."""
        base = self.build(raw)
        return base if loc is None else AffineTransformed(base, loc, scale)


class ParametricOutput(DistributionOutput):
    """A parametric law: `domains` maps each predicted parameter from ℝ; the attributes are fixed parameters."""

    law: ClassVar[type[Distribution]]
    domains: ClassVar[dict[str, Callable[[Tensor], Tensor]]]

    @property
    def args_dim(self) -> dict[str, int]:
        return dict.fromkeys(self.domains, 1)

    def build(self, raw: dict[str, Tensor]) -> Distribution:
        predicted = {name: domain(raw[name].squeeze(-1)) for name, domain in self.domains.items()}
        like = next(iter(predicted.values()))
        fixed = {name: torch.full_like(like, value) for name, value in vars(self).items()}
        return self.law(**predicted, **fixed, validate_args=False)


class StudentTOutput(ParametricOutput):
    law = StudentT
    domains: ClassVar = {"df": above_two, "loc": real, "scale": positive}


class NormalOutput(ParametricOutput):
    law = Normal
    domains: ClassVar = {"loc": real, "scale": positive}


class NormalFixedScaleOutput(ParametricOutput):
    law = Normal
    domains: ClassVar = {"loc": real}

    def __init__(self, scale: float = 1e-3):
        self.scale = scale


class NegativeBinomialOutput(ParametricOutput):
    law = NegativeBinomial
    domains: ClassVar = {"total_count": count, "logits": real}


class LogNormalOutput(ParametricOutput):
    law = LogNormal
    domains: ClassVar = {"loc": real, "scale": positive}


class LaplaceOutput(ParametricOutput):
    law = Laplace
    domains: ClassVar = {"loc": real, "scale": positive}


class LaplaceFixedScaleOutput(ParametricOutput):
    law = Laplace
    domains: ClassVar = {"loc": real}

    def __init__(self, scale: float = 1e-3):
        self.scale = scale


class ParetoOutput(ParametricOutput):
    law = Pareto
    domains: ClassVar = {"scale": positive, "alpha": above_two_strictly}


class ParetoFixedAlphaOutput(ParametricOutput):
    law = Pareto
    domains: ClassVar = {"scale": positive}

    def __init__(self, alpha: float = 3.0):
        self.alpha = alpha


class MixtureOutput(DistributionOutput):
    """A mixture of parametric laws, weighted by a softmax.

    Raises
    ------
    ValueError: a component that is no parametric law.
    """

    def __init__(self, components: Sequence[ParametricOutput]):
        for output in components:
            if not isinstance(output, ParametricOutput):
                raise ValueError(f"components of a mixture must be parametric laws, got {output!r}")
        self.components = tuple(components)

    @property
    def args_dim(self) -> Tree:
        return {"weights_logits": len(self.components), "components": [law.args_dim for law in self.components]}

    def build(self, raw: Tree) -> Mixture:
        laws = zip(self.components, raw["components"], strict=True)
        return Mixture(raw["weights_logits"], [output.build(values) for output, values in laws])


class QuantileOutput(DistributionOutput):
    """Quantiles at given levels, as in MOIRAI-2; each level has a projection of its own.

    Raises
    ------
    ValueError: fewer than two levels, or levels that do not increase between 0 and 1.
    """

    def __init__(self, quantile_levels: Sequence[float] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)):
        levels = tuple(quantile_levels)
        if len(levels) < 2 or not all(a < b for a, b in zip((0, *levels), (*levels, 1), strict=True)):
            raise ValueError(f"quantile_levels must be two or more, increasing between 0 and 1, got {levels}")
        self.quantile_levels = levels

    @property
    def args_dim(self) -> Tree:
        return {"quantiles": [1] * len(self.quantile_levels)}

    def build(self, raw: Tree) -> QuantileKnots:
        knots = torch.cat(raw["quantiles"], dim=-1)
        return QuantileKnots(knots, torch.as_tensor(self.quantile_levels))
