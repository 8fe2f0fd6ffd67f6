"""The report of an experiment: what to do with each arm, and why."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from c2al_tf.cohorts import Cohort
from c2al_tf.evaluation import ALL

from ..report.drawing import Drawing
from ..report.evidence import slice_labels
from ..report.inside import describe_inside
from ..report.page import write_page
from ..report.pairs import describe_discovery
from ..run.details import summarize_arm
from ..run.folder import RunFolder
from .figures import draw_arms
from .result import Result, corrected


def write_experiment_report(
    run: RunFolder,
    results: Sequence[Result],
    titles: Mapping[str, str],
    figures: Mapping[str, Drawing],
    num_arms: int,
    command: str = "experiment",
    cohorts: Sequence[Cohort] | None = None,
) -> Path:
    """Writes `report.html` of the arms so far.

    Args:
        run: The experiment.
        results: The arms that are evaluated.
        titles: Slices to be shown, with what to call them.
        figures: What `draw_figures` drew.
        num_arms: Arms that are compared with a reference, also those to come.
        command: The one that makes all of it again.
        cohorts: The targeted cohorts; None: the run's.
    """
    labels = slice_labels(run.discovery)
    summaries = {name: summarize_arm(run, name, run.seeds_of(name)) for name in _with_references(results)}
    task_labels = labels | {name: words for result in results for name, words in result.targeted.items()}
    arms = [_describe(result, labels, titles, num_arms) for result in results]
    content = {
        "title": run.config.title,
        "question": "Does training with cohort tasks (C2AL), or what it is compared with, make predictions better?",
        "command": command,
        "arms": arms,
        "by_answer": {
            answer: [a for a in arms if a["answer"] == answer] for answer in ("use", "undecided", "do not use")
        },
        "num_arms": num_arms,
        "arm_figures": [draw_arms(results, {name: title}) for name, title in titles.items()] if results else [],
        "curves": [drawing for name, drawing in figures.items() if name != "arms.svg"],
        "targeted_titles": {name: title for name, title in titles.items() if name != ALL},
        "inside": describe_inside(summaries, {r.arm.name: r.arm.reference for r in results}, task_labels),
    }
    return write_page(
        run.path, describe_discovery(run.discovery, run.cohorts if cohorts is None else cohorts) | content
    )


def _with_references(results: Sequence[Result]) -> list[str]:
    return list(dict.fromkeys(name for r in results for name in (r.arm.reference, r.arm.name)))


def _describe(result: Result, labels: Mapping[str, str], titles: Mapping[str, str], num_arms: int) -> dict[str, Any]:
    """What the page says of an arm."""
    words = {**labels, **result.targeted}
    low, high = corrected(result.difference(ALL), num_arms)
    return {
        "name": result.arm.name,
        "reference": result.arm.reference,
        "seeds": len(result.seeds),
        "cohorts": result.cohorts,
        "answer": result.recommendation.answer,
        "reason": result.recommendation.reason(words),
        "holds": result.holds_among(num_arms),
        "differences": {name: result.difference(name) for name in titles},
        "corrected": dataclasses.replace(result.difference(ALL), low=low, high=high),
        "losses": [(words.get(name, name), result.difference(name)) for name in result.recommendation.losses],
    }
