"""Command line of the runs: launch and execute notebooks, watch and compare runs, write reports, refresh outputs."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from tsfm_lab.runs.cli import launch, report, watch
from tsfm_lab.runs.cli.execute import EXIT_CODES, execute
from tsfm_lab.runs.cli.request import read_cell, read_request
from tsfm_lab.runs.notebooks import find_notebook, notebook_names, refresh


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code; what the user can mend ends it with one line and code 2."""
    parser = argparse.ArgumentParser(prog="python -m tsfm_lab.runs", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_running(commands)
    _add_watching(commands)
    options = parser.parse_args(arguments)
    try:
        return options.function(options) or 0
    except BrokenPipeError:  # who reads the output has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2


def _add_running(commands: argparse._SubParsersAction) -> None:
    command = _command(commands, "launch", _launch, "check a notebook's parameters and run it here or on SLURM")
    _add_request(command)
    command.add_argument("--slurm", action="store_true", help="queue it with sbatch")
    command.add_argument("--local", dest="slurm", action="store_false", help="run it here (the default)")
    command.add_argument("--grid", nargs="+", action="append", default=[], metavar=("NAME", "VALUE"))
    command.add_argument("--again", action="store_true", help="move a finished run aside and run anew")
    command.add_argument("--dry-run", action="store_true", help="check everything, print the command, start nothing")
    command.add_argument("--sbatch", nargs="+", default=[], metavar="OPTION", help="e.g. --sbatch time=02:00:00 gpus=1")
    command = _command(commands, "execute", _execute, "run a notebook into its run directory (one rank of a job)")
    _add_request(command)
    command.add_argument("--cells", type=Path, help="grid file of a job array; SLURM_ARRAY_TASK_ID picks the cell")
    command = _command(commands, "path", _path, "print the run directory of a notebook with these parameters")
    _add_request(command)
    command = _command(commands, "refresh", _refresh, "execute notebooks and store the outputs in their .ipynb")
    command.add_argument("notebooks", nargs="*", help="names or paths; all when none is given")


def _add_watching(commands: argparse._SubParsersAction) -> None:
    command = _command(commands, "list", _list, "state, step, loss and speed of all runs")
    command.add_argument("name", nargs="?", default="", help="only runs whose name contains this")
    command = _command(commands, "show", _show, "configuration, attempts and last metrics of a run")
    command.add_argument("name")
    command = _command(commands, "tail", _tail, "show a run again and again until it has ended")
    command.add_argument("name")
    command = _command(commands, "compare", _compare, "runs side by side")
    command.add_argument("names", nargs="+")
    command = _command(commands, "report", _report, "one self-contained HTML per run, or one that compares several")
    command.add_argument("names", nargs="+")
    command.add_argument("--compare", type=Path, metavar="HTML", help="write one comparison to this file instead")


def _command(
    commands: argparse._SubParsersAction, name: str, function: Callable[[argparse.Namespace], int | None], text: str
) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text, description=text)
    command.set_defaults(function=function)
    return command


def _add_request(command: argparse.ArgumentParser) -> None:
    command.add_argument("notebook", help="name or path of a notebook")
    command.add_argument("parameter_file", nargs="?", help="YAML file of NAME: value")
    command.add_argument(
        "-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), dest="parameters", help="one parameter"
    )


def _launch(options: argparse.Namespace) -> int:
    return launch.launch(
        options.notebook,
        options.parameter_file,
        options.parameters,
        grid=options.grid,
        slurm=options.slurm,
        dry_run=options.dry_run,
        again=options.again,
        sbatch_options=[f"--{option.lstrip('-')}" for option in options.sbatch],
    )


def _execute(options: argparse.Namespace) -> int:
    cell = read_cell(options.cells, os.environ.get("SLURM_ARRAY_TASK_ID")) if options.cells else []
    request = read_request(options.notebook, options.parameter_file, [*options.parameters, *cell])
    state = execute(request)
    if state in ("finished", "failed") and (request.path / "executed.ipynb").exists():
        print(report.write_report(request.path))
    return EXIT_CODES[state]


def _path(options: argparse.Namespace) -> None:
    print(read_request(options.notebook, options.parameter_file, options.parameters).path)


def _refresh(options: argparse.Namespace) -> None:
    for name in options.notebooks or notebook_names():
        print(refresh(find_notebook(name)))


def _list(options: argparse.Namespace) -> None:
    print(watch.list_runs(options.name))


def _show(options: argparse.Namespace) -> None:
    print(watch.show(watch.find_run(options.name)))


def _tail(options: argparse.Namespace) -> None:
    watch.tail(watch.find_run(options.name))


def _compare(options: argparse.Namespace) -> None:
    print(watch.compare([watch.find_run(name) for name in options.names]))


def _report(options: argparse.Namespace) -> None:
    runs = [watch.find_run(name) for name in options.names]
    if options.compare:
        print(report.write_comparison(runs, options.compare))
        return
    for run in runs:
        print(report.write_report(run))


if __name__ == "__main__":
    sys.exit(main())
