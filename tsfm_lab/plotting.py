"""Figures of one look: `use_theme` once a notebook, `figure` for each; arrays in, Axes out."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import seaborn
from matplotlib.axes import Axes

WIDTH, HEIGHT = 6.0, 2.5  # inches, of one figure


def use_theme() -> None:
    """Set the workbook's theme: seaborn "ticks", the colour-blind palette, small type, a light grid."""
    seaborn.set_theme(context="paper", style="ticks", palette="colorblind")
    plt.rcParams.update(
        {
            "figure.figsize": (WIDTH, HEIGHT),
            "figure.dpi": 100,
            "figure.constrained_layout.use": True,
            "axes.grid": True,
            "axes.spines.right": False,
            "axes.spines.top": False,
            "axes.titlesize": "medium",
            "axes.titlelocation": "left",
            "grid.alpha": 0.3,
            "legend.frameon": False,
            "lines.linewidth": 1.3,
        }
    )


def figure(columns: int = 1, *, width: float = WIDTH, height: float = HEIGHT, **subplots: object) -> np.ndarray:
    """Make a figure with `columns` panels side by side and return its Axes, an array (columns); sizes in inches."""
    _, axes = plt.subplots(1, columns, figsize=(width, height), squeeze=False, **subplots)
    return axes[0]


def lines(
    axes: Axes,
    x: np.ndarray,
    y: np.ndarray,
    labels: Sequence[str] = (),
    *,
    spread: np.ndarray | None = None,
    title: str = "",
    xlabel: str = "",
    ylabel: str = "",
    **style: object,
) -> Axes:
    """Draw one line a row of y: (series points) over x: (points), with a band y ± spread: (series points) if given."""
    y = np.atleast_2d(y)
    for row, values in enumerate(y):
        (line,) = axes.plot(x, values, label=labels[row] if len(labels) else None, **style)
        if spread is not None:
            band = np.atleast_2d(spread)[row]
            axes.fill_between(x, values - band, values + band, color=line.get_color(), alpha=0.2, linewidth=0)
    axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
    if len(labels):
        axes.legend()
    return axes


def ranges(axes: Axes, x: np.ndarray, samples: np.ndarray, labels: Sequence[str] = (), **style: object) -> Axes:
    """Draw samples: (series draws points) over x: (points): the median draw in a band from least to largest."""
    for row, draws in enumerate(np.asarray(samples)):
        (line,) = axes.plot(x, np.median(draws, axis=0), label=labels[row] if len(labels) else None, **style)
        axes.fill_between(x, draws.min(axis=0), draws.max(axis=0), color=line.get_color(), alpha=0.2, linewidth=0)
    if len(labels):
        axes.legend()
    return axes


def heatmap(
    axes: Axes,
    values: np.ndarray,
    *,
    title: str = "",
    xlabel: str = "",
    ylabel: str = "",
    label: str = "",
    **style: object,
) -> Axes:
    """Draw values: (rows columns) as an image with row 0 at the top and a colour bar named `label`."""
    image = axes.imshow(values, aspect="auto", interpolation="nearest", **style)
    axes.figure.colorbar(image, ax=axes, label=label)
    axes.grid(visible=False)
    axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
    return axes
