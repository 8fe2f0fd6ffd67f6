"""The figures of a run's report."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from c2al_tf.evaluation import ALL

from .drawing import BLUE, GREEN, GREY, INK, ORANGE, SIDES, STYLE, VERMILLION, WIDTH, Drawing, as_svg, draw_dots
from .findings import Slice

_SHOWN_BUCKETS = 50


def prediction_distributions(histograms: Mapping[str, Sequence[float]]) -> Drawing:
    """Prediction distributions over log-normalised buckets, as Figure 3 of the paper; a key is a line's label."""
    labels = [textwrap.fill(label, 44) for label in histograms]
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.6 + 0.22 * sum(1 + label.count("\n") for label in labels)))
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
        return Drawing(
            "The baseline's predictions in each cohort",
            as_svg(figure),
            "The less the lines overlap, the more differently the baseline treats the cohorts (Figure 3 of the paper).",
        )


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


def forest(slices: Sequence[Slice], title: str) -> Drawing:
    """NE_diff of slices with their 95 % intervals, the first on top."""
    labels = [_two_lines(item.brief) for item in slices]
    row = 0.38 if any("\n" in label for label in labels) else 0.27
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.9 + row * len(slices)))
        axes = figure.subplots()
        draw_dots(axes, labels, [item.diff for item in slices], [item.diff.side for item in slices])
        for label, item in zip(axes.get_yticklabels(), slices, strict=True):
            label.set_color(SIDES[item.diff.side][0] if item.diff.side != "unclear" else INK)
            label.set_fontweight("bold" if item.name == ALL or item.targeted else "normal")
        limit = _limit(slices)
        axes.set_xlim(-limit, limit)
        axes.set_xlabel("NE_diff (%)   ← better | worse →")
        return Drawing(
            title,
            as_svg(figure),
            "Left of 0 C2AL predicts better; a line (95 % interval) that crosses 0 is no clear change. ▼ blue: better, "
            "▲ red: worse, ● grey: neither is shown, x: no interval. Bold: all rows and the targeted cohorts.",
        )


def _limit(slices: Sequence[Slice]) -> float:
    """Half the width of the x-axis: what matters fits in, a tiny slice's huge interval may run out."""
    named = [s.diff.reach for s in slices if s.name == ALL or s.targeted or s.diff.side == "worse"]
    most = float(np.quantile([s.diff.reach for s in slices], 0.8))
    return 1.08 * (max([*named, most]) or 1.0)


def _two_lines(label: str) -> str:
    return "\n".join(textwrap.wrap(label, 28, max_lines=2, placeholder=" …"))


def attention_weights(layers: Mapping[str, Mapping[str, Any]]) -> Drawing:
    """Histograms of the attention weights, one panel per layer, as Figure 2 of the paper."""
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.5 + 2.0 * len(layers)))
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
        return Drawing(
            "Attention weights after training, of the exported seed",
            as_svg(figure),
            "Where the C2AL line is higher far from 0, C2AL has more large weights; where it is lower at 0, it leaves "
            "out fewer fields (Figure 2 of the paper; logarithmic vertical axis; the outermost steps hold all beyond).",
        )
