"""What the figures of a report share: style, colours, dots with intervals, SVG."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's palette: told apart by colour-blind readers, and in grey by their lightness.
INK, BLUE, VERMILLION, ORANGE, GREEN, GREY = "#111827", "#0072B2", "#D55E00", "#E69F00", "#009E73", "#6b7280"
SIDES = {"better": (BLUE, "v"), "worse": (VERMILLION, "^"), "unclear": (GREY, "o"), "unknown": (GREY, "x")}
"""Colour and marker by the side of a difference."""

# About as wide as a phone's screen, so that the text stays readable when the figure is scaled to it.
WIDTH = 4.4
STYLE: Any = {
    "font.size": 10.5,
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#9ca3af",
    "axes.labelcolor": "#374151",
    "xtick.color": "#374151",
    "ytick.color": "#374151",
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    # Text stays text, in the page's font; fixed ids make the same report twice the same file.
    "svg.fonttype": "none",
    "svg.hashsalt": "c2al",
}


@dataclass(frozen=True)
class Drawing:
    """A figure with its words.

    Args:
        title: What it shows.
        svg: The text of one SVG element.
        sentence: What to see in it.
    """

    title: str
    svg: str
    sentence: str


class HasInterval(Protocol):
    """NE_diff in percent with its 95 % interval; None where there is none."""

    @property
    def percent(self) -> float | None: ...  # noqa: D102
    @property
    def low(self) -> float | None: ...  # noqa: D102
    @property
    def high(self) -> float | None: ...  # noqa: D102


def draw_dots(axes: Axes, labels: Sequence[str], differences: Sequence[HasInterval], sides: Sequence[str]) -> None:
    """Draws NE_diff with 95 % intervals, a row each, the first on top."""
    for y, (found, side) in enumerate(zip(differences, sides, strict=True)):
        if found.percent is None:
            continue
        color, marker = SIDES[side]
        axes.plot(found.percent, y, marker, color=color, markersize=5)
        if found.low is not None and found.high is not None:
            axes.plot([found.low, found.high], [y, y], color=color, linewidth=2, solid_capstyle="butt")
    axes.axvline(0, color=INK, linewidth=1)
    axes.set_yticks(range(len(labels)), labels, fontsize=9)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.grid(axis="x", color="#e5e7eb")
    axes.set_axisbelow(True)


def as_svg(figure: Figure) -> str:
    """The figure as the text of one SVG element, the same for the same figure."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = text.getvalue()
    return svg[svg.index("<svg") :]
