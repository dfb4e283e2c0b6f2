"""Other people's forecasters, from arrays to nine quantiles, where installed: uni2ts's predictor, Chronos-Bolt.

Both have random weights: a forecast takes as long as with trained ones.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
import torch

from tsfm_lab.bench.uni2ts_peer import load_as_uni2ts
from tsfm_lab.forecast import LEVELS
from tsfm_lab.models.moirai import MoiraiModule

Quantiles = Callable[[np.ndarray], np.ndarray]

# Chronos-Bolt small: T5 of 47.7 M parameters; amazon/chronos-bolt-small, config.json
BOLT_SMALL = {"d_model": 512, "d_ff": 2048, "d_kv": 64, "num_layers": 6, "num_decoder_layers": 6, "num_heads": 8}
BOLT_PATCHES = {"context_length": 2048, "prediction_length": 64, "input_patch_size": 16, "input_patch_stride": 16}


def make_uni2ts_predictor(
    module: MoiraiModule, patch_size: int | str, context_length: int, horizon: int, batch_size: int = 32
) -> Quantiles:
    """uni2ts's GluonTS predictor with `module`'s weights and 100 samples: (s t) -> (s q h)."""
    import pandas as pd
    from uni2ts.model.moirai import MoiraiForecast as PeerForecast

    peer = PeerForecast(
        module=load_as_uni2ts(module).eval(),
        prediction_length=horizon,
        context_length=context_length,
        patch_size=patch_size,
        num_samples=100,
        target_dim=1,
        feat_dynamic_real_dim=0,
        past_feat_dynamic_real_dim=0,
    )
    predictor = peer.create_predictor(batch_size=batch_size, device="cpu")
    start = pd.Period("2020-01-01", freq="h")

    def forecast(histories: np.ndarray) -> np.ndarray:
        forecasts = predictor.predict([{"target": history, "start": start} for history in histories])
        return np.stack([[one.quantile(level) for level in LEVELS] for one in forecasts])

    return forecast


def has_chronos() -> bool:
    """Whether Chronos can be imported here; `pip install chronos-forecasting` in an environment of its own."""
    return find_spec("chronos") is not None


def make_chronos_bolt(horizon: int, batch_size: int = 32) -> Quantiles:
    """Chronos-Bolt small with random weights: (s t) -> (s q h). Ansari et al. 2024, arXiv:2403.07815."""
    from chronos import ChronosBoltPipeline
    from chronos.chronos_bolt import ChronosBoltModelForForecasting
    from transformers import T5Config

    config = T5Config(
        **BOLT_SMALL, feed_forward_proj="relu", vocab_size=2, pad_token_id=0, decoder_start_token_id=0, reg_token_id=1
    )
    config.chronos_config = {**BOLT_PATCHES, "quantiles": list(LEVELS), "use_reg_token": True}
    pipeline = ChronosBoltPipeline(ChronosBoltModelForForecasting(config).eval())

    @torch.inference_mode()
    def forecast(histories: np.ndarray) -> np.ndarray:
        batches = torch.from_numpy(histories).split(batch_size)
        return np.concatenate([pipeline.predict(batch, horizon).numpy() for batch in batches])

    return forecast
