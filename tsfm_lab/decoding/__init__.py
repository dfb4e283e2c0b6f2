"""Decoding: autoregressive roll-outs of next-token forecasters."""

from tsfm_lab.decoding.autoregressive import slide

__all__ = ["slide"]
