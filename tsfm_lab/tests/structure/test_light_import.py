"""The models import on a machine that has torch and little else."""

import subprocess
import sys

import pytest

HEAVY = ("gluonts", "lightning", "pandas", "pyarrow", "datasets", "statsmodels", "matplotlib", "jupytext", "papermill")


@pytest.mark.parametrize("module", ["tsfm_lab", "tsfm_lab.spectral", "tsfm_lab.models", "tsfm_lab.data"])
def test_importing_the_core_loads_no_heavy_package(module):
    code = f"import sys, {module}; print([name for name in {HEAVY} if name in sys.modules])"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[]"
