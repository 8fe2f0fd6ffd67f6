"""Figures of an experiment: every arm with intervals, the curve over lambda, gain against divergence."""

from collections.abc import Mapping, Sequence

from matplotlib import rc_context
from matplotlib.figure import Figure

from c2al_tf.evaluation import ALL
from c2al_tf.evaluation.intervals import NEDifference

from ..report.drawing import BLUE, GREEN, INK, ORANGE, STYLE, VERMILLION, WIDTH, Drawing, as_svg, draw_dots
from .result import Result

_FEWEST = 3
"""Points that make a curve or a scatter."""

_COLORS = (BLUE, VERMILLION, ORANGE, GREEN)


def draw_figures(results: Sequence[Result], titles: Mapping[str, str], lambdas: Sequence[float]) -> dict[str, Drawing]:
    """Figures by file name: `arms.svg`, and where three arms or more make them, `lambdas.svg` and `divergence.svg`.

    Args:
        results: The arms.
        titles: Slices to be shown, with what to call them; the overall one is `all`.
        lambdas: The run's own: pairs of different divergence are compared at these alone.
    """
    figures = {"arms.svg": draw_arms(results, titles)} if results else {}
    usual = [result for result in results if _is_usual(result)]
    on_targeted = [r for r in usual if r.arm.cohorts and r.arm.cohorts.by == "targeted" and not r.arm.cohorts.number]
    by_lambda = {r.lambdas[0]: r for r in on_targeted if len({*r.lambdas}) == 1 and r.lambdas[0] > 0}
    if len(by_lambda) >= _FEWEST:
        figures["lambdas.svg"] = _lambdas(dict(sorted(by_lambda.items())), titles)
    with_pair = [r for r in usual if r.divergence is not None and {*r.lambdas} == {*lambdas}]
    pairs = {result.cohorts: result for result in reversed(with_pair)}  # an arm that finds another's pair is left out
    if len(pairs) >= _FEWEST:
        figures["divergence.svg"] = _divergence([*reversed(pairs.values())])
    return figures


def _is_usual(result: Result) -> bool:
    """Whether nothing but cohorts and lambdas differs from C2AL as it is."""
    arm = result.arm
    same = (arm.labels, arm.objective, arm.frozen, arm.start) == ("conflict", "sum", None, None)
    same = same and not arm.total_lambda and not arm.lambda_decay
    return same and not arm.model and not arm.training and arm.cohorts is not None and arm.cohorts.only is None


def draw_arms(results: Sequence[Result], titles: Mapping[str, str]) -> Drawing:
    """NE_diff with 95 % intervals: a row for each arm, a panel for each slice."""
    with rc_context(STYLE):
        figure = Figure(figsize=(2.2 + 2.3 * len(titles), 0.9 + 0.24 * len(results)))
        panels = figure.subplots(1, len(titles), sharey=True, squeeze=False)[0]
        for axes, (name, title) in zip(panels, titles.items(), strict=True):
            found = [result.difference(name) for result in results]
            draw_dots(axes, [result.arm.name for result in results], found, [_side(each) for each in found])
            if len(titles) > 1:
                axes.set_title(title, fontsize=9.5)
        figure.supxlabel("NE_diff (%), below 0 better than the reference", fontsize=10)
        return Drawing(
            f"NE_diff by arm: {', '.join(titles.values())}",
            as_svg(figure),
            "Left of 0 an arm predicts better than its reference; grey: its 95 % interval holds 0.",
        )


def _side(found: NEDifference) -> str:
    if found.low is None or found.high is None:
        return "unknown"
    return "better" if found.high < 0 else "worse" if found.low > 0 else "unclear"


def _lambdas(by_lambda: Mapping[float, Result], titles: Mapping[str, str]) -> Drawing:
    """NE_diff against lambda, a line for each slice."""
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.4))
        axes = figure.subplots()
        for number, (name, title) in enumerate(titles.items()):
            points = [(weight, result.difference(name)) for weight, result in by_lambda.items()]
            known = [(weight * 1.06 ** (number - 1.5), d) for weight, d in points if d.percent is not None]
            color = INK if name == ALL else _COLORS[number % len(_COLORS)]
            axes.plot([w for w, _ in known], [d.percent or 0.0 for _, d in known], "-o", color=color, label=title, ms=4)
            for weight, d in known:
                if d.low is not None and d.high is not None:
                    axes.plot([weight, weight], [d.low, d.high], color=color, linewidth=1, alpha=0.6)
        axes.set_xscale("log")
        axes.set_xticks(list(by_lambda), [f"{weight:g}" for weight in by_lambda])
        axes.minorticks_off()
        axes.axhline(0, color=INK, linewidth=1)
        axes.set_xlabel("lambda, the weight of the cohort tasks (no unit)")
        axes.set_ylabel("NE_diff (%)")
        figure.legend(loc="outside upper left", ncols=2, fontsize=9)
        return Drawing(
            "NE_diff against lambda",
            as_svg(figure),
            "Where everyone else rises above 0, the majority pays for the targeted cohorts (lines: 95 % intervals).",
        )


def _divergence(results: Sequence[Result]) -> Drawing:
    """Overall NE_diff against the divergence of the pair, a dot for each pair."""
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.4))
        axes = figure.subplots()
        for result in results:
            found = result.difference(ALL)
            if found.percent is None or result.divergence is None:
                continue
            axes.plot(result.divergence, found.percent, "o", color=BLUE, markersize=5)
            if found.low is not None and found.high is not None:
                axes.plot([result.divergence] * 2, [found.low, found.high], color=BLUE, linewidth=1, alpha=0.6)
            axes.annotate(
                result.arm.name,
                (result.divergence, found.percent),
                textcoords="offset points",
                xytext=(4, 3),
                fontsize=8,
            )
        axes.axhline(0, color=INK, linewidth=1)
        axes.set_xlabel("divergence of the pair in the baseline's predictions")
        axes.set_ylabel("overall NE_diff (%)")
        return Drawing(
            "NE_diff against the divergence of the pair",
            as_svg(figure),
            "If divergence decided what an arm gains, the dots would fall from left to right.",
        )
