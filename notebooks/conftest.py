"""How `pytest --nbval` runs the notebooks: this environment's kernel, a temporary directory for runs, noise masked."""

import os
import tempfile
from pathlib import Path


def pytest_configure(config):
    os.environ.setdefault("TSFM_RUNS", tempfile.mkdtemp(prefix="tsfm-runs-"))
    if hasattr(config.option, "nbval_sanitize_with"):
        config.option.nbval_current_env = True
        config.option.nbval_sanitize_with = str(Path(__file__).with_name("sanitize.cfg"))
