"""Encoding piece by piece with a cache, against one pass over each row's whole series."""

import pytest
import torch

from tsfm_lab.nn.attention_blocks import plan_blocks
from tsfm_lab.nn.encoder import TransformerEncoder
from tsfm_lab.nn.encoder_cache import EncoderCache
from tsfm_lab.nn.packing import plan_segments
from tsfm_lab.nn.stu_encoder import HybridTransformerSTUEncoder

D, FIRST, MORE, PIECES = 32, (9, 5), 2, 3  # tokens of a variate in the first piece, row by row, and in later ones
ENCODERS = {
    "attention": lambda: TransformerEncoder(D, 2, num_heads=2),
    "grouped": lambda: TransformerEncoder(D, 2, num_heads=4, num_groups=2),
    "hybrid": lambda: HybridTransformerSTUEncoder(D, 3, "alternating", 32, num_eigh=8, num_heads=2),
    "stu, separate": lambda: HybridTransformerSTUEncoder(D, 2, "stu", 32, 8, branches="separate", num_heads=2),
    "stu, full": lambda: HybridTransformerSTUEncoder(D, 2, "stu", 32, 8, use_approx=False, num_heads=2),
}


@pytest.fixture(params=ENCODERS)
def encoder(request):
    torch.manual_seed(0)
    encoder = ENCODERS[request.param]().eval()
    for name, parameter in encoder.named_parameters():
        if "var_attn_bias" in name:
            torch.nn.init.normal_(parameter)
    return encoder


def whole_rows(variates):
    """Each row's tokens, (v n d), v·n of them: those of the first piece and of the later ones."""
    torch.manual_seed(1)
    return [torch.randn(variates, n + MORE * PIECES, D) for n in FIRST]


def encode_whole(encoder, rows):
    """One pass a row, (v n d)."""
    encoded = []
    for row in rows:
        v, n, _ = row.shape
        time, variate = torch.arange(n).repeat(1, v), torch.arange(v).repeat_interleave(n)[None]
        sample = torch.ones_like(time)
        blocks, segments = plan_blocks(sample, variate, time), plan_segments(sample, variate)
        encoded.append(encoder(row.reshape(1, v * n, D), time, blocks, segments).view(v, n, D))
    return encoded


def first_piece(rows, variates):
    """(b q d), real, time, variate: rows padded behind their end."""
    longest = variates * max(FIRST)
    x, ids = torch.randn(2, longest, D), torch.zeros(3, 2, longest, dtype=torch.int64)
    for r, n in enumerate(FIRST):
        x[r, : variates * n] = rows[r][:, :n].flatten(0, 1)
        ids[0, r, : variates * n] = 1
        ids[1, r, : variates * n] = torch.arange(n).repeat(variates)
        ids[2, r, : variates * n] = torch.arange(variates).repeat_interleave(n)
    return x, ids[0] > 0, ids[1], ids[2]


def later_piece(rows, variates, piece):
    begin = torch.tensor(FIRST) + piece * MORE
    x = torch.stack([row[:, n : n + MORE].flatten(0, 1) for row, n in zip(rows, begin.tolist(), strict=True)])
    time = (begin[:, None] + torch.arange(MORE)).repeat(1, variates)
    variate = torch.arange(variates).repeat_interleave(MORE).expand_as(time)
    return x, torch.ones_like(time, dtype=torch.bool), time, variate


@pytest.mark.parametrize("variates", [1, 3])
@torch.no_grad()
def test_pieces_give_what_one_pass_gives(encoder, variates):
    """1e-5: attention sums in another order; the LDS stands for the filters to 1e-6 or better."""
    rows = whole_rows(variates)
    expected = encode_whole(encoder, rows)
    cache = EncoderCache(encoder, 2, variates * (max(FIRST) + MORE * PIECES), variates)
    found = cache.extend(*first_piece(rows, variates))
    for r, n in enumerate(FIRST):
        own = found[r, : variates * n].view(variates, n, D)
        torch.testing.assert_close(own, expected[r][:, :n], rtol=1e-5, atol=1e-5)
    for piece in range(PIECES):
        found = cache.extend(*later_piece(rows, variates, piece)).view(2, variates, MORE, D)
        for r, n in enumerate(FIRST):
            begin = n + piece * MORE
            torch.testing.assert_close(found[r], expected[r][:, begin : begin + MORE], rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_selected_rows_go_on_by_themselves(encoder):
    rows = whole_rows(2)
    cache = EncoderCache(encoder, 2, 2 * (max(FIRST) + MORE), 2)
    cache.extend(*first_piece(rows, 2))
    order = torch.tensor([1, 0, 1])
    expected = [encode_whole(encoder, [rows[r]])[0][:, FIRST[r] : FIRST[r] + MORE] for r in order.tolist()]
    cache.select(order)
    found = cache.extend(*(field[order] for field in later_piece(rows, 2, 0))).view(3, 2, MORE, D)
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-5, atol=1e-5)


def test_a_row_that_would_pass_the_capacity_is_refused():
    with pytest.raises(ValueError, match="the cache holds 3 tokens a row"):
        EncoderCache(ENCODERS["attention"](), 2, 3, 1).extend(*first_piece(whole_rows(1), 1))
