"""Outputs and their names, the parameter head, and the law of predicted values alone."""

import pytest
import torch
import torch.nn.functional as F

from tsfm_lab import distributions
from tsfm_lab.distributions import (
    Mixture,
    MixtureOutput,
    NegativeBinomialOutput,
    NormalFixedScaleOutput,
    NormalOutput,
    ParamProjection,
    PredictedValues,
    QuantileOutput,
    StudentTOutput,
    decode_output,
    encode_output,
)
from tsfm_lab.distributions.published import CLASSES

PUBLISHED = {
    "_target_": "uni2ts.distribution.mixture.MixtureOutput",
    "components": [
        {"_target_": "uni2ts.distribution.student_t.StudentTOutput"},
        {"_target_": "uni2ts.distribution.normal.NormalFixedScaleOutput", "scale": 0.001},
        {"_target_": "uni2ts.distribution.negative_binomial.NegativeBinomialOutput"},
        {"_target_": "uni2ts.distribution.log_normal.LogNormalOutput"},
    ],
}
SINGLE = [cls for cls in CLASSES.values() if cls not in (MixtureOutput, QuantileOutput)]
SIZES, PATCH = (2, 3, 4), torch.tensor([3, 4, 2, 3, 2])


def raw_values(output, n=50, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {name: 100 * torch.randn(n, dim, generator=generator) for name, dim in output.args_dim.items()}


def test_a_published_configuration_is_read_and_written_back_the_same():
    output = decode_output(PUBLISHED)
    assert [type(component).__name__ for component in output.components] == [
        "StudentTOutput",
        "NormalFixedScaleOutput",
        "NegativeBinomialOutput",
        "LogNormalOutput",
    ]
    assert encode_output(output) == PUBLISHED


@pytest.mark.parametrize("cls", [cls for cls in CLASSES.values() if cls is not MixtureOutput])
def test_every_output_has_a_name_that_brings_it_back(cls):
    assert decode_output(encode_output(cls())) == cls()


@pytest.mark.parametrize(
    "config",
    [
        {"_target_": "os.system", "command": "true"},
        {"_target_": "uni2ts.distribution.cauchy.CauchyOutput"},
        {"_target_": "uni2ts.distribution.mixture.MixtureOutput", "components": [{"_target_": "builtins.exec"}]},
    ],
)
def test_an_unknown_target_is_refused_wherever_it_stands(config):
    with pytest.raises(ValueError, match=r"unknown distribution output '.*'; known are uni2ts"):
        decode_output(config)


def test_an_unknown_field_or_no_target_is_refused():
    with pytest.raises(ValueError, match=r"has fields \['scale'\], got \['loc'\]"):
        decode_output({"_target_": "uni2ts.distribution.normal.NormalFixedScaleOutput", "loc": 1})
    with pytest.raises(ValueError, match="must be a mapping with a _target_, got 'StudentTOutput'"):
        decode_output("StudentTOutput")


@pytest.mark.parametrize("cls", SINGLE)
def test_parameters_are_in_their_domain_whatever_the_network_says(cls):
    law = cls().build(raw_values(cls()))
    for name, constraint in law.arg_constraints.items():
        assert constraint.check(getattr(law, name)).all(), name
    assert law.log_prob(torch.full((50,), 1e3)).isnan().sum() == 0


def test_domains_are_the_published_ones():
    x = torch.linspace(-30, 30, 7)[:, None]
    student = StudentTOutput().build({"df": x, "loc": x, "scale": x})
    torch.testing.assert_close(student.df, 2 + F.softplus(x[:, 0]))
    assert torch.equal(student.scale, F.softplus(x[:, 0]).clamp_min(torch.finfo(torch.float32).eps))
    assert torch.equal(student.loc, x[:, 0])
    assert (NormalFixedScaleOutput(0.25).build({"loc": x}).scale == 0.25).all()
    counts = NegativeBinomialOutput().build({"total_count": x, "logits": x})
    torch.testing.assert_close(counts.total_count, F.softplus(x[:, 0]))


def test_a_mixture_is_built_from_its_components():
    output = MixtureOutput([StudentTOutput(), NormalOutput()])
    assert output.args_dim == {
        "weights_logits": 2,
        "components": [{"df": 1, "loc": 1, "scale": 1}, {"loc": 1, "scale": 1}],
    }
    raw = {"weights_logits": torch.zeros(50, 2), "components": [raw_values(law) for law in output.components]}
    law = output.distribution(raw, torch.ones(50), torch.ones(50))
    assert isinstance(law.base, Mixture)
    assert law.batch_shape == (50,)


def test_a_mixture_of_mixtures_and_bad_levels_are_refused():
    with pytest.raises(ValueError, match="must be parametric laws"):
        MixtureOutput([QuantileOutput()])
    for levels in [(0.5,), (0.5, 0.4), (0.0, 0.5), (0.5, 1.0)]:
        with pytest.raises(ValueError, match="increasing between 0 and 1"):
            QuantileOutput(levels)


@pytest.mark.parametrize("output", [decode_output(PUBLISHED), StudentTOutput(), QuantileOutput()])
def test_the_head_computes_the_same_parameters_inside_patches_as_everywhere(output):
    torch.manual_seed(0)
    head, x = ParamProjection(6, SIZES, output.args_dim), torch.randn(5, 6)
    for parameter in head.parameters():
        parameter.data.normal_()
    everywhere, (inside, index) = head(x, PATCH), head.within_patches(x, PATCH)
    assert len(index) == PATCH.sum()
    assert (index % 4 < PATCH[index // 4]).all()
    for whole, part in zip(leaves(everywhere), leaves(inside), strict=True):
        torch.testing.assert_close(part, whole.flatten(0, 1)[index])


def leaves(tree):
    if isinstance(tree, torch.Tensor):
        return [tree]
    children = tree.values() if isinstance(tree, dict) else tree
    return [leaf for child in children for leaf in leaves(child)]


def test_only_the_first_logit_of_a_short_patch_depends_on_its_token():
    """The published layout: rows "(component 128)", of which 4·8 are live at patch size 8."""
    torch.manual_seed(0)
    head = ParamProjection(6, (8, 64, 128), {"weights_logits": 4})
    for parameter in head.parameters():
        parameter.data.normal_()
    spread = {
        p: head(torch.randn(20, 6), torch.full((20,), p))["weights_logits"][:, :p].std(0).amax(0) > 0
        for p in (8, 64, 128)
    }
    assert spread[8].tolist() == [True, False, False, False]
    assert spread[64].tolist() == [True, True, False, False]
    assert spread[128].tolist() == [True, True, True, True]


def test_the_head_has_the_published_names():
    keys = ParamProjection(6, SIZES, decode_output(PUBLISHED).args_dim).state_dict().keys()
    names = {"weights_logits", "components.0.df", "components.0.loc", "components.0.scale", "components.1.loc"}
    names |= {"components.2.total_count", "components.2.logits", "components.3.loc", "components.3.scale"}
    assert keys == {f"proj.{name}.{kind}" for name in names for kind in ("weight", "bias")}


def test_predicted_values_find_their_places():
    law = distributions.Normal(torch.arange(3.0), 1.0)
    predicted = PredictedValues(law, torch.tensor([5, 0, 7]), (1, 2, 4))
    value = torch.arange(8.0).view(1, 2, 4)
    expected = torch.zeros(8)
    expected[[5, 0, 7]] = law.log_prob(torch.tensor([5.0, 0.0, 7.0]))
    torch.testing.assert_close(predicted.log_prob(value), expected.view(1, 2, 4))
    assert predicted.scatter(law.sample((10,))).shape == (10, 1, 2, 4)
