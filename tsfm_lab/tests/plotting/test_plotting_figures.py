"""Figures show what they were given."""

import matplotlib
import numpy as np
import pytest

from tsfm_lab import plotting


@pytest.fixture
def axes():
    backend = matplotlib.get_backend()
    matplotlib.use("agg")
    (axes,) = plotting.figure()
    yield axes
    matplotlib.pyplot.close(axes.figure)
    matplotlib.use(backend)


def test_ranges_draws_the_median_in_a_band_from_least_to_largest(axes):
    draws = np.array([[[1.0, 4.0], [2.0, 9.0], [5.0, 3.0]]])
    plotting.ranges(axes, [0, 1], draws, ["three seeds"])
    (line,), (band,) = axes.lines, axes.collections
    assert line.get_ydata().tolist() == [2.0, 4.0]
    corners = {tuple(point) for point in band.get_paths()[0].vertices}
    assert {(0.0, 1.0), (0.0, 5.0), (1.0, 3.0), (1.0, 9.0)} <= corners


def test_lines_draws_one_line_a_row_with_its_label(axes):
    plotting.lines(axes, [0, 1, 2], [[1, 2, 3], [3, 2, 1]], ["up", "down"], title="both")
    assert [line.get_ydata().tolist() for line in axes.lines] == [[1, 2, 3], [3, 2, 1]]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["up", "down"]
    assert axes.get_title(loc=matplotlib.rcParams["axes.titlelocation"].replace("auto", "center")) == "both"
