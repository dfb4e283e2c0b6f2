"""Presets: notebook → scale → frozen configuration. One module per notebook; plain dataclasses that import nothing heavy."""

from tsfm_lab.training.presets.pretrain_stu import PRETRAIN_STU

PRESETS = {
    "04_pretrain_stu": PRETRAIN_STU,
}
