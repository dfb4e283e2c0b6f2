"""Runs are watched from their files alone."""

import pytest

from tsfm_lab import paths
from tsfm_lab.runs import MetricsLog, RunDirectory
from tsfm_lab.runs.cli import watch
from tsfm_lab.runs.cli.report import take_mathematics, to_html, write_comparison, write_report


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Two runs, one with two children of three steps each."""
    monkeypatch.setattr(paths, "RUNS", tmp_path)
    first = RunDirectory(tmp_path / "04" / "lab-1", {"seed": 0, "max_steps": 10})
    second = RunDirectory(tmp_path / "04" / "lab-2", {"seed": 1, "max_steps": 10})
    for run in (first.child("moirai-s0", model="moirai"), first.child("hybrid-s0", model="hybrid"), second):
        log = MetricsLog(run.path / "metrics.csv", ["loss", "steps_per_s", "val_mase"])
        for step in range(3):
            log.append(step, loss=3.0 - step, steps_per_s=0.5)
        log.append(3, val_mase=0.9)
    return first, second


def test_children_are_listed_with_the_state_of_their_run(runs):
    runs[0].start()
    states = {summary.name: summary.state for summary in map(watch.summarise, watch.find_runs())}
    assert states["04/lab-1/moirai-s0"] == "running"
    assert states["04/lab-2"] == "new"


def test_a_saved_model_is_no_run(runs):
    model = runs[1].path / "model"
    model.mkdir()
    for name in ("config.json", "model.safetensors"):
        (model / name).touch()
    assert model not in watch.find_runs()


def test_remaining_time_is_steps_over_speed(runs):
    runs[0].start()
    assert watch.summarise(runs[0].path / "moirai-s0").left == (10 - 3) / 0.5


def test_a_run_is_found_by_the_end_of_its_name_and_doubt_is_an_error(runs):
    assert watch.find_run("lab-2") == runs[1].path
    assert watch.find_run("moirai-s0").name == "moirai-s0"
    with pytest.raises(ValueError, match="must name one run"):
        watch.find_run("s0")


def test_a_comparison_shows_what_differs_and_the_best_values(runs):
    text = watch.compare([runs[0].path / "moirai-s0", runs[1].path])
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines()[1:] if not line.startswith("best")}
    assert rows["seed"] == ["0", "1"]
    assert "max_steps" not in rows
    assert rows["loss"] == ["1", "1"]
    assert "best loss" in text


def test_a_comparison_page_needs_no_network(runs, tmp_path):
    page = write_comparison([run.path for run in runs], tmp_path / "compare.html").read_text()
    assert "<script" not in page
    assert "data:image/png;base64," in page
    assert "<th>lab-2</th>" in page
    assert "<td>seed</td>" in page


def test_a_run_without_an_executed_notebook_has_no_report(runs):
    with pytest.raises(ValueError, match=r"has no executed\.ipynb"):
        write_report(runs[0].path)


def test_mathematics_becomes_mathml_outside_code_only():
    from nbformat import v4

    text = "costs \\$3; $x^2$ and `$HOME` and\n\n$$\\phi_k$$\n"
    page = to_html(v4.new_notebook(cells=[v4.new_markdown_cell(text)]), title="t")
    assert page.count("<math") == 2
    assert "<msup><mi>x</mi><mn>2</mn></msup>" in page
    assert 'display="block"' in page
    assert "<code>$HOME</code>" in page
    assert "mathml-" not in page


def test_a_formula_may_cross_a_line_but_not_a_paragraph():
    formulas = []
    text = take_mathematics("laws $p$, $q =\nr$ and $s$.\n\nIt costs 5 $.\n\nAnd $t$.", formulas)
    assert len(formulas) == 4
    assert "It costs 5 $." in text
