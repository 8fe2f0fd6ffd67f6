"""Does C2AL help a team's own model on its own data? Baseline, discovery, C2AL and evaluation over paired seeds."""

import functools
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import keras
import numpy as np
import tensorflow as tf
from scipy.special import expit
from tqdm import tqdm

from .cohort_model import with_cohort_heads
from .cohorts import Axis, Cohort, Discovery, Guard, discover_cohorts
from .data.inputs.labelled_dataset import add_cohort_labels
from .evaluation import ALL, REST, Evaluation, evaluate_by_cohort
from .files import read_json, replace_file, write_json
from .predictions import ColumnsOf, Rows, columns_function, read_rows
from .training.batches import inputs_of_batch
from .types import Array

BASELINE, C2AL = "baseline", "c2al"

Dataset: TypeAlias = tf.data.Dataset | Callable[[int], tf.data.Dataset]
"""Batches of (features, label[, weight]), or a function from a seed to them."""


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
    fit: Mapping[str, Any] | None = None,
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
        fit: Further arguments of `keras.Model.fit`, such as `callbacks` or `verbose`.
        directory: Where what is trained is kept: the same call in it goes on where it was interrupted.

    Raises:
        ValueError: If arguments contradict each other, rows come in another order in each pass, or the directory holds
            another trial.
    """
    if bool(axes) == bool(cohorts):
        raise ValueError(f"Give exactly one of `axes` and `cohorts`. Received: axes={axes}, cohorts={cohorts}")
    runs = _Runs(model_fn, train, validation, test, columns, at, weight, epochs, from_logits, primary, dict(fit or {}))
    kept = None if directory is None else _folder(Path(directory), {"epochs": epochs, "at": at, "weight": weight})
    with tqdm(total=2 * seeds, desc="comparing", unit="model") as bar:

        def trained(arm: str, cohorts: Sequence[Cohort]) -> list[_Trained]:
            return [_counted(bar, runs.trained(arm, seed, cohorts, kept)) for seed in range(seeds)]

        before = trained(BASELINE, ())
        discovery = None if cohorts else _discovered([x.validation for x in before], axes, units, guard)
        chosen = tuple(cohorts) if discovery is None else _best_pair(discovery)
        after = trained(C2AL, chosen) if chosen else []
    if not after:
        return Trial(discovery, (), None, before[0].model, None)
    logits = {arm: _logits([x.test for x in found]) for arm, found in ((BASELINE, before), (C2AL, after))}
    evaluation = _evaluated(logits, before[0].test, chosen, discovery, units)
    return Trial(discovery, chosen, evaluation, before[0].model, after[0].model)


class _Trained(NamedTuple):
    """A trained model without heads, and what it says of the rows."""

    model: keras.Model
    validation: Rows
    test: Rows


@dataclass(frozen=True)
class _Runs:
    """What all models of a trial share; the arguments of `compare`."""

    model_fn: Callable[[], keras.Model]
    train: Dataset
    validation: tf.data.Dataset
    test: tf.data.Dataset
    columns: ColumnsOf
    at: str | None
    weight: float
    epochs: int
    from_logits: bool | None
    primary: str | None
    fit: dict[str, Any]

    def trained(self, arm: str, seed: int, cohorts: Sequence[Cohort], folder: Path | None) -> _Trained:
        """The model of an arm and seed, from its file if it is there."""
        keras.utils.set_random_seed(seed)
        model = self.model_fn()
        digest = hashlib.sha256(json.dumps([c.to_json() for c in cohorts]).encode()).hexdigest()[:8]
        file = None if folder is None else folder / f"{arm}_{seed}_{digest}.npz"
        if file is not None and file.exists():
            self._load(model, file)
        else:
            self._train(model, seed, cohorts)
            if file is not None:
                with replace_file(file) as temporary:
                    np.savez(temporary, *model.get_weights())
        read = functools.partial(read_rows, columns=self.columns, from_logits=self.from_logits, primary=self.primary)
        return _Trained(model, read(model, self.validation), read(model, self.test))

    def _train(self, model: keras.Model, seed: int, cohorts: Sequence[Cohort]) -> None:
        rows = self.train(seed) if callable(self.train) else self.train
        learner = model
        if cohorts:
            learner = with_cohort_heads(model, self.at, [cohort.name for cohort in cohorts], weight=self.weight)
            columns = columns_function(self.columns, rows.element_spec[0])
            rows = add_cohort_labels(rows, cohorts, columns=columns, primary=self.primary)
        rows = rows.map(lambda x, *rest: (inputs_of_batch(x, model), *rest))
        learner.fit(rows, **{"epochs": self.epochs, "verbose": 0, "shuffle": False} | self.fit)

    def _load(self, model: keras.Model, file: Path) -> None:
        if not model.built:
            model(inputs_of_batch(next(iter(self.validation))[0], model))
        with np.load(file) as saved:
            model.set_weights([saved[name] for name in saved.files])


def _folder(folder: Path, recipe: Mapping[str, Any]) -> Path:
    """The folder of a trial, made or of the same recipe."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "trial.json"
    if file.exists() and (before := read_json(file)) != recipe:
        other = {name: (before.get(name), value) for name, value in recipe.items() if before.get(name) != value}
        raise ValueError(f"{folder}: it holds a trial of other arguments; give another folder. Received: {other}")
    write_json(file, recipe)
    return folder


def _counted(bar: Any, trained: _Trained) -> _Trained:
    bar.update()
    return trained


def _discovered(rows: Sequence[Rows], axes: Sequence[str | Axis], units: str | None, guard: Guard | None) -> Discovery:
    first = rows[0]
    return discover_cohorts(
        expit(_logits(rows)),
        first.columns,
        axes,
        labels=first.labels,
        units=first.columns[units] if units else None,
        guard=guard or Guard(),
    )


def _best_pair(discovery: Discovery) -> tuple[Cohort, ...]:
    return discovery.best.cohorts if any(pair.accepted for pair in discovery.pairs) else ()


def _logits(rows: Sequence[Rows]) -> Array:
    """Logits (seeds, rows)."""
    if any(not np.array_equal(each.labels, rows[0].labels) for each in rows):
        raise ValueError(
            "Validation and test rows must come in the same order in each pass: do not shuffle them. "
            "Received: labels in another order"
        )
    return np.stack([each.logits for each in rows])


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
