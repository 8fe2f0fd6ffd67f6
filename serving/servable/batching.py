"""Dynamic batching: one call of the model answers the requests that wait."""

import asyncio
import functools
import math
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from c2al_tf.saved_model import RawTensor, SavedModel

from ..config.batching_parameters import BatchingParameters
from ..protocol.errors import RESOURCE_EXHAUSTED, UNAVAILABLE, RequestError
from ..protocol.memory import MAX_MEMORY
from ..protocol.tensors import Content, join
from .decoding import Form, Inputs

deadline: ContextVar[float | None] = ContextVar("deadline", default=None)
"""Deadline of the current request, by the clock of the event loop."""


class Batcher:
    """Calls a model for many requests at once. For one event loop; `close` may be called from any thread.

    Args:
        model: The model. Each output of a signature has a row for each row of its inputs.
        parameters: How requests are merged; None: one call per request, as many at a time as there are cores.
    """

    def __init__(self, model: SavedModel, parameters: BatchingParameters | None) -> None:
        self._model = model
        self._parameters = parameters or _UNBATCHED
        self._layouts: dict[tuple[str, tuple[Form, ...]], _Layout] = {}
        self._waiting: deque[_Task] = deque()
        self._num_rows = self._num_running = 0
        self._seconds_per_row = 0.0
        self._quick_rows: dict[_Kind, int] = {}  # rows that are known to take less than `_QUICK_SECONDS`
        self._next: asyncio.Handle | None = None
        self._threads = ThreadPoolExecutor(self._parameters.num_batch_threads, thread_name_prefix="batch")

    async def run(
        self, inputs: Inputs, signature: str, outputs: Sequence[str] | None = None
    ) -> dict[str, NDArray[Any]]:
        """The model's outputs for one request's inputs.

        Raises:
            SavedModelError: If the model refuses the inputs.
            RequestError: If the queue is full (UNAVAILABLE), or so long that the request would miss its `deadline`
                (RESOURCE_EXHAUSTED); requests that can be answered in time are.
        """
        layout = self._layout(inputs.forms, signature)
        names = self._model.check_outputs(outputs, signature)
        loop = asyncio.get_running_loop()
        limit = self._parameters.max_batch_size
        task = _Task(signature, layout, [inputs.contents[place] for place in layout.places], limit, loop)
        limit *= self._parameters.max_enqueued_batches
        if self._waiting and self._num_rows + task.size > limit:
            raise RequestError("The batch scheduling queue to which this task was submitted is full", UNAVAILABLE)
        wait = self._num_rows * self._seconds_per_row / self._parameters.num_batch_threads
        if len(self._waiting) > _FEW and loop.time() + wait > (deadline.get() or math.inf):
            raise RequestError(
                f"The requests that wait take about {wait:.3g} s, which is beyond the deadline.", RESOURCE_EXHAUSTED
            )
        self._waiting.append(task)
        self._num_rows += task.size
        self._prepare(loop)
        try:
            answer = await task.answer
        except asyncio.CancelledError:  # its deadline has passed, or its client has gone
            if task in self._waiting:
                self._waiting.remove(task)
                self._num_rows -= task.size
            raise
        return {name: answer[name] for name in names}

    def close(self) -> None:
        """Waits for the requests under way."""
        self._threads.shutdown()

    def _layout(self, forms: tuple[Form, ...], signature: str) -> "_Layout":
        """Checks the inputs, once for all requests of the same forms."""
        layout = self._layouts.get((signature, forms))
        if layout is None:
            places = {form.name: place for place, form in enumerate(forms)}
            self._model.check_forms({form.name: (form.dtype, form.shape) for form in forms}, signature)
            ordered = {name: places[name] for name in self._model.signatures[signature].inputs}
            layout = _Layout(tuple(forms[place] for place in ordered.values()), tuple(ordered.values()))
            if any(
                spec.shape and spec.shape[0] is not None for spec in self._model.signatures[signature].inputs.values()
            ):
                layout.num_rows = None  # the signature fixes the number of rows, so requests cannot be merged
            if len(self._layouts) >= _MAX_LAYOUTS:
                self._layouts.clear()
            self._layouts[signature, forms] = layout
        return layout

    def _prepare(self, loop: asyncio.AbstractEventLoop) -> None:
        """Gives the next batch to a free thread, now or once its first request has waited long enough."""
        if not self._waiting or self._num_running == self._parameters.num_batch_threads:
            return
        if self._num_rows >= self._parameters.max_batch_size:
            self._dispatch(loop)
        elif self._next is None:
            if self._parameters.batch_timeout_micros:
                due = self._waiting[0].asked + self._parameters.batch_timeout_micros / 1e6
                self._next = loop.call_at(due, self._dispatch, loop)
            else:
                self._settle(loop, 0, 0)

    def _settle(self, loop: asyncio.AbstractEventLoop, num_waiting: int, num_turns: int) -> None:
        """Waits for requests that the loop is still reading, until `_SETTLED` turns have brought none."""
        num_turns = num_turns + 1 if len(self._waiting) == num_waiting else 0
        if not self._waiting or num_turns == _SETTLED or loop.time() >= self._waiting[0].asked + _MAX_SETTLE:
            self._dispatch(loop)
        else:
            self._next = loop.call_soon(self._settle, loop, len(self._waiting), num_turns)

    def _dispatch(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._next is not None:
            self._next.cancel()
            self._next = None
        if self._waiting and self._num_running < self._parameters.num_batch_threads:
            batch = self._take()
            if self._is_quick(batch):
                self._finish(batch, self._answers(batch))
                if self._waiting:  # in a later turn, so that other callbacks run in between
                    self._next = loop.call_soon(self._dispatch, loop)
            else:
                self._num_running += 1
                running = loop.run_in_executor(self._threads, self._answers, batch)
                running.add_done_callback(functools.partial(self._finish_running, batch))
                self._prepare(loop)

    def _is_quick(self, batch: Sequence["_Task"]) -> bool:
        """Whether the loop itself should answer, as giving a short call to a thread takes longer than the call."""
        return sum(task.size for task in batch) <= 2 * self._quick_rows.get(batch[0].kind, 0)

    def _note_time(self, batch: Sequence["_Task"], num_rows: int, seconds: float, own_seconds: float) -> None:
        self._seconds_per_row += _SMOOTHING * (seconds / num_rows - self._seconds_per_row)
        kind = batch[0].kind
        if kind is None:
            return
        if len(self._quick_rows) >= _MAX_LAYOUTS:
            self._quick_rows.clear()
        known = self._quick_rows.get(kind, 0)
        if own_seconds <= _QUICK_SECONDS:
            self._quick_rows[kind] = max(known, num_rows)
        elif num_rows <= 2 * known:
            self._quick_rows[kind] = min(known, num_rows) * 3 // 4

    def _take(self) -> list["_Task"]:
        """Takes the first request, and those of the others that can be merged with it."""
        batch, others = [self._waiting.popleft()], deque[_Task]()
        limit = self._parameters.max_batch_size
        kind, rows = batch[0].kind, batch[0].size
        for task in self._waiting if kind is not None and rows < limit and batch[0].layout.can_merge else ():
            if task.kind == kind and task.layout.can_merge and rows + task.size <= limit:
                batch.append(task)
                rows += task.size
            else:
                others.append(task)
        if len(batch) > 1:
            self._waiting = others
        self._num_rows -= rows
        return batch

    def _finish_running(self, batch: Sequence["_Task"], running: "asyncio.Future[list[_Answer]]") -> None:
        self._num_running -= 1
        self._finish(batch, running.result())
        self._prepare(running.get_loop())

    def _finish(self, batch: Sequence["_Task"], answers: Sequence["_Answer"]) -> None:
        for task, answer in zip(batch, answers, strict=True):
            if task.answer.done():  # cancelled
                continue
            if isinstance(answer, Exception):
                task.answer.set_exception(answer)
            else:
                task.answer.set_result(answer)

    def _answers(self, batch: Sequence["_Task"]) -> list["_Answer"]:
        """The answer to each request of a batch."""
        start, own_start, num_rows = time.perf_counter(), time.thread_time(), sum(task.size for task in batch)
        try:
            outputs = self._call(batch)
        except Exception as error:
            if len(batch) == 1:
                return [error]
            middle = len(batch) // 2  # a bad request must not fail the others
            return [*self._answers(batch[:middle]), *self._answers(batch[middle:])]
        # The thread's own seconds decide what is quick: other threads may have used the cores meanwhile.
        self._note_time(batch, num_rows, time.perf_counter() - start, time.thread_time() - own_start)
        if len(batch) == 1:
            return [outputs]
        ends = np.cumsum([task.size for task in batch]).tolist()
        return [
            {name: values[end - task.size : end] for name, values in outputs.items()}
            for task, end in zip(batch, ends, strict=True)
        ]

    def _call(self, batch: Sequence["_Task"]) -> dict[str, NDArray[Any]]:
        first, num_rows = batch[0], sum(task.size for task in batch)
        names = list(self._model.signatures[first.signature].outputs)
        size = next((size for size in self._parameters.allowed_batch_sizes if size >= num_rows), num_rows)
        if len(batch) == 1 and (first.kind is None or size == num_rows):
            tensors = {
                form.name: RawTensor(form.dtype, form.shape, content)
                for form, content in zip(first.layout.forms, first.contents, strict=True)
            }
            return self._model.call(tensors, names, first.signature)
        padding = _padding(batch[-1], size - num_rows) if size > num_rows else [[]] * len(first.contents)
        merged = {}
        for place, form in enumerate(first.layout.forms):
            content = join([*(task.contents[place] for task in batch), *padding[place]])
            merged[form.name] = RawTensor(form.dtype, (size, *form.shape[1:]), content)
        outputs = self._model.call(merged, names, first.signature)
        wrong = [name for name, values in outputs.items() if values.shape[:1] != (size,)]
        if wrong:
            raise RequestError(f"Outputs {wrong} must have a row for each of the batch's {size} rows")
        return {name: values[:num_rows] for name, values in outputs.items()}


def _padding(task: "_Task", count: int) -> list[list[Content]]:
    """For each input of a request its last row, `count` times.

    Raises:
        RequestError: If these rows, and the copy of the request that they make necessary, take too much memory.
    """
    rows = [content[len(content) - len(content) // task.size :] for content in task.contents]
    # Numbers are copied twice; a place of a string takes what it takes in TensorFlow.
    each = sum(2 * len(row) if isinstance(row, bytes) else sum(64 + len(v) for v in row) for row in rows)
    need = count * each + sum(len(content) for content in task.contents)
    if need > MAX_MEMORY // 2:
        raise RequestError(
            f"Rows that fill a batch up to one of `allowed_batch_sizes` may take {MAX_MEMORY // 2} bytes. "
            f"Received: a row of which {count} copies take {need}"
        )
    return [[row] * count for row in rows]


_Kind: TypeAlias = tuple[str, tuple[tuple[int, ...], ...]] | None
_Answer: TypeAlias = dict[str, NDArray[Any]] | Exception
_MAX_LAYOUTS = 1000
_MAX_MERGED = 2**20
_QUICK_SECONDS = 0.003
_FEW, _SMOOTHING = 32, 0.05
_SETTLED, _MAX_SETTLE = 25, 0.005
"""Turns of the loop without a new request, or seconds, after which a batch is no longer held back."""

_UNBATCHED = BatchingParameters(max_batch_size=1, max_enqueued_batches=2**31)


class _Layout:
    """The inputs of a signature in a request.

    Attributes:
        forms: The inputs in the signature's order.
        places: The place of each among the inputs of the request.
        num_rows: Their common number of rows; None if they differ, or an input is a scalar.
        kind: Requests of the same kind can be merged.
        can_merge: Whether it has so few bytes that one more copy of them matters little.
    """

    def __init__(self, forms: tuple[Form, ...], places: tuple[int, ...]) -> None:
        self.forms, self.places = forms, places
        sizes = {form.shape[:1] for form in forms}
        self.num_rows = next(iter(sizes))[0] if len(sizes) == 1 and () not in sizes else None
        self.kind = tuple(form.shape[1:] for form in forms)
        num_bytes = sum(math.prod(form.shape) * form.dtype.itemsize for form in forms)
        self.can_merge = num_bytes <= _MAX_MERGED


class _Task:
    """A request that waits for its answer."""

    def __init__(
        self,
        signature: str,
        layout: _Layout,
        contents: list[Content],
        limit: int,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.signature, self.layout, self.contents = signature, layout, contents
        self.size = min(layout.num_rows or 1, limit)
        self.kind: _Kind = (signature, layout.kind) if layout.num_rows and layout.num_rows < limit else None
        self.asked = loop.time()
        self.answer: asyncio.Future[dict[str, NDArray[Any]]] = loop.create_future()
