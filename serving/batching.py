"""Dynamic batching: requests that wait are answered by one call of the model."""

import os
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import text_format
from numpy.typing import NDArray

from c2al_tf.saved_model import SavedModel

from . import messages
from .errors import UNAVAILABLE, RequestError


@dataclass(frozen=True)
class BatchingParameters:
    """How requests are merged; the names are those of tensorflow_model_server's `BatchingParameters`.

    Args:
        max_batch_size: Rows that are merged at most. A request of as many or more is answered by itself.
        batch_timeout_micros: Microseconds that a request waits for others. 0: none; what has come meanwhile is merged.
        max_enqueued_batches: Batches of the largest size that may wait; beyond them requests are refused (UNAVAILABLE).
        num_batch_threads: Batches that are answered at a time.
        allowed_batch_sizes: Sizes that batches are filled up to, with repetitions of their last row. Empty: any size.
    """

    max_batch_size: int = 1000
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    num_batch_threads: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    allowed_batch_sizes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("max_batch_size", "max_enqueued_batches", "num_batch_threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1. Received: {name}={getattr(self, name)}")
        if self.batch_timeout_micros < 0:
            raise ValueError(
                f"`batch_timeout_micros` must be at least 0. Received: batch_timeout_micros={self.batch_timeout_micros}"
            )
        sizes = self.allowed_batch_sizes
        if sizes and (list(sizes) != sorted(set(sizes)) or sizes[-1] != self.max_batch_size):
            raise ValueError(
                "`allowed_batch_sizes` must increase, and end in `max_batch_size`. "
                f"Received: {list(sizes)}, max_batch_size={self.max_batch_size}"
            )


_WRAPPED = ("max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads")


def read_batching_parameters(path: Path) -> BatchingParameters:
    """Reads a file of tensorflow_model_server's `--batching_parameters_file`: `max_batch_size { value: 128 }`, ...

    Where it has large batches split, `max_execution_batch_size` is the size of a batch. No input is padded, whatever
    `pad_variable_length_inputs` says: requests are merged where their inputs have one shape.

    Raises:
        ValueError: If it is none; the message names file, line and field.
    """
    try:
        read = text_format.Parse(path.read_text(), messages.BatchingParameters(), descriptor_pool=messages.POOL)
        given: dict[str, Any] = {
            field.name: getattr(read, field.name).value for field, _ in read.ListFields() if field.name in _WRAPPED
        }
        if read.enable_large_batch_splitting.value and read.HasField("max_execution_batch_size"):
            given["max_batch_size"] = read.max_execution_batch_size.value
        return BatchingParameters(**given, allowed_batch_sizes=tuple(read.allowed_batch_sizes))
    except (OSError, UnicodeDecodeError, ValueError, text_format.ParseError) as error:
        raise ValueError(f"{path}: {error}") from error


class Batcher:
    """Calls a model for many requests at once.

    Args:
        model: The model. Each output of a signature has a row for each row of its inputs.
        parameters: How requests are merged.
    """

    def __init__(self, model: SavedModel, parameters: BatchingParameters) -> None:
        self._model = model
        self._parameters = parameters
        self._waiting: deque[_Task] = deque()
        self._num_rows = 0
        self._closed = False
        self._changed = threading.Condition()
        self._threads = [
            threading.Thread(target=self._work, name=f"batch-{number}", daemon=True)
            for number in range(parameters.num_batch_threads)
        ]
        for thread in self._threads:
            thread.start()

    def run(
        self, inputs: Mapping[str, Any], signature: str, outputs: Sequence[str] | None = None
    ) -> dict[str, NDArray[Any]]:
        """What `SavedModel.run` gives for one request's inputs.

        Raises:
            SavedModelError: What the model says of these inputs.
            RequestError: If too many rows wait (UNAVAILABLE).
        """
        arrays, names = self._model.check(inputs, signature, outputs)
        num_rows = _num_rows(arrays)
        if num_rows is None or not 0 < num_rows < self._parameters.max_batch_size:
            return self._model.call(arrays, names, signature)
        task = _Task(signature, arrays, num_rows)
        with self._changed:
            if self._num_rows + num_rows > self._parameters.max_batch_size * self._parameters.max_enqueued_batches:
                raise RequestError("The batch scheduling queue to which this task was submitted is full", UNAVAILABLE)
            self._waiting.append(task)
            self._num_rows += num_rows
            self._changed.notify()
        task.done.wait()
        if task.error is not None:
            raise task.error
        return {name: task.outputs[name] for name in names}

    def close(self) -> None:
        """Answers what waits, and ends."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while batch := self._next_batch():
            self._answer(batch)

    def _next_batch(self) -> list["_Task"]:
        """Waits for requests; none: it is closed."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if not self._waiting:
                    return []
                wait = self._waiting[0].asked + self._parameters.batch_timeout_micros / 1e6 - time.monotonic()
                if wait <= 0 or self._num_rows >= self._parameters.max_batch_size or self._closed:
                    return self._take()
                self._changed.wait(wait)

    def _take(self) -> list["_Task"]:
        """The first request, and of the others those that can be merged with it."""
        batch, others = [self._waiting.popleft()], deque[_Task]()
        rows = batch[0].num_rows
        for task in self._waiting:
            if task.kind == batch[0].kind and rows + task.num_rows <= self._parameters.max_batch_size:
                batch.append(task)
                rows += task.num_rows
            else:
                others.append(task)
        self._waiting = others
        self._num_rows -= rows
        if others:
            self._changed.notify()
        return batch

    def _answer(self, batch: list["_Task"]) -> None:
        try:
            outputs = self._call(batch)
        except Exception as error:
            if len(batch) == 1:
                batch[0].fail(error)
                return
            # One request must not spoil the others.
            for task in batch:
                self._answer([task])
            return
        start = 0
        for task in batch:
            task.finish({name: values[start : start + task.num_rows] for name, values in outputs.items()})
            start += task.num_rows

    def _call(self, batch: list["_Task"]) -> dict[str, NDArray[Any]]:
        signature, num_rows = batch[0].signature, sum(task.num_rows for task in batch)
        size = next((size for size in self._parameters.allowed_batch_sizes if size >= num_rows), num_rows)
        merged = {}
        for name in batch[0].inputs:
            parts = [task.inputs[name] for task in batch]
            merged[name] = np.concatenate([*parts, np.repeat(parts[-1][-1:], size - num_rows, axis=0)])
        outputs = self._model.call(merged, list(self._model.signatures[signature].outputs), signature)
        wrong = [name for name, values in outputs.items() if values.shape[:1] != (size,)]
        if wrong:
            raise RequestError(f"Outputs {wrong} must have a row for each of the batch's {size} rows")
        return outputs


class _Task:
    """A request that waits for its outputs."""

    def __init__(self, signature: str, inputs: dict[str, NDArray[Any]], num_rows: int) -> None:
        self.signature, self.inputs, self.num_rows = signature, inputs, num_rows
        self.kind = (signature, tuple(values.shape[1:] for values in inputs.values()))
        self.asked = time.monotonic()
        self.outputs: dict[str, NDArray[Any]] = {}
        self.error: Exception | None = None
        self.done = threading.Event()

    def finish(self, outputs: dict[str, NDArray[Any]]) -> None:
        self.outputs = outputs
        self.done.set()

    def fail(self, error: Exception) -> None:
        self.error = error
        self.done.set()


def _num_rows(arrays: Mapping[str, NDArray[Any]]) -> int | None:
    """The rows of all inputs; None where they differ, or an input has none."""
    sizes = {values.shape[:1] for values in arrays.values()}
    return next(iter(sizes))[0] if len(sizes) == 1 and () not in sizes else None
