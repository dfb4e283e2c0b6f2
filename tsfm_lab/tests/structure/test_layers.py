"""Imports between the parts of the package go down only, in the order given here."""

import ast
from pathlib import Path

import pytest

import tsfm_lab

PACKAGE = Path(tsfm_lab.__file__).parent

# part → (layer, place within the layer); a part may import lower layers and what stands before it in its own
ORDER = {
    "paths": (0, 0),
    "runs": (0, 1),
    "plotting": (0, 1),
    "metrics": (1, 0),
    "spectral": (1, 1),
    "nn": (1, 2),
    "distributions": (1, 3),
    "data": (1, 4),
    "models": (2, 0),
    "training": (3, 0),
    "decoding": (3, 0),
    "forecast": (3, 1),
    "evaluation": (4, 0),
    "inside": (4, 0),
    "runs.cli": (5, 0),
    "runs.__main__": (5, 1),
    "bench": (5, 0),
}
LIGHT = {"torch", "einops", "numpy", "scipy", "safetensors", "huggingface_hub"}
FILES = sorted(file for file in PACKAGE.rglob("*.py") if "tests" not in file.parts)


def part_of(module: str) -> str:
    """`tsfm_lab.data.loader` → `data`; of the names in ORDER that begin the module's, the longest (`runs.cli`)."""
    names = module.removeprefix("tsfm_lab.").split(".")
    prefixes = (".".join(names[:count]) for count in range(len(names), 0, -1))
    return next((prefix for prefix in prefixes if prefix in ORDER), names[0])


def imported_modules(file: Path) -> set[str]:
    """Modules of tsfm_lab that a file imports anywhere in it, functions included."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "tsfm_lab":
            found |= {f"tsfm_lab.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import; write the whole module name"
            found.add(node.module)
    return {module for module in found if module.startswith("tsfm_lab.")}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_go_down_only(file):
    module = ".".join(("tsfm_lab", *file.relative_to(PACKAGE).with_suffix("").parts))
    here = part_of(module)
    if here == "__init__":  # the package's front door may open any room
        return
    for imported in imported_modules(file):
        there = part_of(imported)
        assert there in ORDER, f"{module} imports {imported}: give its part a place in ORDER"
        allowed = there == here or ORDER[there] < ORDER[here]
        assert allowed, f"{module} (layer {ORDER[here]}) imports {imported} (layer {ORDER[there]})"
