"""Presets: notebook → scale → frozen configuration, one module per notebook, importing nothing heavy."""

from tsfm_lab.training.presets.architectures import ARCHITECTURES
from tsfm_lab.training.presets.distill_draft import DISTILL_DRAFT
from tsfm_lab.training.presets.evaluation import EVALUATION
from tsfm_lab.training.presets.finetune import FINETUNE
from tsfm_lab.training.presets.inside import INSIDE
from tsfm_lab.training.presets.ministu_on_lds import MINISTU_ON_LDS
from tsfm_lab.training.presets.pretrain_stu import PRETRAIN_STU
from tsfm_lab.training.presets.quickstart import QUICKSTART
from tsfm_lab.training.presets.spectral_filters import SPECTRAL_FILTERS
from tsfm_lab.training.presets.speculative_decoding import SPECULATIVE_DECODING

PRESETS = {
    "00_quickstart": QUICKSTART,
    "01_spectral_filters": SPECTRAL_FILTERS,
    "02_ministu_on_lds": MINISTU_ON_LDS,
    "03_architectures": ARCHITECTURES,
    "04_pretrain_stu": PRETRAIN_STU,
    "05_distill_draft": DISTILL_DRAFT,
    "06_speculative_decoding": SPECULATIVE_DECODING,
    "07_evaluation": EVALUATION,
    "08_finetune": FINETUNE,
    "09_inside_the_models": INSIDE,
}
