"""Requests to a server in a closed loop, a number at a time, or in an open loop, a number per second."""

import contextlib
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np

from c2al_tf.protocol import messages

from .questions import Marker, Question

PREDICT = f"/{messages.PREDICTION_SERVICE}/Predict"
REFUSALS = {"UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"}
"""Status codes with which a server that has too much to do refuses a request."""

# A connection of its own for each loop, and no request is sent twice.
_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)]


@dataclass
class Tally:
    """The answers to requests, counted.

    Attributes:
        sent: Requests.
        times: When each right answer came, by `time.monotonic`.
        latencies: Seconds that each right answer took.
        refused: Number of refusals by status code.
        wrong: What was wrong with other answers, and errors that are not refusals.
    """

    sent: int = 0
    times: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    @property
    def right(self) -> int:
        """Right answers."""
        return len(self.times)

    def count(self, future: Any, asked: float, marker: Marker | None, number: int) -> None:
        """Counts one request; without a marker every answer is right."""
        now = time.monotonic()
        code = future.code()
        if code is grpc.StatusCode.OK:
            problem = "" if marker is None else marker.problem(number, future.result())
            if problem:
                self.wrong.append(problem)
            else:
                self.times.append(now)
                self.latencies.append(now - asked)
        elif code.name in REFUSALS:
            self.refused[code.name] += 1
        else:
            self.wrong.append(f"{code.name}: {future.details()}")

    def rate(self) -> float:
        """Right answers per second, from the first to the last."""
        return (self.right - 1) / (max(self.times) - min(self.times)) if self.right > 1 else 0.0

    def quantile_ms(self, share: float) -> float:
        """A quantile of the latencies, in milliseconds."""
        return 1000 * float(np.quantile(self.latencies, share)) if self.latencies else float("nan")


def total(tallies: Iterable[Tally]) -> Tally:
    """The sum of several."""
    result = Tally()
    for tally in tallies:
        result.sent += tally.sent
        result.times += tally.times
        result.latencies += tally.latencies
        result.refused += tally.refused
        result.wrong += tally.wrong
    return result


def closed_loop(
    port: int,
    questions: Sequence[Question],
    seconds: float,
    clients: int = 32,
    connections: int = 1,
    *,
    check: bool = True,
) -> Tally:
    """Keeps a number of requests under way.

    Args:
        port: The server's.
        questions: Requests, asked in turns.
        seconds: How long.
        clients: Requests under way at a time.
        connections: Connections that they are divided among.
        check: Whether answers are read and compared with the expected ones.
    """
    tally, marker = Tally(), Marker(questions) if check else None
    requests = [question.serialized() for question in questions]
    turns = itertools.count()  # callbacks of several connections come from several threads
    end, done = time.monotonic() + seconds, threading.Semaphore(0)
    with contextlib.ExitStack() as stack:
        channels = [stack.enter_context(_channel(port)) for _ in range(connections)]
        calls = [channel.unary_unary(PREDICT) for channel in channels]

        def ask(call: Any) -> None:
            number, asked = next(turns) % len(requests), time.monotonic()

            def answered(future: Any) -> None:
                tally.count(future, asked, marker, number)
                if asked < end:
                    ask(call)
                else:
                    done.release()

            call.future(requests[number], timeout=60).add_done_callback(answered)

        for client in range(clients):
            ask(calls[client % connections])
        for _ in range(clients):
            done.acquire()
    tally.sent = next(turns)
    return tally


def check_answered(tally: Tally) -> Tally:
    """Returns a tally.

    Raises:
        RuntimeError: If an answer in it was wrong or a refusal.
    """
    failed = [*tally.wrong, *tally.refused]
    if failed:
        raise RuntimeError(f"every request must be answered. Received: {failed[0]}")
    return tally


def open_loop(port: int, questions: Sequence[Question], rate: float, seconds: float, deadline: float = 1.0) -> Tally:
    """Sends requests at an even rate, whether the server answers or not.

    It falls behind when the processor is busy; at most `rate * deadline` requests are unanswered at a time.

    Args:
        port: The server's.
        questions: Requests, asked in turns.
        rate: Requests per second.
        seconds: How long.
        deadline: Seconds after which a request is given up.
    """
    tally, marker = Tally(), Marker(questions)
    requests = [question.serialized() for question in questions]
    left, idle = [0], threading.Condition()
    with _channel(port) as channel:
        call = channel.unary_unary(PREDICT)

        def answered(future: Any, asked: float, number: int) -> None:
            with idle:
                tally.count(future, asked, marker, number)
                left[0] -= 1
                idle.notify()

        def ask() -> None:
            number, asked = tally.sent % len(requests), time.monotonic()
            with idle:
                left[0] += 1
                tally.sent += 1
            future = call.future(requests[number], timeout=deadline)
            future.add_done_callback(lambda future: answered(future, asked, number))

        _evenly(ask, rate, seconds)
        with idle:
            idle.wait_for(lambda: left[0] == 0)
    return tally


def _evenly(ask: Callable[[], None], rate: float, seconds: float) -> None:
    start = time.monotonic()
    for number in range(int(rate * seconds)):
        now = time.monotonic()
        if now > start + seconds:
            return
        time.sleep(max(0.0, start + number / rate - now))
        ask()


def _channel(port: int) -> grpc.Channel:
    return grpc.insecure_channel(f"127.0.0.1:{port}", options=_OPTIONS)
