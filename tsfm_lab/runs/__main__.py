"""Command line of the runs: `python -m tsfm_lab.runs refresh | path`."""

import argparse
from pathlib import Path

import yaml

from tsfm_lab.runs.config import resolve_config
from tsfm_lab.runs.directory import run_path
from tsfm_lab.runs.notebooks import find_notebook, notebook_names, refresh


def main(arguments: list[str] | None = None) -> None:
    """Run one command; errors in what the user asked end it with one line."""
    parser = argparse.ArgumentParser(prog="python -m tsfm_lab.runs", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("refresh", help="execute notebooks and store their outputs in the .ipynb files")
    command.add_argument("notebooks", nargs="*", help="names or paths; all when none is given")
    command = commands.add_parser("path", help="print the run directory that a notebook has with these parameters")
    command.add_argument("notebook", help="name or path")
    command.add_argument("parameter_file", nargs="?", type=Path, help="YAML file of parameters")
    command.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), dest="parameters")
    options = parser.parse_args(arguments)
    try:
        if options.command == "refresh":
            for name in options.notebooks or notebook_names():
                print(refresh(find_notebook(name)))
        else:
            print(_path(options.notebook, options.parameter_file, options.parameters))
    except (ValueError, OSError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")


def _path(notebook: str, parameter_file: Path | None, parameters: list[list[str]]) -> Path:
    from tsfm_lab.training.presets import PRESETS

    name = find_notebook(notebook).stem
    if name not in PRESETS:
        raise ValueError(f"notebook {name!r} has no presets; those that have are {sorted(PRESETS)}")
    given = yaml.safe_load(parameter_file.read_text()) or {} if parameter_file else {}
    given |= {key: yaml.safe_load(value) for key, value in parameters}
    return run_path(name, resolve_config(PRESETS[name], given))


if __name__ == "__main__":
    main()
