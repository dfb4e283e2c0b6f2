"""What cannot work is refused before it is queued, with the remedy."""

import shutil

import nbformat
import pytest

from tsfm_lab import paths
from tsfm_lab.data import find
from tsfm_lab.runs.__main__ import main
from tsfm_lab.runs.cli.launch import MIN_FREE_GB, expand_grid, launch
from tsfm_lab.runs.cli.request import read_request
from tsfm_lab.runs.lock import RunLock


def refused(capsys, *arguments):
    assert main(["launch", "00_tiny", *arguments, "--dry-run"]) == 2
    return capsys.readouterr().err


def test_a_dry_run_prints_the_command_and_starts_nothing(tiny, capsys):
    assert main(["launch", "00_tiny", "-p", "OUTCOME", "fail", "--dry-run"]) == 0
    assert "-m tsfm_lab.runs execute" in (printed := capsys.readouterr().out)
    assert printed.strip().endswith("00_tiny.ipynb -p OUTCOME fail")
    assert not list(paths.RUNS.glob("00_tiny/*"))


def test_parameters_on_the_line_win_over_the_file(tiny):
    file = tiny / "00_tiny.lab.yaml"
    file.write_text("OUTCOME: fail\nMAX_STEPS: 7\n")
    config = read_request("00_tiny", str(file), [("MAX_STEPS", "9")]).config
    assert (config.outcome, config.max_steps) == ("fail", 9)


def test_a_grid_is_every_combination(tiny):
    cells = expand_grid([["OUTCOME", "finish", "fail"], ["MAX_STEPS", "1", "2"]])
    assert [dict(cell)["MAX_STEPS"] for cell in cells] == ["1", "2", "1", "2"]
    assert len({read_request("00_tiny", None, cell).path for cell in cells}) == 4


def test_a_misspelt_parameter_is_refused(tiny, capsys):
    assert "unknown parameter OUTCOM; did you mean OUTCOME?" in refused(capsys, "-p", "OUTCOM", "fail")


def test_a_wrong_type_is_refused(tiny, capsys):
    assert "MAX_STEPS must be int, got 'many'" in refused(capsys, "-p", "MAX_STEPS", "many")


def test_the_parameter_file_of_another_notebook_is_refused(tiny, capsys):
    (tiny / "notebooks" / "01_other.py").touch()
    file = tiny / "01_other.lab.yaml"
    file.write_text("OUTCOME: fail\n")
    assert "holds parameters of notebook 01_other" in refused(capsys, str(file))


@pytest.mark.parametrize(("text", "message"), [("- a\n", "NAME: value"), ("a: [\n", "is not YAML")])
def test_a_broken_parameter_file_is_refused(tiny, capsys, text, message):
    (tiny / "p.yaml").write_text(text)
    assert message in refused(capsys, str(tiny / "p.yaml"))


def test_a_notebook_without_a_parameters_cell_is_refused(tiny, capsys):
    path = tiny / "notebooks" / "00_tiny.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[0].metadata.tags = []
    nbformat.write(notebook, path)
    assert "exactly one cell tagged 'parameters', got 0" in refused(capsys)


def test_a_run_directory_that_cannot_be_made_is_refused(tiny, capsys):
    paths.RUNS.write_text("a file stands in the way")
    assert "cannot write to the run directory" in refused(capsys)


def test_a_full_disk_is_refused(tiny, capsys, monkeypatch):
    usage = type(shutil.disk_usage("/"))(total=1, used=1, free=int(MIN_FREE_GB * 1e9) - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert "of free disk" in refused(capsys)


def test_a_run_in_use_is_refused(tiny, capsys):
    run = read_request("00_tiny").path
    run.mkdir(parents=True)
    RunLock(run).acquire()
    assert "is in use by process" in refused(capsys)


def test_slurm_is_asked_for_only_where_it_is(tiny, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ValueError, match="no sbatch on this machine"):
        launch("00_tiny", None, [], slurm=True, dry_run=True)


def test_a_grid_becomes_one_job_array(tiny, monkeypatch, capsys):
    monkeypatch.setattr(shutil, "which", lambda name: name)
    grid = [["MAX_STEPS", "1", "2", "3"]]
    assert launch("00_tiny", None, [], grid=grid, slurm=True, dry_run=True, sbatch_options=["--time=5"]) == 0
    (command,) = capsys.readouterr().out.splitlines()
    assert "--array=0-2" in command
    assert "--time=5" in command


def test_a_data_set_that_the_node_could_not_open_is_refused(tiny, monkeypatch, capsys):
    monkeypatch.delenv("TSFM_DATA_MIRROR", raising=False)
    monkeypatch.setattr(paths, "CACHE", tiny / "cache")
    monkeypatch.setattr(shutil, "which", lambda name: name)
    arguments = ["-p", "DATA", "[synthetic, co2, ETTh1]", "--slurm"]
    message = refused(capsys, *arguments)
    assert "data sets ETTh1 are not in" in message
    assert "python -m tsfm_lab.data get ETTh1" in message
    assert "did you mean ETTh1" in refused(capsys, "-p", "DATA", "[ETTh11]", "--slurm")
    monkeypatch.setenv("TSFM_DATA_MIRROR", str(tiny))
    assert "data sets ETTh1 are not in" in refused(capsys, *arguments)  # nor does the mirror have it
    file = tiny / "raw" / find("ETTh1").files[0].path
    file.parent.mkdir(parents=True)
    file.touch()
    assert main(["launch", "00_tiny", *arguments, "--dry-run"]) == 0


def test_of_many_absent_data_sets_a_few_are_named_and_the_folder_they_may_lie_in(tiny, monkeypatch, capsys):
    monkeypatch.delenv("LOTSA_V1_PATH", raising=False)
    monkeypatch.setattr(paths, "CACHE", tiny / "cache")
    monkeypatch.setattr(shutil, "which", lambda name: name)
    message = refused(capsys, "-p", "DATA", "[lotsa_v1_unweighted]", "--slurm")
    assert "data sets lotsa/buildings_900k, lotsa/sceaux, lotsa/borealis and 167 more are not in" in message
    assert "LOTSA_V1_PATH" in message
