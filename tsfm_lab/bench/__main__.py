"""`python -m tsfm_lab.bench NAME …`: side-by-side measurements, printed as a table and written to runs/results/."""

import sys
from importlib import import_module

BENCHES = (
    "data",
    "expert_claims",
    "finetune",
    "forecast",
    "frozen_scale",
    "ministu",
    "moirai",
    "shipped",
    "speculative",
)


def main(arguments: list[str]) -> int:
    if not arguments or arguments[0] not in BENCHES:
        print(f"usage: python -m tsfm_lab.bench {{{','.join(BENCHES)}}} [options]", file=sys.stderr)
        return 2
    return import_module(f"tsfm_lab.bench.{arguments[0]}").main(arguments[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
