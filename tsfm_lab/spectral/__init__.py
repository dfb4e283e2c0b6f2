"""Spectral filtering: filters, their convolution, linear systems and the MiniSTU that learns them.

Read in this order: filters, convolution, diagonal_lds, contraction, mini_stu, lds, fit.
"""

from tsfm_lab.spectral.convolution import BankState, FilterBank, get_filter_bank
from tsfm_lab.spectral.diagonal_lds import DiagonalLDS, fit_diagonal_lds
from tsfm_lab.spectral.filters import get_hankel, get_hankel_eigenpairs, get_spectral_filters
from tsfm_lab.spectral.fit import train_stu_on_lds
from tsfm_lab.spectral.lds import LDS, random_LDS, scan_linear
from tsfm_lab.spectral.mini_stu import MiniSTU

__all__ = [
    "LDS",
    "BankState",
    "DiagonalLDS",
    "FilterBank",
    "MiniSTU",
    "fit_diagonal_lds",
    "get_filter_bank",
    "get_hankel",
    "get_hankel_eigenpairs",
    "get_spectral_filters",
    "random_LDS",
    "scan_linear",
    "train_stu_on_lds",
]
