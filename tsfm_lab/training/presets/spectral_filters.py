"""Presets of notebooks/01_spectral_filters: lengths and the number of filters."""

from dataclasses import dataclass

from tsfm_lab.runs.config import unhashed


@dataclass(frozen=True)
class SpectralFilters:
    """What notebook 01 computes its filters for; nothing is trained."""

    scale: str
    seq_len: int = 512  # L, steps
    long_seq_len: int = 4096  # a second length that the claims are checked at, steps
    num_filters: int = 24  # K
    interactive: bool = unhashed(False)  # sliders under the figure of section 7; they need a live kernel

    def __post_init__(self) -> None:
        if self.num_filters < 8:
            raise ValueError(f"num_filters must be at least 8, got {self.num_filters}: the claims begin there")
        if not 128 <= self.seq_len < self.long_seq_len:
            raise ValueError(
                f"seq_len must be at least 128 and below long_seq_len={self.long_seq_len}, got {self.seq_len}"
            )


SPECTRAL_FILTERS = {
    "smoke": SpectralFilters("smoke"),
    "lab": SpectralFilters("lab", seq_len=2048, long_seq_len=8192),
    "full": SpectralFilters("full", seq_len=4096, long_seq_len=16384),
}
