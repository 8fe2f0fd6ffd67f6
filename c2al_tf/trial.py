"""Does C2AL help a team's own model on its own data? Baseline, discovery, C2AL and evaluation over paired seeds."""

import copy
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import keras
import numpy as np
import tensorflow as tf
from keras.src.utils.naming import reset_uids
from scipy.special import expit
from tqdm import tqdm

from .cohort_model import with_cohort_heads
from .cohorts import Axis, Cohort, Discovery, Guard, discover_cohorts
from .cohorts.table import find_column
from .data.inputs.labelled_dataset import add_cohort_labels
from .evaluation import ALL, REST, Evaluation, evaluate_by_cohort
from .files import read_json, replace_file, write_json
from .layer_calls import layer_of
from .predictions import ColumnsOf, Rows, columns_function, gives_logits, read_rows
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
    runs = _Runs(model_fn, train, validation, test, columns, at, weight, epochs, from_logits, primary, fit)
    wanted = {name for axis in axes for name in ([axis] if isinstance(axis, str) else axis.columns)}
    wanted |= {name for cohort in cohorts for name in cohort.columns} | ({units} if units else set())
    recipe = runs.check(wanted)
    kept = None if directory is None else _folder(Path(directory), recipe)
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


class _Trained(NamedTuple):
    """Logits (rows,) of a trained model without heads, and of the first seed the model."""

    model: keras.Model | None
    validation: Array | None
    test: Array


@dataclass(frozen=True)
class _Runs:
    """What all models of a trial share: the arguments of `compare`, and the rows once they are read."""

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
    fit: Mapping[str, Any] | Callable[[str, int], Mapping[str, Any]] | None
    rows: dict[str, Rows] = field(default_factory=dict)

    def check(self, wanted: Iterable[str]) -> dict[str, Any]:
        """What makes this trial another one than others, fit for JSON; raises ValueError where it would fail later."""
        model, rows = self._model(0), self._train_rows(0)
        for dataset in (rows, self.validation, self.test):
            if not isinstance(dataset, tf.data.Dataset):
                raise ValueError(f"Rows must be a tf.data.Dataset. Received: {type(dataset).__name__}")
        if self.from_logits is None:
            gives_logits(model, self.primary)
        if model.built:  # A subclass has all of its layers after its first batch only.
            layer_of(model, self.at)
        for dataset in (self.validation, self.test):
            features = dataset.element_spec[0]
            found = columns_function(self.columns, features)
            names = dataset.map(lambda x, *_, found=found: found(x)).element_spec
            for name in wanted:
                find_column(names, name)
        first, again = (self._first_batch() for _ in range(2))
        if first != again:
            raise ValueError(
                "`train` must give the rows of a seed in one order: give a function of the seed that makes the dataset "
                "with `shuffle(..., seed=seed)`. Received: another first batch in the second pass"
            )
        made = [_config(model.get_config) or type(model).__qualname__, _config(model.get_compile_config)]
        fit = sorted(name for name in self._fit(BASELINE, 0) if name != "epochs")
        return {
            "model": hashlib.sha256("".join(made).encode()).hexdigest()[:16],
            "training rows": first,
            "form of the rows": repr(rows.element_spec),
            "epochs": self._fit(BASELINE, 0)["epochs"],
            "fit": fit,
            "at": self.at,
            "weight": self.weight,
            "primary": self.primary,
        }

    def trained(
        self, arm: str, seed: int, cohorts: Sequence[Cohort], folder: Path | None, validates: bool = False
    ) -> _Trained:
        """The model of an arm and seed, from its file if it is there."""
        model = self._model(seed)
        digest = hashlib.sha256(json.dumps([c.to_json() for c in cohorts]).encode()).hexdigest()[:8]
        file = None if folder is None else folder / f"{arm}_{seed}_{digest}.npz"
        if file is not None and file.exists():
            self._load(model, file)
        else:
            self._train(model, arm, seed, cohorts)
            if file is not None:
                with replace_file(file) as temporary:
                    np.savez(temporary, *model.get_weights())
        validation = self._read("validation", model) if validates else None
        return _Trained(model if seed == 0 else None, validation, self._read("test", model))

    def _model(self, seed: int) -> keras.Model:
        reset_uids()  # Layers and metrics of all models have the names of the first: callbacks and `at` go by them.
        keras.utils.set_random_seed(seed)
        return self.model_fn()

    def _train_rows(self, seed: int) -> tf.data.Dataset:
        return self.train(seed) if callable(self.train) else self.train

    def _first_batch(self) -> str:
        keras.utils.set_random_seed(0)
        return _digest(next(iter(self._train_rows(0))))

    def _fit(self, arm: str, seed: int) -> dict[str, Any]:
        given = dict(self.fit(arm, seed) if callable(self.fit) else self.fit or {})
        if "callbacks" in given and not callable(self.fit):
            given["callbacks"] = copy.deepcopy(given["callbacks"])
        return {"epochs": self.epochs, "verbose": 0, "shuffle": False} | given

    def _train(self, model: keras.Model, arm: str, seed: int, cohorts: Sequence[Cohort]) -> None:
        rows, arguments, learner = self._train_rows(seed), self._fit(arm, seed), model
        if cohorts:
            learner = with_cohort_heads(model, self.at, [cohort.name for cohort in cohorts], weight=self.weight)
            columns = columns_function(self.columns, rows.element_spec[0])
            class_weight = arguments.pop("class_weight", None)  # which Keras takes for one label alone
            rows = add_cohort_labels(rows, cohorts, columns=columns, primary=self.primary, class_weight=class_weight)
        if isinstance(arguments.get("validation_data"), tf.data.Dataset):
            arguments["validation_data"] = _read_by(model, arguments["validation_data"])
        learner.fit(_read_by(model, rows), **arguments)

    def _load(self, model: keras.Model, file: Path) -> None:
        if not model.built:
            model(inputs_of_batch(next(iter(self.validation))[0], model))
        with np.load(file) as saved:
            arrays = [saved[name] for name in saved.files]
        # NumPy's files hold bfloat16 as bytes.
        pairs = zip(arrays, model.get_weights(), strict=True)
        model.set_weights([x.view(weight.dtype) if x.dtype.kind == "V" else x for x, weight in pairs])

    def _read(self, split: str, model: keras.Model) -> Array:
        found = read_rows(model, getattr(self, split), self.columns, from_logits=self.from_logits, primary=self.primary)
        first = self.rows.setdefault(split, found)
        same = [np.array_equal(getattr(first, name), getattr(found, name)) for name in ("labels", "weights")]
        same += [
            np.array_equal(x, found.columns[name], equal_nan=x.dtype.kind == "f") for name, x in first.columns.items()
        ]
        if not all(same):
            raise ValueError(f"The {split} rows must come in the same order in each pass: do not shuffle them")
        return found.logits


def _read_by(model: keras.Model, rows: tf.data.Dataset) -> tf.data.Dataset:
    """The rows with the columns that the model reads alone: Keras would take another for one of them."""
    return rows.map(lambda x, *rest: (inputs_of_batch(x, model), *rest))


def _digest(batch: Any) -> str:
    """Of the content of a batch."""
    arrays = [np.asarray(x.values if hasattr(x, "values") else x) for x in tf.nest.flatten(batch)]
    parts = [b"\0".join(x.ravel()) if x.dtype.kind == "O" else x.tobytes() for x in arrays]
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


def _config(config_of: Callable[[], Any]) -> str:
    """A config as text, the same in each process; empty where there is none."""
    try:
        return json.dumps(config_of(), default=lambda x: getattr(x, "__qualname__", type(x).__name__), sort_keys=True)
    except (NotImplementedError, TypeError, ValueError):  # a subclass, or a loss, without one
        return ""


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


def _discovered(
    rows: Rows, trained: Sequence[_Trained], axes: Sequence[str | Axis], units: str | None, guard: Guard | None
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
