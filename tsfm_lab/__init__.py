"""A research workbook for time-series foundation models: spectral layers, experts, distillation, faster decoding."""

__version__ = "0.1.0"
