"""Decoding with a causal encoder piece by piece: each layer remembers what it needs of the tokens before."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from tsfm_lab.nn.attention import GroupedQueryAttention
from tsfm_lab.nn.encoder import PackedEncoder
from tsfm_lab.nn.kv_cache import KVCache
from tsfm_lab.nn.packed_stu import PackedSTU
from tsfm_lab.nn.rotary import Rotation
from tsfm_lab.nn.stu_encoder import STUEncoderLayer
from tsfm_lab.spectral.convolution import BankState

NEVER = torch.iinfo(torch.int64).max  # the time of padding: after every token that asks


class EncoderCache:
    """What a `PackedEncoder` of pre-norm layers remembers of b rows of tokens, one sample a row.

    An attention layer keeps keys and values, and a token sees those of all variates up to its own time. An STU layer
    keeps, of each series, the state of its filters' linear system: its step costs the same however long the past is.

    Parameters
    ----------
    encoder: a causal one.
    batch_size: rows. capacity: tokens that a row may hold. num_variates: series of a row, variate_id 0, 1, ….
    """

    def __init__(self, encoder: PackedEncoder, batch_size: int, capacity: int, num_variates: int):
        assert all(layer.pre_norm for layer in encoder.layers)
        self.encoder, self.num_variates = encoder, num_variates
        weight = next(encoder.parameters())
        attention = [layer.self_attn for layer in encoder.layers if not isinstance(layer, STUEncoderLayer)]
        heads = (attention[0].num_groups, attention[0].head_dim) if attention else (1, 1)
        self._keys = KVCache(
            len(attention), batch_size, heads[0], capacity, heads[1], device=weight.device, dtype=weight.dtype
        )
        self._states: dict[int, BankState] = {}
        self._time = torch.empty(batch_size, 0, dtype=torch.int64, device=weight.device)
        self._variate = self._time

    def extend(self, x: Tensor, real: Tensor, time_id: Tensor, variate_id: Tensor) -> Tensor:
        """Encode the tokens that follow those in the cache, and take them in.

        In the first piece series may be of different lengths; in later ones a series has as many tokens as the longest
        of the piece, or none (then it has ended).

        Parameters
        ----------
        x: (b q d); real: (b q) bool, False: padding; time_id, variate_id: (b q) int, each series in order of time.

        Returns
        -------
        (b q d), what the encoder would give for these tokens behind all earlier ones; padding gets some finite values.
        """
        time = torch.where(real, time_id, NEVER)
        self._time = torch.cat([self._time, time], dim=1)
        self._variate = torch.cat([self._variate, variate_id], dim=1)
        visible = (self._time[:, None, :] <= time[:, :, None])[:, None]  # (b 1 q s)
        same = None if self.num_variates == 1 else (self._variate[:, None, :] == variate_id[:, :, None])[:, None]
        rotation, series = self.encoder.rotary(time_id), _SeriesOfRows(real, variate_id, self.num_variates)
        attention_index = 0
        for index, layer in enumerate(self.encoder.layers):
            if isinstance(layer, STUEncoderLayer):
                mixed = series.apply(layer.norm1(x), lambda u, i=index, stu=layer.stu: self._convolve(i, stu, u))
            else:
                mixed = self._attend(attention_index, layer.self_attn, layer.norm1(x), rotation, visible, same)
                attention_index += 1
            x = x + mixed
            x = x + layer.ffn(layer.norm2(x))
        self._keys.advance(x.shape[1])
        return self.encoder.norm(x)

    def select(self, rows: Tensor) -> None:
        """Keep these rows, in this order, some of them several times: (b') int indices."""
        self._keys.select(rows)
        self._time, self._variate = self._time[rows], self._variate[rows]
        v = self.num_variates
        for index, state in self._states.items():
            h = state.h.unflatten(0, (-1, v))[rows].flatten(0, 1)
            self._states[index] = BankState(h, state.length)

    def _attend(
        self,
        index: int,
        attention: GroupedQueryAttention,
        x: Tensor,
        rotation: Rotation,
        visible: Tensor,
        same: Tensor | None,
    ) -> Tensor:
        q, k, v = (heads.transpose(1, 2) for heads in attention.project(x, rotation))  # (b h q e)
        k, v = self._keys.append(index, k, v)
        mask = visible
        if same is not None and attention.var_attn_bias is not None:
            bias = attention.var_attn_bias.contrast().to(q.dtype)[:, None, None] * same
            mask = bias.masked_fill(~visible, -torch.inf)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=q.shape[1] != k.shape[1])
        return attention.out_proj(y.transpose(1, 2).flatten(-2))

    def _convolve(self, index: int, stu: PackedSTU, u: Tensor) -> Tensor:
        """One layer's tokens, series by series: `u: (n l d) -> (n l d)`."""
        state = self._states.get(index)
        if state is None:
            y, self._states[index] = stu.prefill(u)
            return y
        outputs = []
        for u_t in u.unbind(1):
            y_t, state = stu.step(u_t, state)
            outputs.append(y_t)
        self._states[index] = state
        return torch.stack(outputs, dim=1)


class _SeriesOfRows:
    """The tokens of a piece, series by series: (b q d) <-> (b·v l d), each series at the end of its l places.

    Zeros before a series leave a convolution and the state after it as they are.
    """

    def __init__(self, real: Tensor, variate_id: Tensor, num_variates: int):
        member = F.one_hot(variate_id, num_variates) * real[..., None]  # (b q v)
        count = member.sum(1)
        longest = int(count.max())
        rank = (member.cumsum(1) - 1).gather(2, variate_id[..., None]).squeeze(2)
        row = torch.arange(len(real), device=real.device)[:, None]
        slot = longest - count.gather(1, variate_id) + rank
        place = (row * num_variates + variate_id) * longest + slot
        self.shape = (len(real) * num_variates, longest)
        self.place = torch.where(real, place, self.shape[0] * longest)  # padding goes behind all of them

    def apply(self, x: Tensor, mix: Callable[[Tensor], Tensor]) -> Tensor:
        """mix, given (b·v l d), on tokens `x: (b q d) -> (b q d)`; 0 for padding."""
        n, length = self.shape
        dense = x.new_zeros(n * length + 1, x.shape[-1]).index_copy_(0, self.place.flatten(), x.flatten(0, 1))
        y = mix(dense[:-1].unflatten(0, (n, length))).flatten(0, 1)
        return torch.cat([y, y.new_zeros(1, y.shape[-1])])[self.place]
