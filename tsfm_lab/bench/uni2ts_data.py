"""The published pretraining loader on our series, where uni2ts is importable."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from torch import Tensor

from tsfm_lab.data import Series, SeriesCollection

EPOCH = 4096  # samples that a small collection is repeated to, as uni2ts does by `dataset_weight`


def open_uni2ts_loader(
    source: SeriesCollection | Path, *, stack: int = 1, num_workers: int = 0
) -> Iterator[dict[str, Tensor]]:
    """Batches of 128 × 512 tokens as uni2ts's command line makes them: its chain, its packing, its DataLoader.

    source: a collection in memory, or a folder in the LOTSA layout, read by its own indexer. stack: most aligned series
    of a sample, 1 = none are stacked.
    """
    from uni2ts.data.dataset import MultiSampleTimeSeriesDataset, SampleTimeSeriesType, TimeSeriesDataset
    from uni2ts.data.indexer import HuggingFaceDatasetIndexer
    from uni2ts.data.loader import DataLoader, PackCollate
    from uni2ts.model.moirai import MoiraiPretrain

    if isinstance(source, Path):
        from datasets import load_from_disk

        indexer = HuggingFaceDatasetIndexer(load_from_disk(source))
    else:
        indexer = _make_memory_indexer(source)
    transform, sampling = _make_chain(), SampleTimeSeriesType.PROPORTIONAL
    if stack > 1:
        # stacks around the index that it is asked for, so neither sampling nor repeats are possible
        fields = ("target", "past_feat_dynamic_real")
        dataset = MultiSampleTimeSeriesDataset(indexer, transform, max_ts=stack, combine_fields=fields)
    else:
        dataset = TimeSeriesDataset(indexer, transform, sampling, dataset_weight=ceil(EPOCH / len(indexer)))
    fields = {"seq_fields": MoiraiPretrain.seq_fields, "pad_func_map": MoiraiPretrain.pad_func_map}
    loader = DataLoader(
        dataset,
        batch_size=128,
        batch_size_factor=2.0,
        cycle=True,
        shuffle=True,
        num_workers=num_workers,
        collate_fn=PackCollate(max_length=512, **fields),
    )
    return iter(loader)


def _make_chain() -> Any:
    """uni2ts's training transforms at the published settings."""
    from uni2ts.model.moirai import MoiraiPretrain
    from uni2ts.transform.patch import DefaultPatchSizeConstraints

    ranges = DefaultPatchSizeConstraints.DEFAULT_RANGES
    # its table has old pandas aliases only; under pandas >= 2.2 it finds nothing without these
    aliases = {"s": "S", "min": "T", "h": "H", "ME": "M", "QE": "Q", "YE": "Y"}
    ranges |= {new: ranges[old] for new, old in aliases.items()}
    settings = SimpleNamespace(max_dim=128, min_patches=2, min_mask_ratio=0.15, max_mask_ratio=0.5)
    module = SimpleNamespace(patch_sizes=(8, 16, 32, 64, 128), max_seq_len=512)
    model = SimpleNamespace(hparams=settings, module=module, seq_fields=MoiraiPretrain.seq_fields)
    return MoiraiPretrain.train_transform_map.fget(model)["any"]()


def _make_memory_indexer(collection: SeriesCollection) -> Any:
    from uni2ts.data.indexer import Indexer

    class MemoryIndexer(Indexer):
        def __len__(self) -> int:
            return len(collection)

        def _getitem_int(self, i: int) -> dict[str, Any]:
            return _as_entry(collection[i])

        def _getitem_iterable(self, indices: Any) -> dict[str, Any]:
            entries = [_as_entry(collection[int(i)]) for i in indices]
            joined = {name: [entry[name] for entry in entries] for name in entries[0]}
            return joined | {"freq": np.array(joined["freq"])}

        def get_proportional_probabilities(self, field: str = "target") -> np.ndarray:
            return collection.lengths / collection.lengths.sum()

    return MemoryIndexer()


def _as_entry(series: Series) -> dict[str, Any]:
    return {"target": series.target[0] if series.num_variates == 1 else series.target, "freq": series.freq}
