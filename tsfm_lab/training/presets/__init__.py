"""Presets: notebook → scale → frozen configuration, one module per notebook, importing nothing heavy."""

from tsfm_lab.training.presets.pretrain_stu import PRETRAIN_STU

PRESETS = {
    "04_pretrain_stu": PRETRAIN_STU,
}
