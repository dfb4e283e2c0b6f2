"""What a decoder needs of a draft, and how each kind of draft gives it: a cache, a window, a state or features.

A session is one decode of a batch. Tokens are in units of the context (`context.freeze`); b rows of p values each.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from tsfm_lab.models.feature_draft import FeatureDraft
from tsfm_lab.models.patch_forecaster import CausalForecaster, PatchForecaster, Statistics, TokenLaw
from tsfm_lab.models.stu_forecaster import STUForecaster
from tsfm_lab.spectral.convolution import BankState


class Draft(Protocol):
    """A draft at work on a batch.

    needs_features: whether it cannot draft before the target has read the context.
    """

    needs_features: bool

    def read(self, tokens: Tensor) -> TokenLaw:
        """Take in the tokens that follow those read, `(b m p)`, and return the law of the one after, `(b p)`."""

    def rollback(self, lengths: Tensor, features: Tensor) -> None:
        """Forget all but the first tokens of each row: `lengths: (b) int`, no fewer than after the last rollback.

        At first, no fewer than the context but its last token. features: (b d), the target's of the token that follows
        those kept.
        """

    def select(self, rows: Tensor) -> None:
        """Keep some rows: (b) bool."""


class CachedDraft:
    """A causal transformer with keys and values of its own."""

    needs_features = False

    def __init__(self, model: CausalForecaster, batch_size: int, capacity: int):
        self.model, self.cache = model, model.new_cache(batch_size, capacity)

    def read(self, tokens: Tensor) -> TokenLaw:
        return last_law(self.model.token_law(self.model.encode_tokens(tokens, self.cache)[:, -1:]))

    def rollback(self, lengths: Tensor, features: Tensor) -> None:
        self.cache.rollback(lengths)

    def select(self, rows: Tensor) -> None:
        self.cache.select(rows)


class WindowDraft:
    """A forecaster of a fixed number of patches, which reads its window anew for every token."""

    needs_features = False

    def __init__(self, model: PatchForecaster, batch_size: int, capacity: int):
        p = model.input_token_len
        weight = next(model.parameters())
        self.model, self.width, self.started = model, model.context_length // p, False
        self.tokens = torch.zeros(batch_size, capacity, p, device=weight.device, dtype=weight.dtype)
        self.lengths = torch.zeros(batch_size, dtype=torch.long, device=weight.device)
        self.unit = Statistics(weight.new_zeros(1, 1, 1), weight.new_ones(1, 1, 1))

    def read(self, tokens: Tensor) -> TokenLaw:
        if not self.started and tokens.shape[1] < self.width:
            raise ValueError(
                f"the draft reads {self.width} tokens, the context has {tokens.shape[1]}: give it a longer context, or "
                "use a draft of a shorter one"
            )
        self.started = True
        rows = torch.arange(len(tokens), device=tokens.device)[:, None]
        new = self.lengths[:, None] + torch.arange(tokens.shape[1], device=tokens.device)
        self.tokens[rows, new] = tokens
        self.lengths = self.lengths + tokens.shape[1]
        window = self.lengths[:, None] + torch.arange(-self.width, 0, device=tokens.device)
        law = self.model.law(self.tokens[rows, window].flatten(1)[..., None], self.unit)
        return last_law(TokenLaw(*(None if z is None else z.transpose(1, 2) for z in law)))

    def rollback(self, lengths: Tensor, features: Tensor) -> None:
        self.lengths = lengths.clone()

    def select(self, rows: Tensor) -> None:
        self.tokens, self.lengths = self.tokens[rows], self.lengths[rows]


class RecurrentDraft:
    """Spectral layers with a state: what it was after each of the last tokens is kept until the next rollback."""

    needs_features = False

    def __init__(self, model: STUForecaster, batch_size: int, capacity: int):
        self.model = model
        self.states: list[list[BankState]] = []  # after the tokens `first`, first + 1, …
        self.first = torch.zeros(batch_size, dtype=torch.long, device=next(model.parameters()).device)

    def read(self, tokens: Tensor) -> TokenLaw:
        if not self.states:  # all of the context but its last token, to which a rollback may return
            self.states, self.first = [self.model.prefill(tokens[:, :-1])], self.first + tokens.shape[1] - 1
            tokens = tokens[:, -1:]
        for token in tokens.unbind(dim=1):
            law, states = self.model.step(token, self.states[-1])
            self.states.append(states)
        return law

    def rollback(self, lengths: Tensor, features: Tensor) -> None:
        rows, place = torch.arange(len(lengths), device=lengths.device), lengths - self.first
        shortest, longest = (int(end) for end in place.aminmax())
        if shortest < 0:
            raise ValueError(
                f"states are kept from {self.first.tolist()} tokens on, asked for {lengths.tolist()}; roll back no "
                "further than the last time"
            )
        kept = []
        for states in zip(*self.states, strict=True):  # one layer's
            h = torch.stack([state.h for state in states])[place, rows]
            kept.append(BankState(h, states[longest].length))
        self.states, self.first = [kept], lengths.clone()

    def select(self, rows: Tensor) -> None:
        self.states = [[BankState(state.h[rows], state.length) for state in states] for states in self.states]
        self.first = self.first[rows]


class FeatureSession:
    """Steps from the target's features, handed over after every verification, and the newest patch."""

    needs_features = True

    def __init__(self, model: FeatureDraft, batch_size: int, capacity: int):
        self.model = model

    def read(self, tokens: Tensor) -> TokenLaw:
        self.features = self.model.step(self.features, tokens[:, -1])
        return self.model.token_law(self.features)

    def rollback(self, lengths: Tensor, features: Tensor) -> None:
        self.features = features

    def select(self, rows: Tensor) -> None:
        self.features = self.features[rows]


def last_law(law: TokenLaw) -> TokenLaw:
    """The law in the last place: (b n p) -> (b p)."""
    return TokenLaw(law.mean[:, -1], None if law.logvar is None else law.logvar[:, -1])


def open_draft(model: PatchForecaster, batch_size: int, capacity: int) -> Draft:
    """A session of a draft: `batch_size` rows of at most `capacity` tokens.

    Raises
    ------
    ValueError: when the model is of no kind that can draft.
    """
    for kind, session in (
        (CausalForecaster, CachedDraft),
        (STUForecaster, RecurrentDraft),
        (FeatureDraft, FeatureSession),
    ):
        if isinstance(model, kind):
            return session(model, batch_size, capacity)
    if hasattr(model, "context_length"):
        return WindowDraft(model, batch_size, capacity)
    raise ValueError(
        f"{type(model).__name__} cannot draft: it has no cache, state or context_length; use a CausalForecaster, "
        "STUForecaster, FeatureDraft, TinyTimeMixer or LinearForecaster"
    )
