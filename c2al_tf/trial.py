"""Does C2AL help a team's own model on its own data? Baseline, discovery, C2AL and evaluation over paired seeds."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from scipy.special import expit
from tqdm import tqdm

from .cohorts import Axis, Cohort, Discovery, Guard, discover_cohorts
from .evaluation import ALL, REST, Evaluation, evaluate_by_cohort
from .predictions import ColumnsOf, Rows
from .storage import opened
from .trial_runs import BASELINE, C2AL, Dataset, Runs, Trained, trial_folder
from .types import Array


@dataclass(frozen=True)
class Trial:
    """What came out; `print` it for the table.

    Args:
        discovery: The pairs of cohorts, ranked; None where they were given.
        cohorts: The cohorts that got heads; none if no pair was accepted.
        evaluation: C2AL against the baseline on the test rows; None without cohorts.
        baseline: The baseline of the first seed.
        c2al: The model of the first seed that was trained with heads, without them: the same class and signature.
    """

    discovery: Discovery | None
    cohorts: tuple[Cohort, ...]
    evaluation: Evaluation | None
    baseline: keras.Model
    c2al: keras.Model | None

    def __str__(self) -> str:
        if self.evaluation is not None:
            return "\n".join(_table(self.evaluation, self.cohorts))
        try:
            return f"No cohorts were trained for: {self.discovery and self.discovery.best}"
        except ValueError as refused:
            return str(refused)


def compare(
    model_fn: Callable[[], keras.Model],
    train: Dataset,
    validation: tf.data.Dataset,
    test: tf.data.Dataset,
    columns: ColumnsOf,
    *,
    axes: Sequence[str | Axis] = (),
    cohorts: Sequence[Cohort] = (),
    at: str | None = None,
    weight: float = 0.1,
    seeds: int = 3,
    epochs: int = 1,
    from_logits: bool | None = None,
    primary: str | None = None,
    units: str | None = None,
    guard: Guard | None = None,
    fit: Mapping[str, Any] | Callable[[str, int], Mapping[str, Any]] | None = None,
    directory: str | Path | None = None,
) -> Trial:
    """Trains a model with and without cohort heads over paired seeds, and compares both on the test rows by cohort.

    For each seed `model_fn` makes a baseline, which `fit` trains. On the validation rows the predictions of all
    baselines choose the pair of cohorts (`discover_cohorts`). For each seed `model_fn` makes the same model again, of
    the same initial values, which is trained on the same rows with a head for each cohort (`with_cohort_heads`). The
    test rows are read for the figures alone (`evaluate_by_cohort`).

    Args:
        model_fn: Makes a new compiled model: any class that `with_cohort_heads` takes. Keras's seed is set before.
        train: The training rows. Give a function of the seed where rows are shuffled, which makes the dataset anew: so
            both arms of a seed see the rows in one order.
        validation: The rows that choose the cohorts, in one order.
        test: The rows that are compared on, in one order.
        columns: The raw columns of `axes`, `cohorts` and `units`: names of features, or a function from the features.
        axes: What cohorts are cut along: columns, or `Axis` for edges, quantiles and crosses.
        cohorts: Cohorts of your own in place of discovery; exactly one of this and `axes` is given.
        at: What makes the shared representation, as for `with_cohort_heads`.
        weight: Weight of the cohorts' losses, lambda.
        seeds: Number of paired seeds. With one nothing is called better or worse.
        epochs: Of each training.
        from_logits: Whether the model gives logits; None: what its compiled loss says.
        primary: The output and label of a model of several.
        units: The column of ids (a user, say) whose rows are one observation.
        guard: What a pair must pass.
        fit: Further arguments of `keras.Model.fit`, such as `callbacks`, of which each training gets a copy,
            `class_weight` or `validation_data`; or a function from the arm, "baseline" or "c2al", and the seed to them.
        directory: Where what is trained is kept: the same call in it goes on where it was interrupted.

    Raises:
        ValueError: If arguments contradict each other, a column is not there, rows come in another order in each pass,
            or the directory holds a trial of another model, other training rows or other arguments.
    """
    if bool(axes) == bool(cohorts):
        raise ValueError(f"Give exactly one of `axes` and `cohorts`. Received: axes={axes}, cohorts={cohorts}")
    runs = Runs(model_fn, train, validation, test, columns, at, weight, epochs, from_logits, primary, fit)
    wanted = {name for axis in axes for name in ([axis] if isinstance(axis, str) else axis.columns)}
    wanted |= {name for cohort in cohorts for name in cohort.columns} | ({units} if units else set())
    recipe = runs.check(wanted)
    kept = None if directory is None else trial_folder(opened(directory), recipe)
    with tqdm(total=2 * seeds, desc="comparing", unit="model") as bar:
        before = [_counted(bar, runs.trained(BASELINE, seed, (), kept, validates=not cohorts)) for seed in range(seeds)]
        discovery = None if cohorts else _discovered(runs.rows["validation"], before, axes, units, guard)
        chosen = tuple(cohorts) if discovery is None else _best_pair(discovery)
        after = [_counted(bar, runs.trained(C2AL, seed, chosen, kept)) for seed in range(seeds if chosen else 0)]
    baseline = before[0].model
    assert baseline is not None
    if not after:
        return Trial(discovery, (), None, baseline, None)
    logits = {arm: np.stack([x.test for x in found]) for arm, found in ((BASELINE, before), (C2AL, after))}
    evaluation = _evaluated(logits, runs.rows["test"], chosen, discovery, units)
    return Trial(discovery, chosen, evaluation, baseline, after[0].model)


def _counted(bar: Any, trained: Trained) -> Trained:
    bar.update()
    return trained


def _discovered(
    rows: Rows, trained: Sequence[Trained], axes: Sequence[str | Axis], units: str | None, guard: Guard | None
) -> Discovery:
    return discover_cohorts(
        expit(np.stack([each.validation for each in trained if each.validation is not None])),
        rows.columns,
        axes,
        labels=rows.labels,
        units=rows.columns[units] if units else None,
        guard=guard or Guard(),
    )


def _best_pair(discovery: Discovery) -> tuple[Cohort, ...]:
    return discovery.best.cohorts if any(pair.accepted for pair in discovery.pairs) else ()


def _evaluated(
    logits: Mapping[str, Array], rows: Rows, cohorts: Sequence[Cohort], discovery: Discovery | None, units: str | None
) -> Evaluation:
    others = [summary.cohort for axis in (discovery.axes if discovery else ()) for summary in axis.cohorts]
    slices = {cohort.name: cohort.contains(rows.columns) for cohort in cohorts}
    slices[REST] = ~np.logical_or.reduce(list(slices.values()))
    slices |= {cohort.name: cohort.contains(rows.columns) for cohort in others}
    return evaluate_by_cohort(
        logits,
        rows.labels,
        slices,
        reference=BASELINE,
        named=[cohort.name for cohort in cohorts],
        weights=rows.weights,
        units=rows.columns[units] if units else None,
    )


def _table(evaluation: Evaluation, cohorts: Sequence[Cohort]) -> Iterator[str]:
    titles = {ALL: "all rows", **{cohort.name: str(cohort) for cohort in cohorts}, REST: "everyone else"}
    width = max(map(len, titles.values()))
    yield f"{'':{width}}  baseline NE  C2AL against it, %  [95 % interval]"
    for name, title in titles.items():
        difference = evaluation.ne_diff[C2AL][name]
        seeds = [figures["ne"] for figures in evaluation.metrics[BASELINE][name]]
        ne = "-" if None in seeds else f"{np.mean(np.array(seeds, float)):.4f}"
        interval = "no interval" if difference.low is None else f"[{difference.low:+.2f}, {difference.high:+.2f}]"
        percent = "-" if difference.percent is None else f"{difference.percent:+.2f}"
        yield f"{title:{width}}  {ne:>11}  {percent:>17}  {interval}"
    claims = evaluation.claims[C2AL]
    for word, found in (("better", claims.better), ("worse", claims.worse)):
        yield f"{word}: {', '.join(titles.get(name, name) for name in found) or 'none can be seen'}"
    yield evaluation.interval
