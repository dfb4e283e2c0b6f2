"""Keys and values of the tokens seen so far, in buffers allocated once; rows may be of different lengths."""

from __future__ import annotations

import torch
from torch import Tensor


class KVCache:
    """Preallocated keys and values of every layer, with a length for each row, in tokens.

    One pass over q new tokens: every layer calls `append`, which writes its keys and values behind the tokens present
    and returns all of them; then `advance(q)` makes the new tokens part of the cache. `rollback` shortens rows by
    forgetting their newest tokens (a refused draft), `select` keeps some rows (those not finished).

    Parameters
    ----------
    capacity: tokens a row may hold.
    """

    def __init__(
        self,
        num_layers: int,
        batch_size: int,
        num_heads: int,
        capacity: int,
        head_dim: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        shape = (num_layers, batch_size, num_heads, capacity, head_dim)
        self._keys = torch.zeros(shape, device=device, dtype=dtype)
        self._values = torch.zeros(shape, device=device, dtype=dtype)
        self._lengths = torch.zeros(batch_size, dtype=torch.long, device=device)
        # lengths known without reading the device: the shared length when `_even`, else the longest row's
        self._longest, self._even = 0, True

    @property
    def batch_size(self) -> int:
        """Rows held."""
        return self._keys.shape[1]

    @property
    def capacity(self) -> int:
        """Tokens a row may hold."""
        return self._keys.shape[3]

    @property
    def lengths(self) -> Tensor:
        """(b) int, tokens present in each row; a copy."""
        return self._lengths.clone()

    def positions(self, q: int) -> Tensor:
        """(b q) int, or (1 q) when all rows are of one length: the positions of the next q tokens."""
        steps = torch.arange(q, device=self._lengths.device)
        return steps[None] + (self._longest if self._even else self._lengths[:, None])

    def mask(self, q: int) -> Tensor | None:
        """Which tokens the next q may attend to: (b 1 q s) bool, s tokens as `append` returns; None: all of them.

        A token sees those before it and itself. Slots behind a row's end hold no token of that row and stay hidden.
        """
        if q == 1 and self._even:
            return None
        slots = torch.arange(self._longest + q, device=self._lengths.device)
        return (slots <= self.positions(q)[..., None])[:, None]

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Write one layer's keys and values of q new tokens; return all of that layer's, the new ones included.

        `k: (b h q e), v: (b h q e) -> (b h s e), (b h s e)`, s = longest row + q, views of the buffers.

        Raises
        ------
        ValueError: when the longest row would pass the capacity.
        """
        q = k.shape[2]
        end = self._longest + q
        if end > self.capacity:
            raise ValueError(
                f"the cache holds {self.capacity} tokens a row, got {self._longest} + {q}; allocate a capacity of "
                "context plus horizon, in tokens"
            )
        keys, values = self._keys[layer], self._values[layer]
        if self._even:
            keys[:, :, self._longest : end] = k
            values[:, :, self._longest : end] = v
        else:
            rows, slots = torch.arange(self.batch_size, device=k.device)[:, None], self.positions(q)
            keys[rows, :, slots] = k.transpose(1, 2)  # advanced indices on both sides of a slice: (b q h e)
            values[rows, :, slots] = v.transpose(1, 2)
        return keys[:, :, :end], values[:, :, :end]

    def advance(self, q: int) -> None:
        """Count the q tokens that every layer has appended."""
        self._lengths = self._lengths + q
        self._longest += q

    def rollback(self, lengths: int | Tensor) -> None:
        """Shorten the rows to `lengths`: one for all, or (b) int.

        Raises
        ------
        ValueError: when a row is shorter than what is asked of it, or a length is negative.
        """
        target = torch.as_tensor(lengths).to(self._lengths).expand_as(self._lengths)
        if (target < 0).any() or (target > self._lengths).any():
            raise ValueError(
                f"rollback needs, for each row, a length from 0 to the present one, {self._lengths.tolist()}; "
                f"got {target.tolist()}"
            )
        self._set_lengths(target)

    def select(self, rows: Tensor) -> None:
        """Keep these rows, in this order: (b') int indices or (b) bool."""
        self._keys, self._values = self._keys[:, rows], self._values[:, rows]
        self._set_lengths(self._lengths[rows])

    def _set_lengths(self, lengths: Tensor) -> None:
        self._lengths = lengths
        if len(lengths):
            shortest, longest = (int(end) for end in lengths.aminmax())
            self._longest, self._even = longest, shortest == longest
