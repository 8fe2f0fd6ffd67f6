"""The trainings of a trial: each arm and seed's model is made, trained or read from its file, and asked of the rows."""

import copy
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import keras
import numpy as np
import tensorflow as tf
from keras.src.utils.naming import reset_uids

from .cohort_model import with_cohort_heads
from .cohorts import Cohort
from .cohorts.table import find_column
from .data.inputs.labelled_dataset import add_cohort_labels
from .files import read_json, replace_file, write_json
from .layer_calls import layer_of
from .predictions import ColumnsOf, Rows, columns_function, gives_logits, read_rows
from .training.batches import inputs_of_batch
from .types import Array

BASELINE, C2AL = "baseline", "c2al"

# Without AutoGraph: it would parse this whole file for each lambda, and finds nothing to convert.
_as_it_is = tf.autograph.experimental.do_not_convert

Dataset: TypeAlias = tf.data.Dataset | Callable[[int], tf.data.Dataset]
"""Batches of (features, label[, weight]), or a function from a seed to them."""


class Trained(NamedTuple):
    """Logits (rows,) of a trained model without heads, and of the first seed the model."""

    model: keras.Model | None
    validation: Array | None
    test: Array


@dataclass(frozen=True)
class Runs:
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
            names = dataset.map(_as_it_is(lambda x, *_, found=found: found(x))).element_spec
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
    ) -> Trained:
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
        return Trained(model if seed == 0 else None, validation, self._read("test", model))

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
    return rows.map(_as_it_is(lambda x, *rest: (inputs_of_batch(x, model), *rest)))


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


def trial_folder(folder: Path, recipe: Mapping[str, Any]) -> Path:
    """The folder of a trial, made or of the same recipe."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "trial.json"
    if file.exists() and (before := read_json(file)) != recipe:
        other = {name: (before.get(name), value) for name, value in recipe.items() if before.get(name) != value}
        raise ValueError(f"{folder}: it holds a trial of other arguments; give another folder. Received: {other}")
    write_json(file, recipe)
    return folder
