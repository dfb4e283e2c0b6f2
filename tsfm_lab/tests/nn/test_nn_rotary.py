"""Rotary positions: which channels turn, by how much, and at any position."""

import pytest
import torch

from tsfm_lab.nn.rotary import RotaryEmbedding, apply_rotary


def rotate_pair_by_pair(x, position, rotated, base=10_000.0):
    """The definition: channels (2i, 2i+1) of every head turned by position · base^(−2i/rotated)."""
    y = x.clone().double()
    for i in range(rotated // 2):
        angle = position.double() * base ** (-2 * i / rotated)
        turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], dim=-1).unflatten(-1, (2, 2))
        y[..., 2 * i : 2 * i + 2] = torch.einsum("btij,bthj->bthi", turn, x[..., 2 * i : 2 * i + 2].double())
    return y.float()


@pytest.mark.parametrize("fraction", [0.5, 1.0])
def test_interleaved_pairs_of_the_leading_channels_turn_by_their_angle(fraction):
    x, position = torch.randn(2, 5, 3, 16), torch.randint(0, 100, (2, 5))
    y = apply_rotary(x, RotaryEmbedding(16, fraction)(position))
    # float32 angles up to 100 radians
    torch.testing.assert_close(y, rotate_pair_by_pair(x, position, int(16 * fraction)), rtol=0, atol=3e-5)
    assert torch.equal(y[..., int(16 * fraction) :], x[..., int(16 * fraction) :])


def test_products_depend_on_the_distance_alone_also_far_from_the_start():
    q, k = torch.randn(2, 1, 1, 1, 16)
    rotary = RotaryEmbedding(16)

    def product(t, s):
        turned = [apply_rotary(x, rotary(torch.tensor([[position]]))) for x, position in ((q, t), (k, s))]
        return (turned[0] * turned[1]).sum()

    # float32 angles of 5000 radians are good to 5e-4
    torch.testing.assert_close(product(5003, 5000), product(3, 0), rtol=0, atol=5e-3)


def test_the_formula_for_compilers_is_the_same_rotation(monkeypatch):
    x, rotation = torch.randn(2, 5, 3, 16), RotaryEmbedding(16)(torch.randint(0, 100, (2, 5)))
    eager = apply_rotary(x, rotation)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    torch.testing.assert_close(apply_rotary(x, rotation), eager, rtol=0, atol=1e-6)


def test_half_precision_stays_half_precision():
    x = torch.randn(1, 2, 1, 8, dtype=torch.bfloat16)
    assert apply_rotary(x, RotaryEmbedding(8)(torch.tensor([[0, 1]]))).dtype == torch.bfloat16


def test_the_angles_are_no_part_of_a_checkpoint():
    assert not RotaryEmbedding(8).state_dict()


@pytest.mark.parametrize(("head_dim", "fraction"), [(6, 0.5), (2, 0.5)])
def test_an_odd_number_of_channels_is_refused(head_dim, fraction):
    with pytest.raises(ValueError, match="must be even and ≥ 2"):
        RotaryEmbedding(head_dim, fraction)
