"""The report's figures, each as the text of one SVG element."""

import io
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from c2al_tf.evaluation import ALL

from .findings import Slice

# Okabe and Ito's palette: told apart by colour-blind readers, and in grey by their lightness.
BLUE, VERMILLION, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#E69F00", "#009E73", "#6b7280"
_SIDES = {"better": (BLUE, "v"), "worse": (VERMILLION, "^"), "unclear": (GREY, "o"), "unknown": (GREY, "x")}
# About as wide as a phone's screen, so that the text stays readable when the figure is scaled to it.
_WIDTH = 5.0
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
_SHOWN_BUCKETS = 50


def prediction_distributions(histograms: Mapping[str, Sequence[float]]) -> str:
    """Prediction distributions over log-normalised buckets, as Figure 3 of the paper; a key is a line's label."""
    labels = [textwrap.fill(label, 50) for label in histograms]
    with rc_context(STYLE):
        figure = Figure(figsize=(_WIDTH, 2.6 + 0.22 * sum(1 + label.count("\n") for label in labels)))
        axes = figure.subplots()
        colors = [GREY, VERMILLION, BLUE, GREEN, ORANGE]
        for number, (label, counts) in enumerate(zip(labels, histograms.values(), strict=True)):
            shares = _merged(np.asarray(counts, dtype=np.float64))
            color, line = colors[number % len(colors)], "-" if number else "--"
            axes.stairs(
                100 * shares,
                np.linspace(0, 1, len(shares) + 1),
                label=label,
                linewidth=1.6,
                color=color,
                linestyle=line,
            )
        _zoom(axes, histograms)
        axes.set_ylabel("rows in the bucket (%)")
        axes.set_xlabel("baseline's predicted probability (log scale)")
        figure.legend(loc="outside upper left", ncols=1)
        return as_svg(figure)


def _merged(counts: Any) -> Any:
    """Shares in fewer, wider buckets: what one reads is the shape."""
    if len(counts) % _SHOWN_BUCKETS == 0:
        counts = counts.reshape(_SHOWN_BUCKETS, -1).sum(axis=1)
    return counts / max(counts.sum(), 1)


def _zoom(axes: Axes, histograms: Mapping[str, Sequence[float]]) -> None:
    """Limits x to the filled buckets, with ticks in probabilities: x = 1 + log10(p) / 6."""
    filled = np.flatnonzero(np.sum([np.asarray(counts) for counts in histograms.values()], axis=0))
    num_buckets = len(next(iter(histograms.values())))
    low, high = max(filled[0] / num_buckets - 0.03, 0.0), min((filled[-1] + 1) / num_buckets + 0.03, 1.0)
    ticks = {1 + np.log10(p) / 6: p for e in range(-6, 1) for p in (10.0**e, 3 * 10.0**e) if p <= 1}
    shown = {x: p for x, p in ticks.items() if low - 1e-9 <= x <= high + 1e-9}
    if len(shown) > 7:
        shown = {x: p for x, p in shown.items() if abs(x * 6 - round(x * 6)) < 1e-6}
    axes.set_xticks(list(shown), [_probability(p) for p in shown.values()])
    axes.set_xlim(low, high)


def _probability(p: float) -> str:
    return f"{100 * p:.4f}".rstrip("0").rstrip(".") + " %"


def forest(slices: Sequence[Slice]) -> str:
    """NE_diff of slices with their 95 % intervals, the first on top."""
    labels = [_two_lines(item.brief) for item in slices]
    with rc_context(STYLE):
        figure = Figure(
            figsize=(_WIDTH, 0.9 + (0.38 if any(chr(10) in label for label in labels) else 0.27) * len(slices))
        )
        axes = figure.subplots()
        for y, item in enumerate(slices):
            color, marker = _SIDES[item.diff.side]
            if item.diff.percent is None:
                continue
            axes.plot(item.diff.percent, y, marker, color=color, markersize=6)
            if item.diff.low is not None and item.diff.high is not None:
                axes.plot([item.diff.low, item.diff.high], [y, y], color=color, linewidth=2, solid_capstyle="butt")
        axes.axvline(0, color="#111827", linewidth=1)
        axes.set_yticks(range(len(slices)), labels, fontsize=9)
        for label, item in zip(axes.get_yticklabels(), slices, strict=True):
            label.set_color(_SIDES[item.diff.side][0] if item.diff.side != "unclear" else "#111827")
            label.set_fontweight("bold" if item.name == ALL or item.targeted else "normal")
        axes.set_ylim(len(slices) - 0.4, -0.6)
        limit = _limit(slices)
        axes.set_xlim(-limit, limit)
        axes.grid(axis="x", color="#e5e7eb")
        axes.set_axisbelow(True)
        axes.set_xlabel("NE_diff (%)    ← C2AL better  |  C2AL worse →")
        return as_svg(figure)


def _limit(slices: Sequence[Slice]) -> float:
    """Half the width of the x-axis: what matters fits in, a tiny slice's huge interval may run out."""
    named = [s.diff.reach for s in slices if s.name == ALL or s.targeted or s.diff.side == "worse"]
    most = float(np.quantile([s.diff.reach for s in slices], 0.8))
    return 1.08 * (max([*named, most]) or 1.0)


def _two_lines(label: str) -> str:
    return "\n".join(textwrap.wrap(label, 34, max_lines=2, placeholder=" …"))


def attention_weights(layers: Mapping[str, Mapping[str, Any]]) -> str:
    """Histograms of the attention weights, one panel per layer, as Figure 2 of the paper."""
    with rc_context(STYLE):
        figure = Figure(figsize=(_WIDTH, 0.5 + 2.0 * len(layers)))
        panels = figure.subplots(len(layers), 1, squeeze=False)[:, 0]
        for axes, (name, layer) in zip(panels, layers.items(), strict=True):
            for arm, label, color, line in (("baseline", "baseline", GREY, "--"), ("c2al", "C2AL", BLUE, "-")):
                counts = np.asarray(layer[arm], dtype=np.float64)
                shares = 100 * counts / max(counts.sum(), 1)
                axes.stairs(shares, layer["edges"], color=color, linestyle=line, linewidth=1.6, label=label)
            axes.set_yscale("log")
            axes.set_ylabel("weights (%)")
            axes.set_title(name, loc="left", fontsize=10.5)
        panels[-1].set_xlabel("attention weight (no unit)")
        panels[0].legend(loc="upper right")
        return as_svg(figure)


def as_svg(figure: Figure) -> str:
    """The figure as the text of one SVG element, the same for the same figure."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = text.getvalue()
    return svg[svg.index("<svg") :]
