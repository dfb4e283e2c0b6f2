"""Windows that a target has gone on writing: what its draft will read in a decoder, for the draft to learn on."""

import torch
from einops import rearrange
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

from tsfm_lab.models.timer_xl import TimerXL
from tsfm_lab.training.timer_data import some_windows

BATCH = 256  # windows written together


@torch.no_grad()
def draw_windows(target: TimerXL, windows: Dataset, count: int, *, context: int, seed: int) -> TensorDataset:
    """At most `count` windows, evenly spaced, as the target continues them: (x (t 1), y (t' 1)) each.

    x: `context` steps of the data, then patches drawn one after the other from the target's law, in the context's mean
    and standard deviation. y: the target's means of the patches after the context and after each that it drew.

    Raises
    ------
    ValueError: when the target has no law, or a window several variates.
    """
    scale, p = target.noise_scale, target.output_token_len
    if scale is None:
        raise ValueError("drawing needs a target with a law: calibrate_covariance(target, …) or calibrate_sigma")
    generator = torch.Generator().manual_seed(seed)
    pairs: list[tuple[Tensor, Tensor]] = []
    for x, _ in some_windows(windows, count, BATCH):
        if x.shape[2] != 1:
            raise ValueError(f"drawn windows hold one variate, got {x.shape[2]}: leave multivariate False")
        prefix, steps = x[:, :context], (x.shape[1] - context) // p
        statistics = target.statistics(prefix)
        new = rearrange(target.normalise(prefix, statistics), "b (n p) 1 -> b n p", p=p)
        cache = target.new_cache(len(new), new.shape[1] + steps)
        drawn, means = [new], []
        for _ in range(steps + 1):
            means.append(target.token_law(target.encode_tokens(new, cache)[:, -1:]).mean)
            new = means[-1] + scale.spread(torch.randn(means[-1].shape, generator=generator))
            drawn.append(new)
        tokens = torch.cat(drawn[:-1], dim=1), torch.cat(means, dim=1)
        pairs.append(tuple(rearrange(z, "b n p -> b (n p) 1") * statistics.stdev + statistics.mean for z in tokens))
    return TensorDataset(*(torch.cat(parts) for parts in zip(*pairs, strict=True)))
