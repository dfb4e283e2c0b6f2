"""Branches of quantiles, with a model whose law is known."""

import torch
from einops import rearrange

from tsfm_lab.decoding import decode_quantile_branches

LEVELS = (0.1, 0.5, 0.9)
OFFSETS = torch.tensor([-1.0, 0.0, 1.0])


def walk(last):
    """Quantiles of the patch after each: the last step, and 1 below and above. `last: (...) -> (... 1 q 2)`."""
    return (last[..., None, None, None] + OFFSETS[:, None]).expand(*last.shape, 1, 3, 2)


def test_each_branch_goes_on_and_nine_values_become_three():
    seen = []

    def extend(branches):
        seen.append(branches[0, :, 0, 0, -1])
        return walk(branches[..., -1, -1])

    found = decode_quantile_branches(walk(torch.zeros(1, 1)), extend, 3, LEVELS)[0, 0]
    assert seen[0].tolist() == [-1, 0, 1]
    values = torch.tensor([-2.0, -1, -1, 0, 0, 0, 1, 1, 2])  # the branches' predictions
    torch.testing.assert_close(found[1, :, 0], torch.quantile(values, torch.tensor(LEVELS)))
    torch.testing.assert_close(seen[1], found[1, :, 0])
    assert found.shape == (3, 3, 2)


def test_one_pass_may_do_and_the_last_is_cut():
    first = rearrange(torch.arange(24.0), "(b c n q p) -> b c n q p", b=1, c=2, n=2, q=3)

    def refuse(branches):
        raise AssertionError("no further pass is needed")

    torch.testing.assert_close(decode_quantile_branches(first, refuse, 2, LEVELS), first)
    torch.testing.assert_close(decode_quantile_branches(first, refuse, 1, LEVELS), first[:, :, :1])
    assert decode_quantile_branches(first, lambda x: torch.zeros(1, 3, 2, 2, 3, 2), 3, LEVELS).shape[2] == 3
