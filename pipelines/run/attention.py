"""What is measured of the attention while a model trains: which rows, and how often."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from c2al_tf.diagnostics import AttentionDiagnostics
from c2al_tf.losses import Objective
from c2al_tf.types import Array

FILE = "diagnostics.jsonl"

ROWS = 512
"""Rows that are measured on."""

SCANNED = 65_536
"""Validation rows that they are drawn from: so many have a positive of a cohort of 5 % at a click rate of 0.2 %."""

_MEASUREMENTS = 10
"""Measurements in a training: enough for a course, and for a share in conflict."""

_FEWEST = 4
"""Measurements in a training of few steps: fewer show no course."""

_LEAST_STEPS = 200
"""Fewest steps between two measurements of a training of 800 steps and more, for their cost: one takes 0.4 to 1.1 % of
the time of 200 steps (`benchmarks --only diagnostics_cost`), so 2 to 4 % of a training of 200 steps; a shorter one pays
more. Beside it, once for all seeds of an arm, tracing takes the time of 50 steps and drawing the rows that of 15."""


def watch_attention(
    batch: tuple[Any, Any, Any], objective: Objective, steps: int, file: Path
) -> keras.callbacks.Callback:
    """The callback that measures the attention of a model that has an `FMAttention`.

    Args:
        batch: `(x, y, weight)` as `draw_rows` gives it.
        objective: The model's loss.
        steps: Steps of the whole training.
        file: Where the measurements are written.
    """
    return AttentionDiagnostics(batch, interval(steps), getattr(objective, "terms", None), file)


def interval(steps: int) -> int:
    """Steps between two measurements in a training of `steps`.

    >>> [interval(steps) for steps in (3, 60, 208, 500, 1_953, 20_000)]
    [1, 15, 52, 125, 200, 2000]
    """
    return min(max(steps // _MEASUREMENTS, _LEAST_STEPS), max(steps // _FEWEST, 1))


def draw_rows(batch: tuple[Any, Any, Any], size: int) -> tuple[Any, Any, Any]:
    """At most `size` rows of a batch, up to half of them positives of the first task, always the same ones.

    Positives are rare, and the auxiliary gradient is mostly theirs: a uniform draw has none of a cohort. Each kept row
    weighs as many as it stands for, so that weighted means stay those of the batch in expectation.
    """
    x, y, weight = batch
    labels = np.ravel(next(iter(y.values()))) > 0.5
    rng = np.random.default_rng(0)
    positives = _drawn(rng, np.flatnonzero(labels), size // 2)
    negatives = _drawn(rng, np.flatnonzero(~labels), size - len(positives))
    rows = np.concatenate([positives, negatives])
    stands_for = np.where(labels[rows], labels.sum() / max(len(positives), 1), (~labels).sum() / max(len(negatives), 1))
    factors = stands_for.astype(np.float32)
    x, y, weight = tf.nest.map_structure(lambda values: tf.gather(values, rows), (x, y, weight))
    return x, y, tf.nest.map_structure(lambda values: values * factors, weight)


def _drawn(rng: np.random.Generator, rows: Array, most: int) -> Array:
    return rows if len(rows) <= most else np.sort(rng.choice(rows, most, replace=False))
