"""Encoder that mixes spectral (STU) and attention layers: the experiment of replacing one by the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from tsfm_lab.nn.encoder import PackedContext, PackedEncoder, attention_layer
from tsfm_lab.nn.ffn import GatedLinearUnit
from tsfm_lab.nn.norm import RMSNorm
from tsfm_lab.nn.packed_stu import PackedSTU
from tsfm_lab.nn.rotary import RotaryEmbedding

LAYER_PATTERNS = ("alternating", "attention", "stu")


def resolve_layer_pattern(layer_pattern: str | Sequence[str], num_layers: int) -> tuple[str, ...]:
    """The kind of every layer, "stu" or "attention".

    "alternating" starts with an STU layer; "attention" and "stu" are all of one kind; a list names each layer.

    Raises
    ------
    ValueError: an unknown pattern or kind, or a list of another length.
    """
    if layer_pattern == "alternating":
        return tuple("attention" if i % 2 else "stu" for i in range(num_layers))
    kinds = (layer_pattern,) * num_layers if isinstance(layer_pattern, str) else tuple(layer_pattern)
    if not set(kinds) <= {"stu", "attention"}:
        raise ValueError(
            f"layer_pattern must be one of {', '.join(LAYER_PATTERNS)} or a list of 'stu' and 'attention', "
            f"got {layer_pattern!r}"
        )
    if len(kinds) != num_layers:
        raise ValueError(f"layer_pattern must name num_layers={num_layers} layers, got {len(kinds)}")
    return kinds


class STUEncoderLayer(nn.Module):
    """x ← x + stu(norm1(x)); x ← x + ffn(norm2(x)). With pre_norm=False: x ← norm(x + ·) instead.

    `TransformerEncoderLayer` with the attention replaced.
    """

    def __init__(
        self,
        stu: PackedSTU,
        ffn: nn.Module,
        norm1: nn.Module,
        norm2: nn.Module,
        pre_norm: bool = True,
        dropout_p: float = 0.0,
    ):
        super().__init__()
        self.stu, self.ffn, self.norm1, self.norm2 = stu, ffn, norm1, norm2
        self.pre_norm = pre_norm
        self.dropout = nn.Dropout(dropout_p)

    def forward(self, x: Tensor, context: PackedContext, tokens: Tensor | None = None) -> Tensor:
        """`x: (b t d) -> (b t d)`; with `tokens: (n) int64`, indices into (b t), only those tokens' outputs: (n d).

        Raises
        ------
        ValueError: the context has no segment plan, or one that does not fit.
        """
        if context.segments is None:
            raise ValueError("an STU layer needs the batch's segments: pass plan_segments(sample_id, variate_id)")
        x = x + self.dropout(self.stu(self.norm1(x) if self.pre_norm else x, context.segments))
        if tokens is not None:
            x = x.flatten(0, 1).index_select(0, tokens)
        if self.pre_norm:
            return x + self.ffn(self.norm2(x))
        x = self.norm1(x)
        return self.norm2(x + self.ffn(x))


class HybridTransformerSTUEncoder(PackedEncoder):
    """`TransformerEncoder` in which some layers are STU layers.

    Parameters
    ----------
    layer_pattern: "alternating" (STU first), "attention", "stu", or a list of the layers' kinds.
    max_seq_len: longest segment, in tokens, = lags of the filters.
    num_eigh, use_approx, branches, causal: of every STU layer, see `STUCore`.
    stu_d_ff: hidden width of the STU layers' GLU; None: as in the attention layers. A wider one makes up for the
        parameters that the attention had more.
    num_heads, num_groups, pre_norm, attn_dropout_p, dropout_p, make_ffn: as in `TransformerEncoder`.

    Raises
    ------
    ValueError: an unknown pattern, or one that does not fit num_layers.
    """

    def __init__(
        self,
        d_model: int,
        num_layers: int,
        layer_pattern: str | Sequence[str] = "alternating",
        max_seq_len: int = 512,
        num_eigh: int = 24,
        use_approx: bool = True,
        branches: str = "shared",
        causal: bool = True,
        stu_d_ff: int | None = None,
        num_heads: int | None = None,
        num_groups: int | None = None,
        pre_norm: bool = True,
        attn_dropout_p: float = 0.0,
        dropout_p: float = 0.0,
        make_ffn: Callable[[int], nn.Module] | None = None,
    ):
        num_heads = num_heads or max(1, d_model // 64)

        def make_layer(kind: str) -> nn.Module:
            if kind == "attention":
                return attention_layer(d_model, num_heads, num_groups, pre_norm, attn_dropout_p, dropout_p, make_ffn)
            stu = PackedSTU(d_model, max_seq_len, num_eigh, use_approx, branches, causal)
            as_in_attention = make_ffn is not None and stu_d_ff is None
            ffn = make_ffn(d_model) if as_in_attention else GatedLinearUnit(d_model, stu_d_ff, dropout_p)
            return STUEncoderLayer(stu, ffn, RMSNorm(d_model), RMSNorm(d_model), pre_norm, dropout_p)

        kinds = resolve_layer_pattern(layer_pattern, num_layers)
        super().__init__(map(make_layer, kinds), RMSNorm(d_model), RotaryEmbedding(d_model // num_heads))
        self.layer_pattern = kinds
