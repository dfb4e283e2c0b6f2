"""A research workbook for time-series foundation models: spectral layers, experts, distillation, speculative decoding."""

__version__ = "0.1.0"
