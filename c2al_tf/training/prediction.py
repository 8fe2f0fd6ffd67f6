"""A trained model on rows: its metrics, or its logits."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from ..form import outputs_by_name
from ..losses import Objective
from ..types import PRIMARY, Array, Tensor
from .batches import Weight, by_task, in_form, inputs_alone
from .compiled_metrics import build_metrics, find_metrics, read_metrics, reset_metrics, update_metrics
from .distribution import sum_over_workers
from .gradients import added_losses
from .history import add_sums, task_metrics
from .program_cache import Identity, compiled_once
from .step import task_sums

LOSS = ""
"""Stands for the objective among the sums by task, which all have names."""


def evaluate(
    model: keras.Model,
    batches: tf.data.Dataset,
    *,
    objective: Objective | None = None,
    jit_compile: bool = True,
) -> dict[str, Any]:
    """Log loss and NE, `<task>_loss` and `<task>_ne`, of every task that has labels, and the compiled metrics of these.

    With several workers each passes its share of the rows, and all of them get the metrics over all rows.

    Args:
        model: A functional or Sequential model with logits as outputs.
        batches: Batches `(x, y)` or `(x, y, weight)`, as for `train`.
        objective: Gives `loss`, if every task has labels: the mean over batches, by their rows, of the objective and of
            what layers add to it.
        jit_compile: Compile with XLA.

    Raises:
        ValueError: If the batches have no end or another form.
    """
    if batches.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise ValueError("The rows of an evaluation must end: `take` so many batches. Received: an endless dataset")
    batches = in_form(batches, model)
    build_metrics(model)
    reset_metrics(model)

    def compile_for(model: keras.Model) -> Callable[..., dict[str, Tensor]]:
        @tf.function(autograph=False, jit_compile=jit_compile)
        def score(x: Any, y: Mapping[str, Tensor], weight: Weight) -> dict[str, Tensor]:
            logits = by_task(model(x, training=False))
            update_metrics(model, y, logits, weight)
            sums = task_sums(y, logits, weight)
            if objective is None or set(logits) - set(y):
                return sums
            loss = objective(y, logits, weight)[0] + added_losses(model)
            rows = tf.cast(tf.shape(next(iter(y.values())))[0], tf.float32)
            return {LOSS: tf.stack([loss * rows, 0.0, rows]), **sums}

        return score

    # A model that is compiled anew has other metrics.
    key = ("evaluate", jit_compile, Identity(objective), find_metrics(model))
    score = _compiled(model, key, compile_for, batches.element_spec)
    sums: dict[str, list[float]] = {}
    for x, y, weight in batches:
        add_sums(sums, score(x, y, weight))
    totals = sum_over_workers(model.distribute_strategy, np.array(list(sums.values())))
    by_name = dict(zip(sums, totals.tolist(), strict=True))
    loss, _, rows = by_name.pop(LOSS, (0.0, 0.0, 0.0))
    return task_metrics(by_name) | read_metrics(model, by_name) | ({"loss": loss / rows} if rows else {})


def predict(
    model: keras.Model,
    batches: tf.data.Dataset,
    num_rows: int,
    *,
    task: str = PRIMARY,
    jit_compile: bool = True,
    description: str = "predicting",
) -> Array:
    """Logits of one task for the first `num_rows` rows of `(x, ...)` batches, float32 (num_rows,), without padding."""

    def compile_for(model: keras.Model) -> Callable[..., Tensor]:
        @tf.function(autograph=False, jit_compile=jit_compile)
        def step(x: Any) -> Tensor:
            return tf.reshape(by_task(model(x, training=False))[task], (-1,))

        return step

    tasks = list(outputs_by_name(model))
    if task not in tasks:
        raise ValueError(f"`task` must be one of the model's, {tasks}. Received: task={task!r}")
    spec, inputs = inputs_alone(batches, model)
    step = _compiled(model, ("predict", task, jit_compile), compile_for, (spec,))
    parts: list[Array] = []
    missing = num_rows  # a bar that is switched off, by TQDM_DISABLE say, counts nothing
    with tqdm(total=num_rows, desc=description, unit=" rows", unit_scale=True, leave=False, delay=1) as bar:
        for x in inputs:
            parts.append(step(x).numpy()[:missing])
            missing -= len(parts[-1])
            bar.update(len(parts[-1]))
    logits = np.concatenate(parts)
    if len(logits) < num_rows:
        raise ValueError(f"`batches` must hold `num_rows` rows. Received: {len(logits)} rows, num_rows={num_rows}")
    return logits


def _compiled(
    model: keras.Model, name: tuple[Any, ...], compile_for: Callable[[Any], Any], specs: Sequence[Any]
) -> Callable[..., Any]:
    # Traced here, as TensorFlow warns of a function that is traced again for each of many models.
    return compiled_once(model, (*name, str(specs)), lambda model: compile_for(model).get_concrete_function(*specs))
