"""The spectral filters: time and memory to compute them afresh, and their error."""

from __future__ import annotations

import time
from statistics import median
from typing import Any

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

from tsfm_lab.bench.timing import peak_memory
from tsfm_lab.spectral import get_spectral_filters
from tsfm_lab.spectral.filters import compute_eigenpairs


def measure_filters(length: int, rounds: int, num_filters: int = 24) -> dict[str, Any]:
    """Seconds, peak MiB, and the largest relative error of a filter against a finer quadrature."""
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        phi = compute_afresh(length, num_filters)
        seconds.append(time.perf_counter() - start)
    expected = compute_by_quadrature(length, num_filters)
    error = np.linalg.norm(phi.abs().numpy() - expected, axis=0) / np.linalg.norm(expected, axis=0)
    memory = peak_memory(lambda: compute_afresh(length, num_filters))
    return {
        "length": length,
        "filters": num_filters,
        "seconds": round(median(seconds), 3),
        "peak_mib": None if memory is None else round(memory),
        "error": float(f"{error.max():.1e}"),
    }


def compute_afresh(length: int, num_filters: int) -> Tensor:
    """The filters (t k) in float64, nothing remembered."""
    compute_eigenpairs.cache_clear()
    return get_spectral_filters(length, num_filters, dtype=torch.float64)


def compute_by_quadrature(length: int, num_filters: int, num_nodes: int = 900) -> np.ndarray:
    """|φ_k| (t k) from the trapezoidal rule for Z = ∫ μ μᵀ dα in log(−log α), a way of its own to the same filters."""
    u = np.linspace(np.log(1e-7 / length), np.log(60.0), num_nodes)
    rate = np.exp(u)
    mu = np.exp(-np.arange(length)[:, None] * rate) * -np.expm1(-rate)
    Q, R = np.linalg.qr(mu * np.sqrt((u[1] - u[0]) * rate * np.exp(-rate)))
    U, s, _ = scipy.linalg.svd(R, lapack_driver="gesvd")
    return np.abs(Q @ U[:, :num_filters]) * np.sqrt(s[:num_filters])
