"""The passes of MOIRAI-2's decoding: what a pass reads, and the quantiles that follow its last tokens."""

import numpy as np
import torch
from einops import rearrange, repeat
from torch import Tensor

from tsfm_lab.data.packing import PackedBatch
from tsfm_lab.forecast.tokens import pack_imputed
from tsfm_lab.forecast.windows import Windows
from tsfm_lab.models.moirai2 import QuantileDecoder
from tsfm_lab.nn.encoder_cache import EncoderCache


class RescaledPasses:
    """Every pass reads the context and all that its branch has generated, scaled by both, as published.

    windows: b items of c variates; known covariates reach `horizon` steps further.
    """

    def __init__(self, module: QuantileDecoder, windows: Windows, horizon: int):
        self.module, self.windows, self.horizon = module, windows, horizon
        self.generated: list[Tensor] = []  # (b r c n p) of each pass

    def first(self) -> Tensor:
        """The quantiles of the patches after the context, (b c n q p)."""
        nothing = np.zeros((*self.windows.target.shape[:2], 0), dtype=np.float32)
        return self._read(self.windows, nothing)

    def extend(self, branches: Tensor) -> Tensor:
        """Those after the branches' newest patches: `(b r c n p) -> (b r c n q p)`; see `decode_quantile_branches`."""
        self.generated.append(branches)
        b, r = branches.shape[:2]
        generated = rearrange(torch.cat(self.generated, dim=3), "b r c n p -> (b r) c (n p)")
        windows = self.windows.select(np.repeat(np.arange(b), r))
        return self._read(windows, generated.cpu().numpy()).unflatten(0, (b, r))

    def _read(self, windows: Windows, generated: np.ndarray) -> Tensor:
        """One pass over rows of windows, each with the steps (b c h') generated for it: (b c n q p)."""
        module, (batch, is_future) = self.module, pack_tokens(self.module, windows, self.horizon, generated)
        ids = (batch["sample_id"], batch["time_id"], batch["variate_id"])
        loc, scale = self._standardise(batch, is_future)
        last = last_tokens(batch, is_future, windows.target.shape[1])  # (b c)
        x = module.embed(batch["target"], batch["observed_mask"], loc, scale)
        y = module.encode(x, *ids, tokens=last.flatten()).unflatten(0, last.shape)
        return rescale(module.quantiles(y), loc.flatten()[last], scale.flatten()[last])

    def _standardise(self, batch: PackedBatch, is_future: Tensor) -> tuple[Tensor, Tensor]:
        hidden = batch["prediction_mask"] & is_future
        names = ("target", "observed_mask", "sample_id", "variate_id")
        return self.module.standardise(*(batch[name] for name in names), hidden)


class FrozenPasses:
    """The context is read once; a later pass reads its new tokens behind a cache, scaled as the context was.

    Parameters as `RescaledPasses`.
    """

    def __init__(self, module: QuantileDecoder, windows: Windows, horizon: int):
        self.module, self.windows, self.horizon = module, windows, horizon
        known, past = windows.feat_dynamic_real, windows.past_feat_dynamic_real
        self.num_targets, self.num_known = windows.target.shape[1], 0 if known is None else known.shape[1]
        self.num_variates = self.num_targets + self.num_known + (0 if past is None else past.shape[1])
        self.fed = 0  # patches behind the context

    def first(self) -> Tensor:
        """The quantiles of the patches after the context, (b c n q p)."""
        module, c = self.module, self.num_targets
        nothing = np.zeros((*self.windows.target.shape[:2], 0), dtype=np.float32)
        batch, is_future = pack_tokens(module, self.windows, self.horizon, nothing)
        names = ("target", "observed_mask", "sample_id", "variate_id", "prediction_mask")
        loc, scale = module.standardise(*(batch[name] for name in names))
        x = module.embed(batch["target"], batch["observed_mask"], loc, scale)
        b, t = is_future.shape
        capacity = t + (c + self.num_known) * -(-self.horizon // module.patch_size)
        self.cache = EncoderCache(module.encoder, b, capacity, self.num_variates)
        real = (batch["sample_id"] > 0) & ~is_future
        y = self.cache.extend(x, real, batch["time_id"], batch["variate_id"])
        last = last_tokens(batch, is_future, c + self.num_known)
        self.loc, self.scale = (field.flatten()[last] for field in (loc, scale))  # (b v)
        self.time = batch["time_id"].flatten()[last[:, :1]]  # (b 1)
        quantiles = module.quantiles(y.flatten(0, 1)[last[:, :c]])
        return rescale(quantiles, self.loc[:, :c], self.scale[:, :c])

    def extend(self, branches: Tensor) -> Tensor:
        """Those after the branches' newest patches: `(b r c n p) -> (b r c n q p)`; see `decode_quantile_branches`."""
        b, r, c, n, _ = branches.shape
        if self.fed == 0:
            rows = torch.arange(b, device=branches.device).repeat_interleave(r)
            self.cache.select(rows)
            self.loc, self.scale, self.time = self.loc[rows], self.scale[rows], self.time[rows]
        values, observed = self._new_values(branches)  # (b·r v n p)
        loc, scale = (rearrange(field, "b v -> b v 1 1") for field in (self.loc, self.scale))
        tokens = rearrange(self.module.embed(values, observed, loc, scale), "b v n d -> b (v n) d")
        v = values.shape[1]
        time = (self.time + 1 + self.fed + torch.arange(n, device=values.device)).repeat(1, v)
        variate = torch.arange(v, device=values.device).repeat_interleave(n).expand_as(time)
        y = self.cache.extend(tokens, torch.ones_like(time, dtype=torch.bool), time, variate)
        self.fed += n
        last = rearrange(y, "b (v n) d -> b v n d", n=n)[:, :c, -1]
        return rescale(self.module.quantiles(last), self.loc[:, :c], self.scale[:, :c]).unflatten(0, (b, r))

    def _new_values(self, branches: Tensor) -> tuple[Tensor, Tensor]:
        """The branches' patches and those of the known covariates at the same time, with their masks: (b·r v n p)."""
        r, n, p = branches.shape[1], branches.shape[3], branches.shape[4]
        values = rearrange(branches, "b r c n p -> (b r) c n p")
        if not self.num_known:
            return values, torch.ones_like(values, dtype=torch.bool)
        begin = self.windows.length + self.fed * p
        ahead = torch.from_numpy(self.windows.feat_dynamic_real[..., begin : begin + n * p]).to(values)
        ahead = repeat(ahead, "b k (n p) -> (b r) k n p", r=r, p=p)
        values = torch.cat([values, ahead], dim=1)
        return values.nan_to_num(0.0), ~values.isnan()


def pack_tokens(
    module: QuantileDecoder, windows: Windows, horizon: int, generated: np.ndarray
) -> tuple[PackedBatch, Tensor]:
    """The batch of a pass, and which of its tokens are not there yet: (b t) bool.

    generated: (b c h') steps, whole patches, that follow the windows. Tokens after them are in the batch only where
    covariates are known: as published, those are scaled by all that is known of them.
    """
    p, known, steps = module.patch_size, windows.feat_dynamic_real, generated.shape[2]
    ahead = steps if known is None else horizon
    b, c, _ = windows.target.shape
    values = np.zeros((b, c, ahead), dtype=np.float32)
    values[..., :steps] = generated
    future = Windows(values, np.zeros((b, ahead), dtype=bool))
    windows = windows.slice(0, windows.length, ahead)
    batch = pack_imputed(windows, ahead, p, p, future)
    batch = {name: value.to(next(module.parameters()).device) for name, value in batch.items()}
    is_context = (batch["variate_id"] == 0) & (batch["sample_id"] > 0) & ~batch["prediction_mask"]
    end = torch.where(is_context, batch["time_id"], -1).amax(1, keepdim=True)
    return batch, (batch["sample_id"] > 0) & (batch["time_id"] > end + steps // p)


def last_tokens(batch: PackedBatch, is_future: Tensor, num_variates: int) -> Tensor:
    """The last token of each of the first variates that is there: (b v) int64, into the flat (b t)."""
    b, t = is_future.shape
    there = ((batch["sample_id"] > 0) & ~is_future)[:, None]
    own = batch["variate_id"][:, None] == torch.arange(num_variates, device=is_future.device)[:, None]
    place = torch.arange(t, device=is_future.device)
    last = torch.where(there & own, place, -1).amax(2)
    return last + t * torch.arange(b, device=is_future.device)[:, None]


def rescale(quantiles: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """quantiles · scale + loc: `(b c n q p), (b c), (b c) -> (b c n q p)`, on the data's scale."""
    loc, scale = (rearrange(field, "b c -> b c 1 1 1") for field in (loc, scale))
    return quantiles * scale + loc
