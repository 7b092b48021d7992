"""What the report's pictures have in common: style, colours, axes, files, and their look inside the page.

The same data give the same bytes. The colours are those of Okabe & Ito, which colour-blind readers can tell apart.
Every line also has a marker or a pattern of its own, so that lines can be told apart in grey.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from mgnas.files import write_bytes

from ..text import short_count

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType  # Only new versions of matplotlib have it.

FRONT, PUBLISHED, FAINT, TEXT, QUIET = "#0072B2", "#D55E00", "#9aa3ab", "#2b2f33", "#6b7278"
SERIES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7a7a7a", "#2b2f33")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)), (0, (3, 1)), "-", (0, (5, 2)), (0, (1.5, 1.5)))
STYLE: dict[RcKeyType, Any] = {
    "font.size": 10,
    "axes.edgecolor": "#8a9299",
    "axes.labelcolor": TEXT,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "grid.color": "#e3e7ea",
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "mgnas",
    "text.color": TEXT,
    "xtick.color": "#555c62",
    "ytick.color": "#555c62",
}


def series(index: int) -> dict:
    """Colour, marker and line pattern of the index-th of several things, as arguments of Axes.plot."""
    index %= len(SERIES)
    return {"color": SERIES[index], "marker": MARKERS[index], "linestyle": DASHES[index]}


def log_weights(axes: Axes, label: str) -> None:
    """Make the x axis a log scale of weights, with this label; its ticks are denser if it spans little."""
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    dense = high / low < 30
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if dense else (1, 3)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_count(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(label)


def ramp() -> ListedColormap:
    """viridis without its upper end, whose yellow can hardly be seen on white paper."""
    return ListedColormap(mpl.colormaps["viridis"](np.linspace(0, 0.88, 256)))


def percent_axis(axis: Axis) -> None:
    """Ticks of a log axis in per cent: 0.5, 1, 2, 5, ..."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def make_figure(
    draw: Callable, width: float, height: float, title: str = "", rows: int = 1, columns: int = 1, **options
) -> Figure:
    """A figure in this style.

    Args:
        draw: called with the axes, as Figure.subplots returns them: one, or an array if there are several.
        width, height: in inches.
        title: above all axes.
        rows, columns: of axes.
        options: for Figure.subplots.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots(rows, columns, **options)
        draw(axes)
        if title:
            figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
        return figure


def save_figure(figure: Figure, stem: Path) -> None:
    """Write a figure as `stem`.png and `stem`.svg, the same bytes for the same data, each whole or not at all."""
    svg, png = io.BytesIO(), io.BytesIO()
    with mpl.rc_context(STYLE):
        figure.savefig(svg, format="svg", metadata={"Date": None})
        figure.savefig(png, format="png", dpi=150, metadata={"Software": None})
    write_bytes(stem.with_suffix(".png"), png.getvalue())
    write_bytes(stem.with_suffix(".svg"), svg.getvalue())


# Colours that become variables of the page in an inlined picture, so that it is readable on a dark page, too.
_THEME = {
    TEXT: "--ink",
    "#555c62": "--soft",
    QUIET: "--soft",
    "#8a9299": "--edge",
    "#e3e7ea": "--line",
    FRONT: "--accent",
    "#ffffff": "--page",
}


def inlined(svg: str, name: str) -> str:
    """The <svg> element of a saved figure alone, for a page.

    Args:
        svg: the file's text.
        name: of the figure; it is put before every id, because ids must be unique on a page.

    Returns:
        the element, with the style's colours replaced by the page's variables.
    """
    element = svg[svg.index("<svg") :]
    element = re.sub(r'\bid="', f'id="{name}-', element)
    element = re.sub(r'(xlink:href|href)="#', rf'\1="#{name}-', element)
    element = re.sub(r"url\(#", f"url(#{name}-", element)
    for colour, variable in _THEME.items():
        element = re.sub(re.escape(colour), f"var({variable})", element, flags=re.IGNORECASE)
    return element
