"""What a report says of the attention and of the gradients that reach it: figures, a table, words."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .course import FEWEST_SEEDS, Change, attention_changes, attention_in_words, attention_of_arms, mean
from .drawing import BLUE, GREEN, GREY, INK, ORANGE, STYLE, VERMILLION, WIDTH, Drawing, as_svg

_COLORS = (VERMILLION, BLUE, GREEN, ORANGE, GREY)
_MOST_IN_A_COLUMN = 3

Courses = Mapping[str, Sequence[Mapping[str, Any]]]
"""By cohort task, in words, the cosine at each step."""


def describe_inside(
    summaries: Mapping[str, Mapping[str, Any]], references: Mapping[str, str], labels: Mapping[str, str]
) -> dict[str, Any] | None:
    """What the page shows of the attention; None if it was not measured.

    Args:
        summaries: By arm, as the page calls it, what `summarize_diagnostics` made of its seeds.
        references: By arm the one that it is compared with, another of them.
        labels: Words for cohort tasks.
    """
    if not any(summary.get("layers") for summary in summaries.values()):
        return None
    found = {arm: attention_changes(summaries[ref], summaries[arm]) for arm, ref in references.items()}
    changes = {arm: of_arm for arm, of_arm in found.items() if of_arm}
    panels = _panels({arm: summary.get("tasks", {}) for arm, summary in summaries.items()}, labels)
    measured = [row for summary in summaries.values() for row in _gradient_rows(summary)]
    return {
        "summaries": summaries,
        "changes": {arm: {(c.layer, c.measure): c for c in of_arm} for arm, of_arm in changes.items()},
        "words": _words(changes, references),
        "labels": labels,
        "fewest_seeds": FEWEST_SEEDS,
        "conflict": mean(row["conflict"] for row in measured),
        "density": attention_density(summaries),
        "gradients": gradient_conflict(panels) if panels else None,
    }


def _words(changes: Mapping[str, Sequence[Change]], references: Mapping[str, str]) -> str | None:
    if len(changes) != 1:
        return attention_of_arms(changes) if changes else None
    ((arm, of_arm),) = changes.items()
    return attention_in_words(of_arm, arm, references[arm])


def _gradient_rows(summary: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [row for by_task in summary.get("tasks", {}).values() for row in by_task.values()]


def attention_density(summaries: Mapping[str, Mapping[str, Any]]) -> Drawing:
    """Entropy of the attention at the first and at the last measurement: a panel for each layer, a row for each arm."""
    layers = list(dict.fromkeys(layer for summary in summaries.values() for layer in summary.get("layers", {})))
    arms = [arm for arm, summary in summaries.items() if summary.get("layers")]
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.6 + len(layers) * (0.5 + 0.24 * len(arms))))
        panels = figure.subplots(len(layers), 1, sharex=True, squeeze=False)[:, 0]
        for axes, layer in zip(panels, layers, strict=True):
            for y, arm in enumerate(arms):
                found = summaries[arm]["layers"].get(layer)
                if found is None or found["first"]["entropy"] is None or found["last"]["entropy"] is None:
                    continue
                color, ends = GREY if y == 0 else BLUE, [found[end]["entropy"] for end in ("first", "last")]
                axes.plot(ends, [y, y], color=color, linewidth=1)
                axes.plot(ends[0], y, "o", color=color, markerfacecolor="white", markersize=6)
                axes.plot(ends[1], y, "o", color=color, markersize=6)
            axes.set_yticks(range(len(arms)), arms, fontsize=9)
            axes.set_ylim(len(arms) - 0.4, -0.6)
            axes.set_title(layer, loc="left", fontsize=10.5)
            axes.grid(axis="x", color="#e5e7eb")
            axes.set_axisbelow(True)
        panels[-1].set_xlabel("entropy of the attention (share of its maximum)")
        return Drawing("Attention before and after training", as_svg(figure), _density_words(summaries))


def _density_words(summaries: Mapping[str, Mapping[str, Any]]) -> str:
    steps = [layer["steps"] for summary in summaries.values() for layer in summary.get("layers", {}).values()]
    first, last = min(first for first, _ in steps), max(last for _, last in steps)
    when = f"Hollow: the first measurement, after step {first:,}; filled: the last, after step {last:,}"
    course = f"Only step {first:,} was measured" if first == last else when
    return f"{course} (means over the seeds). Further right is denser: more fields share the attention."


def gradient_conflict(panels: Mapping[str, Courses]) -> Drawing:
    """Cosine of each cohort task's gradient with the primary one's by training step, a panel for each title."""
    tasks = list(dict.fromkeys(task for courses in panels.values() for task in courses))
    colors = {task: _COLORS[number % len(_COLORS)] for number, task in enumerate(tasks)}
    columns = 1 if len(panels) <= _MOST_IN_A_COLUMN else 2
    rows = -(-len(panels) // columns)
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.5 + 0.22 * len(tasks) + 1.7 * rows))
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for axes, (title, courses) in zip(grid.flat, panels.items(), strict=False):
            _draw_courses(axes, courses, colors)
            axes.set_title(title, loc="left", fontsize=10.5)
        for axes in list(grid.flat)[len(panels) :]:
            axes.set_visible(False)
            grid[-2, -1].tick_params(labelbottom=True)  # of the panel above it
        figure.supxlabel("training step", fontsize=10.5)
        figure.supylabel("cosine with the primary gradient", fontsize=10.5)
        handles = {line.get_label(): line for axes in grid.flat for line in axes.get_lines()}
        figure.legend(
            [handles[task] for task in tasks],
            [textwrap.fill(task, 44) for task in tasks],
            loc="outside upper left",
            fontsize=9,
        )
        return Drawing(
            "Gradient conflict over time",
            as_svg(figure),
            "Below 0 a cohort task is in conflict: it pulls the attention against the primary task (lines: mean over "
            "the seeds; bands: lowest to highest).",
        )


def _draw_courses(axes: Axes, courses: Courses, colors: Mapping[str, str]) -> None:
    axes.axhline(0, color=INK, linewidth=1)
    for task, course in courses.items():
        steps = [point["step"] for point in course]
        low, high = ([point[end] for point in course] for end in ("low", "high"))
        axes.fill_between(steps, low, high, color=colors[task], alpha=0.15, linewidth=0)
        axes.plot(steps, [point["cosine"] for point in course], "o-", color=colors[task], markersize=4, label=task)


def _panels(tasks: Mapping[str, Mapping[str, Any]], labels: Mapping[str, str]) -> dict[str, Courses]:
    """A panel for each layer of one arm; of several arms one for each, with the mean over its layers."""
    arms = {arm: by_layer for arm, by_layer in tasks.items() if by_layer}
    if len(arms) != 1:
        return {arm: _over_layers(by_layer, labels) for arm, by_layer in arms.items()}
    (by_layer,) = arms.values()
    return {layer: _over_layers({layer: found}, labels) for layer, found in by_layer.items()}


def _over_layers(by_layer: Mapping[str, Any], labels: Mapping[str, str]) -> dict[str, list[dict[str, Any]]]:
    names = dict.fromkeys(task for by_task in by_layer.values() for task in by_task)
    courses: dict[str, list[dict[str, Any]]] = {}
    for name in names:
        found = [by_task[name]["course"] for by_task in by_layer.values() if name in by_task]
        courses[labels.get(name, name)] = [
            {"step": points[0]["step"]}
            | {key: mean(point[key] for point in points) for key in ("cosine", "low", "high")}
            for points in zip(*found, strict=True)
        ]
    return courses
