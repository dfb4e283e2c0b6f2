"""The published pretraining loader on our series, where uni2ts is importable."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil
from types import SimpleNamespace
from typing import Any

import numpy as np
from torch import Tensor

from tsfm_lab.bench.data_pools import Part
from tsfm_lab.data import Series, SeriesCollection

SAMPLES = 400  # that a small collection is repeated to by `dataset_weight`: a batch takes 256 at least


def open_uni2ts_loader(parts: Sequence[Part], storage: str, num_workers: int = 0) -> Iterator[dict[str, Tensor]]:
    """Batches of 128 × 512 tokens as uni2ts's command line makes them: its chain, its packing, its DataLoader.

    storage: "memory", or "arrow", read by its own indexer.
    """
    from torch.utils.data import ConcatDataset
    from uni2ts.data.loader import DataLoader, PackCollate
    from uni2ts.model.moirai import MoiraiPretrain

    fields = {"seq_fields": MoiraiPretrain.seq_fields, "pad_func_map": MoiraiPretrain.pad_func_map}
    loader = DataLoader(
        ConcatDataset([_make_dataset(part, storage) for part in parts]),
        batch_size=128,
        batch_size_factor=2.0,
        cycle=True,
        shuffle=True,
        num_workers=num_workers,
        collate_fn=PackCollate(max_length=512, **fields),
    )
    return iter(loader)


def _make_dataset(part: Part, storage: str) -> Any:
    from uni2ts.data.dataset import MultiSampleTimeSeriesDataset, SampleTimeSeriesType, TimeSeriesDataset
    from uni2ts.data.indexer import HuggingFaceDatasetIndexer

    if storage == "arrow":
        from datasets import load_from_disk

        indexer = HuggingFaceDatasetIndexer(load_from_disk(part.folder))
    else:
        indexer = _make_memory_indexer(part.memory)
    if part.stack > 1:
        # stacks around the index that it is asked for, so neither sampling nor repeats are possible
        fields = ("target", "past_feat_dynamic_real")
        return MultiSampleTimeSeriesDataset(indexer, _make_chain(), max_ts=part.stack, combine_fields=fields)
    repeats = ceil(SAMPLES / len(indexer))
    return TimeSeriesDataset(indexer, _make_chain(), SampleTimeSeriesType.PROPORTIONAL, dataset_weight=repeats)


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
