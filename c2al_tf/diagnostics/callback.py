"""Diagnostics of the attention in the course of training, as a Keras callback."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ..data.inputs.dataset import without_tuning
from ..files import replace_file
from ..storage import opened, put
from ..training.batches import in_form
from .attention import measure_attention
from .gradients import Terms, attention_gradients


class AttentionDiagnostics(keras.callbacks.Callback):
    """Measures the attention and the gradients that reach it at an interval, for `train` and for `fit`.

    The measures are added to the logs of the batch, as `<layer>/<task>/cosine` and `<layer>/entropy`, and their means
    over the epoch to the epoch's logs, with `<layer>/<task>/conflict`, the share of cosines below 0. Callbacks that
    follow in the list see them there: put `keras.callbacks.TensorBoard` after this one.

    Args:
        batches: The rows that are measured on: a batch `(x, y)` or `(x, y, weight)`, or a dataset of batches, one at a
            time in turn. Its labels are of all tasks.
        every: Steps between two measurements, counted over all epochs.
        terms: Each task's term of the loss, which the norms of gradients depend on: `objective.terms`. None: the mean
            binary cross entropy.
        file: Where the rows are written as they come, one JSON object a line; see `read_diagnostics`. A training begins
            with those up to the step that it resumes from: what a killed one measured later is dropped.

    Attributes:
        gradients: What `attention_gradients` returned, each row with its `step`.
        attention: What `measure_attention` returned, each row with its `step`.
    """

    def __init__(
        self,
        batches: tf.data.Dataset | tuple[Any, ...],
        every: int = 100,
        terms: Terms | None = None,
        file: str | Path | None = None,
    ) -> None:
        super().__init__()
        if every < 1:
            raise ValueError(f"`every` must be at least 1. Received: every={every}")
        self.every = every
        self.terms = terms
        self.file = None if file is None else opened(file)
        self.gradients: list[dict[str, Any]] = []
        self.attention: list[dict[str, Any]] = []
        rows = batches if isinstance(batches, tf.data.Dataset) else tf.data.Dataset.from_tensors(batches)
        self._rows = without_tuning(rows)
        self._following: Iterator[Any] | None = None
        self._step = self._first = 0
        self._epoch: list[Mapping[str, float]] = []

    def conflicts(self) -> dict[str, float]:
        """By `<layer>/<task>` the share of measurements with a cosine below 0."""
        signs: dict[str, list[bool]] = {}
        for row in self.gradients:
            signs.setdefault(f"{row['layer']}/{row['task']}", []).append(row["cosine"] < 0)
        return {name: float(np.mean(values)) for name, values in signs.items()}

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Goes on from the step of a resumed run."""
        self._step = int(self.model.optimizer.iterations)
        if self.file is not None:
            rows = read_diagnostics(self.file, self._step)
            self.gradients = [row for row in rows if "task" in row]
            self.attention = [row for row in rows if "task" not in row]
            with replace_file(self.file) as temporary:
                temporary.write_text(_lines(rows), encoding="utf-8")
        if self._following is None:
            self._following = iter(in_form(self._rows, self.model).repeat())

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Begins the epoch's means."""
        self._epoch = []

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Remembers where a call of several steps begins."""
        self._first = batch

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Measures if a multiple of `every` was reached since the last call."""
        before = self._step
        self._step += batch + 1 - self._first
        if self._step // self.every == before // self.every or self._following is None:
            return
        batch_of_rows = next(self._following)
        gradients = attention_gradients(self.model, batch_of_rows, self.terms)
        attention = measure_attention(self.model, batch_of_rows[0])
        self._keep(gradients, attention)
        measured = _named(gradients) | _named(attention)
        self._epoch.append(
            measured | {n[:-6] + "conflict": v < 0 for n, v in measured.items() if n.endswith("/cosine")}
        )
        if logs is not None:
            logs.update(measured)

    def _keep(self, gradients: Sequence[Mapping[str, Any]], attention: Sequence[Mapping[str, Any]]) -> None:
        of_tasks, of_layers = ([{"step": self._step, **row} for row in rows] for rows in (gradients, attention))
        self.gradients += of_tasks
        self.attention += of_layers
        if self.file is not None:
            with self.file.open("a", encoding="utf-8") as lines:
                lines.write(_lines([*of_tasks, *of_layers]))
            put(self.file)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds the means to the logs."""
        if self._epoch and logs is not None:
            logs.update({name: float(np.mean([row[name] for row in self._epoch])) for name in self._epoch[0]})


def read_diagnostics(file: str | Path, last_step: int | None = None) -> list[dict[str, Any]]:
    """The rows that `AttentionDiagnostics` wrote: of gradients those with a `task`, of attention those without.

    Args:
        file: The file. Without one there are no rows.
        last_step: Rows of later steps are left out. None: none is.

    Returns:
        The rows, without a last line that a killed process wrote half of.
    """
    rows: list[dict[str, Any]] = []
    file = opened(file)
    if not file.exists():
        return rows
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            break
        if last_step is None or row["step"] <= last_step:
            rows.append({name: math.nan if value is None else value for name, value in row.items()})
    return rows


def _lines(rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows as JSON, one a line, with null for what is not finite."""
    return "".join(
        json.dumps({n: None if isinstance(v, float) and not math.isfinite(v) else v for n, v in row.items()}) + "\n"
        for row in rows
    )


def _named(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The numbers of rows, by `<layer>/<task>/<measure>` or `<layer>/<measure>`."""
    return {
        "/".join([*(row[key] for key in ("layer", "task") if key in row), name]): value
        for row in rows
        for name, value in row.items()
        if name not in ("layer", "task")
    }
