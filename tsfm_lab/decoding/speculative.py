"""Speculative decoding: a draft writes k tokens, the target verifies them in one pass, a rule says what stands."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from tsfm_lab.decoding.context import count_tokens, freeze, thaw
from tsfm_lab.decoding.costs import Costs, best_k
from tsfm_lab.decoding.drafts import Draft, open_draft
from tsfm_lab.decoding.laws import standard_normal
from tsfm_lab.decoding.speculation import Speculation
from tsfm_lab.decoding.tracing import Trace
from tsfm_lab.decoding.verdict import Drafted, Verdict, make_rule
from tsfm_lab.models.patch_forecaster import CausalForecaster, PatchForecaster, check_pair
from tsfm_lab.nn.noise_scale import NoiseScale, StepScale


class SpeculativeDecoder:
    """Decodes a target with the help of a draft; what is promised of the result depends on the mode.

    exact: a draw from the target's own law of the horizon (cached, in the context's units), whatever the draft; with a
    patch covariance where the target has one, and independent over steps where σ is given or own_variance=True.
    tolerance, sweep: the target's means, see `verdict.Tolerance`. stride: the published rule, see `verdict.Stride`.

    Rows of a batch keep different numbers of tokens; a row that is finished leaves the batch.

    Parameters
    ----------
    target: with a law of its own (`set_sigma`, or sigma="learned") where drawing needs one.
    draft: of the same token length and normalisation; `drafts.open_draft` names the kinds.
    how: mode and its numbers.
    costs: measured, for `how.adaptive`.

    Raises
    ------
    ValueError: for a draft that does not fit, no σ to share, an adaptive k without costs.
    """

    def __init__(
        self, target: CausalForecaster, draft: PatchForecaster, how: Speculation, *, costs: Costs | None = None
    ):
        check_pair(draft, target)
        if how.adaptive and costs is None:
            raise ValueError("an adaptive k needs measured costs: pass costs=measure_costs(target, draft, …)")
        self.target, self.draft, self.how, self.costs = target, draft, how, costs
        self.shared_scale = None if how.own_variance or not how.draws else self._shared_scale()
        self.rule = make_rule(how)

    def _shared_scale(self) -> NoiseScale:
        weight = next(self.target.parameters())
        if self.how.sigma is not None:
            return StepScale(weight.new_tensor(self.how.sigma))
        scale = getattr(self.target, "noise_scale", None)
        if scale is not None:
            return scale if self.how.mode == "exact" else StepScale(scale.sigma)
        raise ValueError(
            f"{self.how.mode} mode draws, and the target has no sigma to share: calibrate_sigma(target, …), give one, "
            "or with a learned one use own_variance=True and a draft with a variance"
        )

    @torch.no_grad()
    def generate(
        self, context: Tensor, horizon: int, *, generator: torch.Generator | None = None, trace: Trace | None = None
    ) -> Tensor:
        """Decode: `context: (b t 1) -> (b horizon 1)`, in the data's units; horizon in steps.

        generator: of the draws; None: torch's own. trace: told what happened.

        Raises
        ------
        ValueError: when horizon is no positive multiple of the token, `context.freeze` refuses the context, or
        own_variance=True and the target or the draft has no variance.
        """
        steps = count_tokens(horizon, self.target.output_token_len)
        tokens, statistics = freeze(self.target, context)
        decode = _Decode(self, tokens, steps, generator, trace)
        while len(decode.rows):
            decode.round()
        if trace:
            trace.next_batch()
        return thaw(decode.forecast, statistics)


class _Decode:
    """One batch on its way.

    rows: (b') int, indices of those not finished. done: (b') int, tokens forecast. length: (b') int, tokens read and
    forecast so far, of which the target has read all but the `pending` (b' m p): the context at first, then one.
    newest: (b' m p), what the draft reads next: the context at first, then the two newest tokens.
    """

    def __init__(
        self,
        decoder: SpeculativeDecoder,
        tokens: Tensor,
        steps: int,
        generator: torch.Generator | None,
        trace: Trace | None,
    ):
        b, n, p = tokens.shape
        self.decoder, self.how, self.generator, self.trace = decoder, decoder.how, generator, trace
        self.steps = steps
        self.most = steps - 1 if self.how.mode == "sweep" else min(self.how.k, steps - 1)
        capacity = n + steps + self.most
        self.cache = decoder.target.new_cache(b, capacity)
        self.session: Draft = open_draft(decoder.draft, b, capacity)
        self.forecast = tokens.new_zeros(b, steps, p)
        self.rows = torch.arange(b, device=tokens.device)
        self.done = torch.zeros_like(self.rows)
        self.fewest_done = 0
        self.length = self.done + n
        self.pending = self.newest = tokens
        self.accepted, self.judged = 0, 0
        self._timed: Callable[[str], AbstractContextManager] = trace.part if trace else lambda part: nullcontext()

    def round(self) -> None:
        """Draft, verify, judge, keep what stands."""
        k = self._choose_k()
        with self._timed("draft"):
            drafted = self._draft(k)
        with self._timed("verify"):
            target = self.decoder.target
            read = torch.cat([self.pending, drafted.x], dim=1)
            features = target.encode_tokens(read, self.cache)[:, -k - 1 :]
            law = target.token_law(features)
        with self._timed("judge"):
            verdict = self.decoder.rule(law, drafted, self.generator)
        with self._timed("commit"):
            self._commit(k, verdict, features)

    def _choose_k(self) -> int:
        if self.session.needs_features and self.pending is self.newest:  # the target has yet to read the context
            return 0
        most = min(self.most, self.steps - self.fewest_done - 1)
        if not self.how.adaptive or most < 1:
            return most
        alpha = (self.accepted + 1) / (self.judged + 2)  # mean of a uniform prior's posterior
        return best_k(alpha, self.decoder.costs, most)

    def _draft(self, k: int) -> Drafted:
        how, shared = self.how, self.decoder.shared_scale
        b, _, p = self.pending.shape
        x, mean = self.pending.new_zeros(2, b, k, p).unbind()
        e = standard_normal(x, self.generator) if how.draws else None
        sigma = torch.ones_like(x) if how.draws and shared is None else None
        noise = shared.spread(e) if shared is not None else None
        read = self.newest
        for i in range(k):
            law = self.session.read(read)
            mean[:, i] = x[:, i] = law.mean
            if sigma is not None:
                sigma[:, i] = _own_sigma(law.logvar)
                x[:, i] += sigma[:, i] * e[:, i]
            elif noise is not None:
                x[:, i] += noise[:, i]
            read = x[:, i : i + 1]
        return Drafted(x, mean, shared if sigma is None else StepScale(sigma), e)

    def _commit(self, k: int, verdict: Verdict, features: Tensor) -> None:
        remaining = self.steps - self.done
        position = torch.arange(k + 1, device=remaining.device)
        gained = torch.minimum(verdict.kept + 1, remaining)
        row, place = (position < gained[:, None]).nonzero(as_tuple=True)
        self.forecast[self.rows[row], self.done[row] + place] = verdict.forecast[row, place]
        if self.how.adaptive:
            self.accepted += int(verdict.kept.sum())
            self.judged += int((verdict.kept + 1).clamp(max=k).sum())
        if self.trace:
            self.trace.record(self.rows, remaining, verdict.kept, verdict.score)
        self.done = self.done + gained
        active = self.done < self.steps
        if not active.any():
            self.rows = self.rows[active]
            return
        index = torch.arange(len(gained), device=gained.device)
        recent = torch.cat([self.pending[:, -1:], verdict.read], dim=1)
        self.newest = recent[index[:, None], verdict.kept[:, None] + position.new_tensor([0, 1])]
        self.pending = self.newest[:, 1:]
        self.cache.rollback(self.length + verdict.kept)
        self.length = self.length + verdict.kept + 1
        self.session.rollback(self.length - 2, features[index, verdict.kept])
        if not active.all():
            self._leave(active)
        self.fewest_done = int(self.done.min())

    def _leave(self, active: Tensor) -> None:
        """Take the finished rows out of the batch."""
        self.rows, self.done, self.length = self.rows[active], self.done[active], self.length[active]
        self.pending, self.newest = self.pending[active], self.newest[active]
        self.cache.select(active)
        self.session.select(active)


def _own_sigma(logvar: Tensor | None) -> Tensor:
    if logvar is None:
        raise ValueError("own_variance=True needs a draft with a variance (draft_stochastic=True)")
    return torch.exp(logvar / 2)
