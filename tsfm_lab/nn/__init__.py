"""Building blocks: attention, spectral and expert layers over packed batches, norms, embeddings, scalers, caches."""

from tsfm_lab.nn.attention import BinaryAttentionBias, GroupedQueryAttention, attend_within_blocks
from tsfm_lab.nn.attention_blocks import AttentionBlocks, plan_blocks
from tsfm_lab.nn.embed import FeatLinear, MultiInSizeLinear, MultiOutSizeLinear
from tsfm_lab.nn.encoder import PackedContext, PackedEncoder, TransformerEncoder, TransformerEncoderLayer
from tsfm_lab.nn.encoder_cache import EncoderCache
from tsfm_lab.nn.ffn import GatedLinearUnit
from tsfm_lab.nn.kv_cache import KVCache
from tsfm_lab.nn.moe import CentroidRouter, LinearRouter, MoEFeedForward, record_routing
from tsfm_lab.nn.norm import RMSNorm
from tsfm_lab.nn.packed_stu import PackedSTU, STUCore
from tsfm_lab.nn.packing import SegmentPlan, plan_segments
from tsfm_lab.nn.residual import ResidualBlock
from tsfm_lab.nn.rotary import RotaryEmbedding, Rotation, apply_rotary
from tsfm_lab.nn.scaler import PackedStdScaler, UnitScaler
from tsfm_lab.nn.stu_encoder import HybridTransformerSTUEncoder, STUEncoderLayer

__all__ = [
    "AttentionBlocks",
    "BinaryAttentionBias",
    "CentroidRouter",
    "EncoderCache",
    "FeatLinear",
    "GatedLinearUnit",
    "GroupedQueryAttention",
    "HybridTransformerSTUEncoder",
    "KVCache",
    "LinearRouter",
    "MoEFeedForward",
    "MultiInSizeLinear",
    "MultiOutSizeLinear",
    "PackedContext",
    "PackedEncoder",
    "PackedSTU",
    "PackedStdScaler",
    "RMSNorm",
    "ResidualBlock",
    "RotaryEmbedding",
    "Rotation",
    "STUCore",
    "STUEncoderLayer",
    "SegmentPlan",
    "TransformerEncoder",
    "TransformerEncoderLayer",
    "UnitScaler",
    "apply_rotary",
    "attend_within_blocks",
    "plan_blocks",
    "plan_segments",
    "record_routing",
]
