"""Experts of the tokens are the router's, and information is found where it is and not where it is not."""

import math

import numpy as np
import pytest
import torch

from tsfm_lab.inside import draw_patterns, expert_choices, expert_share, measure_information, mutual_information
from tsfm_lab.inside.known import PATTERNS
from tsfm_lab.tests.inside.tiny_models import make_batch, make_model


@pytest.mark.parametrize("name", ["moe", "moe_hybrid"])
def test_choices_are_the_routers_of_what_each_feed_forward_reads(name):
    module = make_model(name)
    batch, read = make_batch(module), []
    for layer in module.encoder.layers:
        layer.ffn.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    choices = expert_choices(module, batch)
    for layer, x, chosen in zip(module.encoder.layers, read, choices, strict=True):
        routing = layer.ffn.router(x.flatten(0, 1))
        assert torch.equal(routing.experts.view(chosen.shape), chosen)
        assert (routing.weights[:, 0] >= routing.weights[:, 1]).all()  # the first has the largest weight


def test_a_model_without_experts_is_refused():
    module = make_model("moirai")
    with pytest.raises(ValueError, match="MoiraiModule has no experts"):
        expert_choices(module, make_batch(module))


def test_shares_are_counts_by_label():
    choices = torch.tensor([[[0, 1], [0, 2]], [[2, 1], [2, 1]], [[0, 1], [0, 1]]])
    share = expert_share(choices, torch.tensor([0, 1, 0]), 4)
    expected = torch.tensor([[4 / 8, 3 / 8, 1 / 8, 0], [0, 1 / 2, 1 / 2, 0]])
    torch.testing.assert_close(share.float(), expected)


def test_mutual_information_is_the_entropy_of_equal_labels_and_nothing_of_independent_ones():
    a = torch.arange(8)
    assert mutual_information(a % 4, a % 4) == pytest.approx(2.0)
    assert mutual_information(a % 4, a // 4) == pytest.approx(0.0, abs=1e-12)
    p = np.array([[3, 1], [1, 3]]) / 8
    slow = sum(p[i, j] * math.log2(p[i, j] / (p[i].sum() * p[:, j].sum())) for i in range(2) for j in range(2))
    pairs = torch.tensor([(0, 0)] * 3 + [(0, 1), (1, 0)] + [(1, 1)] * 3)
    assert mutual_information(*pairs.T) == pytest.approx(slow)


@pytest.mark.parametrize("of", ["series", "places"])
def test_what_the_label_decides_is_found(of):
    labels = torch.arange(24) % 3
    experts = labels[:, None].expand(24, 9) if of == "series" else (torch.arange(9) % 3).expand(24, 9)
    found = measure_information(experts, labels if of == "series" else (torch.arange(9) % 3)[None], draws=99)
    assert found.bits == pytest.approx(found.entropy) == pytest.approx(math.log2(3))
    assert found.p_value == 0.01
    assert found.excess > 0.5


def test_tokens_of_one_series_that_agree_are_no_evidence_for_labels_of_series():
    rejected = 0
    for seed in range(40):
        generator = torch.Generator().manual_seed(seed)
        of_series = torch.randint(4, (24,), generator=generator)  # each series has an expert of its own, at random
        labels = torch.arange(24) % 3
        rejected += measure_information(of_series[:, None].expand(24, 16), labels, draws=39, seed=seed).p_value <= 0.05
    assert rejected <= 6  # 2 expected; P(more than 6) < .004. Shuffling tokens would reject all 40


@pytest.mark.parametrize(("labels", "draws"), [(torch.zeros(5), 10), (torch.zeros(1, 5), 10), (torch.zeros(4), 0)])
def test_labels_of_neither_series_nor_places_are_refused(labels, draws):
    with pytest.raises(ValueError, match="labels must be"):
        measure_information(torch.zeros(4, 9, dtype=torch.long), labels.long(), draws=draws)


def test_patterns_are_what_they_are_called():
    values, pattern = draw_patterns(20, 512)
    assert values.shape == (20 * len(PATTERNS), 512)
    mean = [
        np.abs(np.fft.rfft(values[pattern == k] - values[pattern == k].mean(1, keepdims=True))).mean(0) for k in (0, 1)
    ]
    assert [512 / int(spectrum.argmax()) for spectrum in mean] == [8, 64]
    slope = np.abs(np.polyfit(np.arange(512), values[pattern == 2].T, 1)[0] * 512)
    assert np.allclose(slope, 4, atol=0.3)
