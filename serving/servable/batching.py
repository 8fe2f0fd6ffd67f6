"""Dynamic batching, as in tensorflow_model_server: one call of the model answers the requests that wait."""

import asyncio
import functools
import math
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from c2al_tf.protocol.tensors import STRING
from c2al_tf.saved_model import SavedModel

from ..config.batching_parameters import BatchingParameters
from ..metrics import Metrics
from ..protocol.errors import FAILED_PRECONDITION, RESOURCE_EXHAUSTED, UNAVAILABLE, RequestError
from ..protocol.memory import MAX_MEMORY

Arrays: TypeAlias = Mapping[str, NDArray[Any]]

deadline: ContextVar[float] = ContextVar("deadline", default=math.inf)
"""When the current request must be answered, by `time.monotonic`."""


def seconds_left(end: float | None = None) -> float | None:
    """Seconds until a time, or until the current request's `deadline`; None: without end."""
    end = deadline.get() if end is None else end
    return None if end == math.inf else end - time.monotonic()


_SETTLED, _MAX_SETTLE = 25, 0.01
"""Turns of the event loop without a new request, or seconds, after which a batch is no longer held back."""
_QUICK_SECONDS = 0.003


class Batcher:
    """Calls a model for many requests at once. For one event loop; `close` may be called from any thread.

    Args:
        model: The model. Each output of a signature has a row for each row of its inputs, if there are `parameters`.
        parameters: How requests are merged; None: one call per request, as many at a time as there are cores.
        metrics: Counts rows, batches and waits.
    """

    def __init__(self, model: SavedModel, parameters: BatchingParameters | None, metrics: Metrics) -> None:
        self._model, self._metrics, self._is_merging = model, metrics, parameters is not None
        self._parameters = parameters = parameters or BatchingParameters()
        self._max_rows = parameters.max_execution_batch_size or parameters.max_batch_size
        self._num_threads = parameters.num_batch_threads
        self._threads = ThreadPoolExecutor(self._num_threads, thread_name_prefix="batch")
        self._waiting: deque[_Task] = deque()
        self._num_rows = self._num_running = 0
        self._quick_rows: dict[str, int] = {}  # rows of each signature that take less than `_QUICK_SECONDS`
        self._next: asyncio.Handle | None = None

    async def run(self, inputs: Arrays, signature: str, outputs: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
        """The model's outputs for one request's inputs.

        Raises:
            SavedModelError: If the model refuses the inputs, or those of another request in the batch.
            RequestError: If there are more rows than fit a batch, or the queue is full (UNAVAILABLE).
        """
        arrays, names = self._model.check(inputs, signature, outputs)
        if not self._is_merging:
            # All outputs: TensorFlow would prepare each set of outputs anew, within the first request for it.
            every = list(self._model.signatures[signature].outputs)
            call = functools.partial(self._model.call, arrays, every, signature, seconds_left())
            answer = await asyncio.get_running_loop().run_in_executor(self._threads, call)
            return {name: answer[name] for name in names}
        size, limit = _num_rows(arrays), self._parameters.max_batch_size
        if size > limit:
            raise RequestError(f"Task size {size} is larger than maximum input batch size {limit}")
        parts, largest = [arrays], self._max_rows
        if size > largest:
            parts = [_rows(arrays, slice(start, start + largest)) for start in range(0, size, largest)]
        tasks = [_Task(part, signature) for part in parts]
        self._enqueue(tasks, size)
        try:
            answers = [await tasks[0].answer] if len(tasks) == 1 else await asyncio.gather(*(t.answer for t in tasks))
        finally:
            for task in tasks:  # those that are left belong to a request that has failed, or whose client has gone
                task.answer.cancel()
                if task in self._waiting:
                    self._waiting.remove(task)
                    self._count(-task.size)
        if len(answers) == 1:
            return {name: answers[0][name] for name in names}
        return {name: np.concatenate([answer[name] for answer in answers]) for name in names}

    def close(self) -> None:
        """Waits for the requests under way."""
        self._threads.shutdown()

    def _count(self, size: int) -> None:
        self._num_rows += size
        self._metrics.queued_rows.inc(size)

    def _enqueue(self, tasks: Sequence["_Task"], size: int) -> None:
        largest, batches = self._parameters.max_batch_size, self._parameters.max_enqueued_batches
        if self._waiting and self._num_rows + size > largest * batches:
            full = "The batch scheduling queue to which this task was submitted is full"
            raise RequestError(f"{full}; max_enqueued_batches is {batches}, of {largest} rows", UNAVAILABLE)
        self._waiting.extend(tasks)
        self._count(size)
        self._prepare(asyncio.get_running_loop())

    def _prepare(self, loop: asyncio.AbstractEventLoop) -> None:
        """Gives the next batch to a free thread, now or once its first request has waited long enough."""
        if not self._waiting or self._num_running == self._num_threads:
            return
        if self._num_rows >= self._max_rows:
            self._dispatch(loop)
        elif self._next is None:
            if self._parameters.batch_timeout_micros:
                due = self._waiting[0].asked + self._parameters.batch_timeout_micros / 1e6
                self._next = loop.call_later(due - time.monotonic(), self._dispatch, loop)
            else:
                self._settle(loop, 0, 0)

    def _settle(self, loop: asyncio.AbstractEventLoop, num_waiting: int, num_turns: int) -> None:
        """Waits for requests that the loop is still reading, until `_SETTLED` turns have brought none."""
        num_turns = num_turns + 1 if len(self._waiting) == num_waiting else 0
        late = self._waiting and time.monotonic() >= self._waiting[0].asked + _MAX_SETTLE
        if late or not self._waiting or num_turns == _SETTLED:
            self._dispatch(loop)
        else:
            self._next = loop.call_soon(self._settle, loop, len(self._waiting), num_turns)

    def _dispatch(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._next is not None:
            self._next.cancel()
            self._next = None
        if self._waiting and self._num_running < self._num_threads:
            batch = self._take()
            # The loop answers by itself what takes little: to give it to a thread would take longer.
            if sum(task.size for task in batch) <= 2 * self._quick_rows.get(batch[0].signature, 0):
                running: asyncio.Future[list[Arrays]] = loop.create_future()
                try:
                    running.set_result(self._answers(batch))
                except Exception as error:  # as of a thread: whoever waits must hear of it
                    running.set_exception(error)
            else:
                running = loop.run_in_executor(self._threads, self._answers, batch)
            self._num_running += 1
            running.add_done_callback(functools.partial(self._finish, batch))
            self._prepare(loop)

    def _take(self) -> list["_Task"]:
        """Takes the first request, and those for the same signature that fit into its batch."""
        batch, others = [self._waiting.popleft()], deque[_Task]()
        rows = batch[0].size
        for task in self._waiting:
            if task.signature == batch[0].signature and rows + task.size <= self._max_rows:
                batch.append(task)
                rows += task.size
            else:
                others.append(task)
        self._waiting = others
        self._count(-rows)
        return batch

    def _finish(self, batch: Sequence["_Task"], running: "asyncio.Future[list[Arrays]]") -> None:
        self._num_running -= 1
        error = running.exception()
        for number, task in enumerate(batch):
            if task.answer.done():  # cancelled
                continue
            if error is not None:
                task.answer.set_exception(error)
            else:
                task.answer.set_result(running.result()[number])
        self._prepare(running.get_loop())

    def _answers(self, batch: Sequence["_Task"]) -> list[Arrays]:
        """The answer to each request of a batch; all fail together, as in the real server."""
        seconds = seconds_left(max(task.deadline for task in batch))
        if seconds is not None and seconds <= 0:
            raise RequestError("Run() timeout exceeded while waiting in batching queue", RESOURCE_EXHAUSTED)
        num_rows = sum(task.size for task in batch)
        allowed = self._parameters.allowed_batch_sizes if num_rows else ()
        size = next((size for size in allowed if size >= num_rows), num_rows)
        self._metrics.batch(size, [time.monotonic() - task.asked for task in batch])
        inputs = _merge([task.inputs for task in batch], size - num_rows, self._parameters.pad_variable_length_inputs)
        signature = batch[0].signature
        start = time.thread_time()
        outputs = self._model.call(inputs, list(self._model.signatures[signature].outputs), signature, seconds)
        known, is_quick = self._quick_rows.get(signature, 0), time.thread_time() - start <= _QUICK_SECONDS
        self._quick_rows[signature] = max(known, num_rows) if is_quick else min(known, num_rows) // 2
        if any(values.shape[:1] != (size,) for values in outputs.values()):
            rule = "does not equal the sum of the 0th dimension sizes of the input tensors"
            raise RequestError(f"Batched output tensor's 0th dimension {rule}", FAILED_PRECONDITION)
        stops = np.cumsum([task.size for task in batch]).tolist()
        return [_rows(outputs, slice(stop - task.size, stop)) for task, stop in zip(batch, stops, strict=True)]


class _Task:
    """Rows of a request that wait for their answer."""

    def __init__(self, inputs: Arrays, signature: str) -> None:
        self.inputs, self.signature = inputs, signature
        self.size = len(next(iter(inputs.values())))
        self.asked, self.deadline = time.monotonic(), deadline.get()
        self.answer: asyncio.Future[Arrays] = asyncio.get_running_loop().create_future()


def _rows(arrays: Arrays, rows: slice) -> dict[str, NDArray[Any]]:
    return {name: values[rows] for name, values in arrays.items()}


def _num_rows(arrays: Arrays) -> int:
    try:
        sizes = set(map(len, arrays.values()))
    except TypeError:
        raise RequestError("Batching Run() input tensors must have at least one dimension") from None
    if len(sizes) == 1:
        return sizes.pop()
    what = "input tensors must have equal 0th-dimension size" if sizes else "must have at least one input tensor"
    raise RequestError(f"Batching Run() {what}")


def _merge(batch: Sequence[Arrays], num_padding: int, pad: bool) -> Arrays:
    """The rows of some requests, and so many copies of the first row of the last request."""
    if len(batch) == 1 and not num_padding:
        return batch[0]
    merged = {}
    for name in batch[0]:
        parts = [inputs[name] for inputs in batch]
        if parts[0].ndim > 1 and len({part.shape[1:] for part in parts}) > 1:
            if not pad or len({part.ndim for part in parts}) > 1:
                raise RequestError(
                    f"Tensors with name '{name}' from different tasks have different shapes and padding is turned off. "
                    "Set pad_variable_length_inputs to true, or ensure that all tensors with the same name have equal "
                    "dimensions starting with the first dim.",
                    FAILED_PRECONDITION,
                )
            largest = np.max([part.shape[1:] for part in parts], axis=0).tolist()
            _check_memory(name, sum(map(len, parts)) * math.prod(largest) * parts[0].itemsize)
            parts = [_padded(part, largest) for part in parts]
        if num_padding:
            row = next(part for part in reversed(parts) if len(part))[:1]
            strings = sum(map(len, row.flat)) if row.dtype == STRING else 0
            _check_memory(name, num_padding * (row.nbytes + strings))
            parts.append(np.repeat(row, num_padding, axis=0))
        merged[name] = np.concatenate(parts)
    return merged


def _padded(array: NDArray[Any], sizes: Sequence[int]) -> NDArray[Any]:
    """An array whose rows have these sizes: its own first element fills them up."""
    if not array.size:
        raise RequestError("Got empty tensor in batch of non-empty tensors.")
    padded = np.full((len(array), *sizes), array.flat[0], array.dtype)
    padded[tuple(map(slice, array.shape))] = array
    return padded


def _check_memory(name: str, need: int) -> None:
    """Refuses padding that takes much memory: numbers and places of strings are copied three times."""
    if 4 * need > MAX_MEMORY:
        raise RequestError(f"Padding of input {name!r} may take {MAX_MEMORY // 4} bytes in a batch. Received: {need}")
