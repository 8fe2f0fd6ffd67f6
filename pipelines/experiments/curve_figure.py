"""NE_diff along curves: a panel for each, a line with intervals for each slice."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from c2al_tf.evaluation import ALL, REST

from ..report.drawing import BLUE, GREY, ORANGE, STYLE, as_svg

_SLICES = {
    ALL: ("overall", "#111827"),
    "head": ("head cohort", ORANGE),
    "tail": ("tail cohort", BLUE),
    REST: ("everyone else", GREY),
}


def draw_curves(entries: Sequence[Mapping[str, Any]], labels: Mapping[str, str]) -> str:
    """A panel for each curve of `entries`, all of one arm; `labels` are the axes' words."""
    names = list(dict.fromkeys(entry["curve"] for entry in entries))
    with rc_context(STYLE):
        figure = Figure(figsize=(3.4 * len(names), 3.6))
        panels = figure.subplots(1, len(names), squeeze=False)[0]
        for axes, name in zip(panels, names, strict=True):
            _draw(axes, [entry for entry in entries if entry["curve"] == name])
            axes.set_xlabel(labels[name])
        panels[0].set_ylabel("NE_diff (%), below 0 better")
        lines, words = panels[0].get_legend_handles_labels()
        figure.legend(lines, words, loc="outside upper left", ncols=len(_SLICES))
        return as_svg(figure)


def _draw(axes: Axes, entries: Sequence[Mapping[str, Any]]) -> None:
    values = sorted({entry["value"] for entry in entries})
    # Evenly spaced: most values double, and a strength may be 0.
    at = {value: number for number, value in enumerate(values)}
    for number, (name, (label, color)) in enumerate(_SLICES.items()):
        points = sorted((e for e in entries if e["slice"] == name), key=lambda e: float(e["value"]))
        x = [at[e["value"]] + 0.06 * (number - 1.5) for e in points]
        axes.plot(x, [e["percent"] for e in points], "-o", color=color, label=label, markersize=4, linewidth=1.4)
        for place, e in zip(x, points, strict=True):
            if e["low"] is not None:
                axes.plot([place, place], [e["low"], e["high"]], color=color, linewidth=1, alpha=0.6)
    axes.set_xticks(range(len(values)), [f"{value:g}" for value in values])
    axes.axhline(0, color="#111827", linewidth=1)
    axes.grid(axis="y", color="#e5e7eb")
    axes.set_axisbelow(True)
