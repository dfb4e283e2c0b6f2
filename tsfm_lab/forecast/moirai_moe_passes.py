"""The passes of MOIRAI-MoE's decoding: what a pass reads, and a draw of the patches that follow."""

from collections.abc import Mapping

import torch
from einops import rearrange
from torch import Tensor
from torch.distributions import Distribution

from tsfm_lab.data.packing import PackedBatch
from tsfm_lab.forecast.tokens import pack_imputed
from tsfm_lab.forecast.windows import Windows
from tsfm_lab.models.moirai_moe import ExpertDecoder
from tsfm_lab.nn.encoder_cache import EncoderCache

TOKENS = 4096  # of one forward pass: more gain no speed


class Passes:
    """The tokens of b items of c variates, horizon included, and where in them the patches to be drawn stand.

    windows: known covariates reach `horizon` steps further.

    Attributes
    ----------
    num_patches: n, of the horizon.
    batch: context and horizon, see `pack_windows`; the horizon's values are not read before they are drawn.
    ahead: (b t) int64, which patch of the horizon a target's token is, 0, 1, …; −1 for all other tokens.
    place: (b c n) int64, the token within its row of each variate's patches of the horizon.
    """

    def __init__(self, module: ExpertDecoder, windows: Windows, horizon: int, patch_size: int):
        self.module, self.patch_size, self.num_patches = module, patch_size, -(-horizon // patch_size)
        self.num_targets = windows.target.shape[1]
        self.device = next(module.parameters()).device
        batch = pack_imputed(windows, horizon, patch_size, max(module.patch_sizes))
        self.batch: PackedBatch = {name: value.to(self.device) for name, value in batch.items()}
        predicted = self.batch["prediction_mask"]
        shape = (len(predicted), self.num_targets, self.num_patches)
        self.place = predicted.nonzero()[:, 1].view(shape)
        numbers = torch.arange(self.num_patches, device=self.device).expand(shape)
        self.ahead = torch.full_like(self.batch["time_id"], -1).scatter(1, self.place.flatten(1), numbers.flatten(1))


class RescaledPasses(Passes):
    """Every pass reads the context and all that its sample has so far, scaled by both, as published."""

    def first(self, num_samples: int) -> Tensor:
        """Draws of the patch after the context, (b s c p)."""
        self.num_samples, self.drawn = num_samples, 0
        law = self.module.forward_predicted(**self._visible()).law
        patches = law.sample((num_samples,))
        return rearrange(patches, "s (b c p) -> b s c p", c=self.num_targets, p=self.patch_size)

    def extend(self, patches: Tensor) -> Tensor:
        """Draws of the patch after the newest ones: `(b s c p) -> (b s c p)`."""
        rows = rearrange(patches, "b s c p -> (b s) c p")
        if self.drawn == 0:
            self.batch = {name: value.repeat_interleave(self.num_samples, 0) for name, value in self.batch.items()}
            self.ahead, self.place = (x.repeat_interleave(self.num_samples, 0) for x in (self.ahead, self.place))
        row = torch.arange(len(rows), device=self.device)[:, None]
        self.batch["target"][row, self.place[..., self.drawn], : self.patch_size] = rows
        self.drawn += 1
        visible = self._visible()
        size = max(1, TOKENS // visible["sample_id"].shape[1])
        laws = (
            self.module.forward_predicted(**_rows(visible, slice(start, start + size))).law
            for start in range(0, len(rows), size)
        )
        drawn = torch.cat([law.sample() for law in laws])
        return rearrange(drawn, "(b s c p) -> b s c p", s=self.num_samples, c=self.num_targets, p=self.patch_size)

    def _visible(self) -> PackedBatch:
        """The batch without the patches after the next one, which is the only one to be predicted."""
        batch = {**self.batch, "prediction_mask": self.ahead == self.drawn}
        return drop_tokens(batch, self.ahead > self.drawn)[0]


class FrozenPasses(Passes):
    """The context is read once; a later pass reads its new tokens behind a cache, scaled as the context was."""

    def first(self, num_samples: int) -> Tensor:
        """Draws of the patch after the context, (b s c p)."""
        last = self.place[..., 0] - 1  # (b c), of each target's context
        self.time = self.batch["time_id"].gather(1, last[:, :1])  # (b 1), of the newest tokens
        names = ("target", "observed_mask", "sample_id", "variate_id", "prediction_mask")
        loc, scale = self.module.standardise(*(self.batch[name] for name in names))
        self.fields = {**self.batch, "loc": loc, "scale": scale}
        context, position = drop_tokens(self.fields, self.batch["time_id"] > self.time)
        num_variates = int(context["variate_id"].max()) + 1
        b, t = context["time_id"].shape
        self.cache = EncoderCache(self.module.encoder, b, t + num_variates * self.num_patches, num_variates)
        y = self._read(context, context["sample_id"] > 0)
        patches = self._law(_take(y, position.gather(1, last)), _take(loc, last), _take(scale, last))
        self.cache.select(torch.arange(b, device=self.device).repeat_interleave(num_samples))
        drawn = patches.sample((num_samples,))
        return rearrange(drawn, "s (b c p) -> b s c p", c=self.num_targets, p=self.patch_size)

    def extend(self, patches: Tensor) -> Tensor:
        """Draws of the patch after the newest ones: `(b s c p) -> (b s c p)`."""
        b, s, c, p = patches.shape
        self.time = self.time + 1
        there = (self.batch["time_id"] == self.time) & (self.batch["sample_id"] > 0)
        place = there.nonzero()[:, 1].view(b, -1)  # (b v), the targets' patch and those of known covariates
        new = {name: _take(value, place).repeat_interleave(s, 0) for name, value in self.fields.items()}
        new["target"][:, :c, :p] = rearrange(patches, "b s c p -> (b s) c p")
        y = self._read(new, new["sample_id"] > 0)
        law = self._law(y[:, :c], new["loc"][:, :c], new["scale"][:, :c])
        return rearrange(law.sample(), "(b s c p) -> b s c p", s=s, c=c, p=p)

    def _read(self, fields: dict[str, Tensor], real: Tensor) -> Tensor:
        """Encode tokens behind those in the cache: (r t d)."""
        x = self.module.embed(*(fields[name] for name in ("target", "patch_size", "loc", "scale")))
        return self.cache.extend(x, real, fields["time_id"], fields["variate_id"])

    def _law(self, y: Tensor, loc: Tensor, scale: Tensor) -> Distribution:
        """The law of the patch after each token: `y: (r c d), loc, scale: (r c 1)` -> batch shape (r·c·p)."""
        size = torch.full((y.shape[0] * y.shape[1],), self.patch_size, device=self.device)
        return self.module.law_after(y.flatten(0, 1), size, loc.flatten(), scale.flatten())


def drop_tokens(fields: Mapping[str, Tensor], dropped: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Fields (b t …) without the tokens `dropped`: (b t) bool, those left moved up, padding behind the shorter rows.

    Also where each token went, (b t).
    """
    dropped = dropped | (fields["sample_id"] == 0)
    order = dropped.int().argsort(dim=1, stable=True)
    width = int((~dropped).sum(1).max())
    kept = {name: _take(value, order[:, :width]) for name, value in fields.items()}
    kept["sample_id"] = kept["sample_id"].masked_fill(dropped.gather(1, order[:, :width]), 0)
    return kept, order.argsort(1)


def _take(field: Tensor, place: Tensor) -> Tensor:
    """Tokens of each row: `field: (b t …), place: (b n) -> (b n …)`."""
    return field.gather(1, place if field.dim() == 2 else place[..., None].expand(-1, -1, field.shape[2]))


def _rows(batch: PackedBatch, rows: slice) -> PackedBatch:
    return {name: value[rows] for name, value in batch.items()}
