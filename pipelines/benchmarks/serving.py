"""The embedded server under load, beside a gRPC server in Python that does nothing and the C API that does all.

The export is that of a fresh DHEN model of 26 categorical features, hashed, and 13 numeric ones; servers run in
processes of their own, on the same cores as the client, which keeps so many requests under way and reads no answer. A
server in Python can be no faster than one that answers without looking at the request (`no-op`), and no server faster
than the session alone (`C API`), which has neither protobuf nor network. Requests of one row are also sent to
the C2AL export and to the baseline's in turns, which must not differ.
"""

import contextlib
import dataclasses
import itertools
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from c2al_serving.config.model_config import ModelConfig, to_proto
from google.protobuf import text_format

from c2al_tf.saved_model import SavedModel

from .results import Result, alternate
from .serving_models import SMALL, draw_rows, predict_request, serialized_examples, write_exports
from .serving_proofs.load import PREDICT, closed_loop, open_loop, total
from .serving_proofs.questions import read_questions

NAME = "serving"
_SHARES = (0.5, 0.99, 0.999)
_SESSIONS = {"C API": None, "C API, each call in its caller's thread": 1}
"""Threads of a session; the server's have one."""
_NO_OP = """
import concurrent.futures, sys
import grpc

def answer(request, context):
    return b""

handler = grpc.unary_unary_rpc_method_handler(answer)
service, method = sys.argv[1].strip("/").split("/")
server = grpc.server(
    concurrent.futures.ThreadPoolExecutor(32), [grpc.method_handlers_generic_handler(service, {method: handler})]
)
print(server.add_insecure_port("127.0.0.1:0"), flush=True)
server.start()
server.wait_for_termination()
"""


def run(quick: bool) -> Iterator[Result]:
    """Requests and rows per second beside the floors; the C2AL export's latency beside the baseline's."""
    seconds, rounds = (0.2, 1) if quick else (2.0, 5)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        exports = write_exports(Path(folder))
        exports["small"] = write_exports(Path(folder) / "small", SMALL, embedding_dim=16)["c2al"]
        ours = stack.enter_context(_serve(Path(folder), exports, batching=False))
        batching = stack.enter_context(_serve(Path(folder), exports, batching=True))
        no_op = stack.enter_context(_process([sys.executable, "-c", _NO_OP, PREDICT]))
        yield from _beside_no_op({"": ours, ", batching": batching}, no_op, seconds, rounds)
        with _serve(Path(folder), exports, batching=True, num_processes=2) as two:
            servers = {", batching": batching, ", batching, two processes on one port": two}
            yield from _on_many_connections(servers, no_op, seconds, rounds)
        yield from _beside_the_session(ours, exports["c2al"], seconds, rounds)
        yield from _beside_the_baseline(ours, 4 * seconds, rounds)
        yield from _closed_loops(batching, seconds, quick)
        yield from _open_loops(batching, exports, 4 * seconds)


@dataclass
class Load:
    """Requests to one server, so many at a time on so many connections, and how long each took."""

    port: int
    request: bytes
    clients: int
    connections: int = 1
    latencies: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def run(self, seconds: float) -> float:
        """Asks for some seconds; returns the answers per second.

        Raises:
            RuntimeError: If a request fails.
        """
        self.latencies.clear()
        done = threading.Semaphore(0)
        with contextlib.ExitStack() as stack:
            options = [("grpc.use_local_subchannel_pool", 1)]  # else channels to one place share a connection
            channels = [grpc.insecure_channel(f"127.0.0.1:{self.port}", options) for _ in range(self.connections)]
            calls = [stack.enter_context(channel).unary_unary(PREDICT) for channel in channels]
            start = time.perf_counter()

            def ask(call: Any) -> None:
                asked = time.perf_counter()

                def answered(future: grpc.Future) -> None:
                    if future.exception() is not None:
                        self.errors.append(str(future.exception()))
                    self.latencies.append(time.perf_counter() - asked)
                    if time.perf_counter() - start < seconds and not self.errors:
                        ask(call)
                    else:
                        done.release()

                call.future(self.request, timeout=60).add_done_callback(answered)

            for client in range(self.clients):
                ask(calls[client % self.connections])
            for _ in range(self.clients):
                done.acquire()
            elapsed = time.perf_counter() - start
        if self.errors:
            raise RuntimeError(f"every request must be answered. Received: {self.errors[0]}")
        return len(self.latencies) / elapsed

    def quantile_ms(self, share: float) -> float:
        """A quantile of the last run's latencies, in milliseconds."""
        return 1000 * float(np.quantile(self.latencies, share))


def _beside_no_op(ours: Mapping[str, int], no_op: int, seconds: float, rounds: int) -> Iterator[Result]:
    small = predict_request("small", 1, examples=False, schema=SMALL)
    columns, examples = (predict_request("c2al", 1, examples=form) for form in (False, True))
    cases = [(f"39 named columns, {clients} clients", columns, clients) for clients in (1, 8, 32, 128)]
    cases += [("39 columns as tf.Example, 32 clients", examples, 32), ("6 named columns, 32 clients", small, 32)]
    for what, request, clients in cases:
        loads = {name: Load(port, request, clients) for name, port in {**ours, "no-op": no_op}.items()}
        goals = {", batching": 0.6} if clients == 32 else {}
        yield from _beside(f"batch 1, {what}", loads, goals, seconds, rounds)


def _on_many_connections(ours: Mapping[str, int], no_op: int, seconds: float, rounds: int) -> Iterator[Result]:
    for form, examples in (("named columns", False), ("columns as tf.Example", True)):
        request = predict_request("c2al", 1, examples=examples)
        loads = {name: Load(port, request, 32, connections=8) for name, port in {**ours, "no-op": no_op}.items()}
        yield from _beside(f"batch 1, 39 {form}, 32 clients, 8 connections", loads, {}, seconds, rounds)


def _beside(
    case: str, loads: Mapping[str, Load], goals: Mapping[str, float], seconds: float, rounds: int
) -> Iterator[Result]:
    """The rates and slowest answers of loads beside those of the load `no-op`."""
    slow: dict[str, list[float]] = {name: [] for name in loads}

    def measure(name: str) -> float:
        rate = loads[name].run(seconds)
        slow[name].append(loads[name].quantile_ms(0.99))
        return rate

    figures = alternate({name: partial(measure, name) for name in loads}, rounds)
    peer = {"peer_name": "no-op gRPC server in Python"}
    for name in (name for name in loads if name != "no-op"):
        goal = goals.get(name)
        yield Result.of(NAME, case + name, figures[name], figures["no-op"], unit="requests/s", goal=goal, **peer)
        yield Result.of(NAME, f"{case}{name}, p99", slow[name], slow["no-op"], unit="ms", **peer)


def _beside_the_session(ours: int, export: Path, seconds: float, rounds: int) -> Iterator[Result]:
    for rows, examples in ((32, False), (256, False), (256, True)):
        load = Load(ours, predict_request("c2al", rows, examples=examples), 4)
        columns = draw_rows(rows)
        inputs = {"examples": serialized_examples(columns)} if examples else columns
        signature = "serialized_examples" if examples else "serving_default"
        measured = {"ours": lambda: rows * load.run(seconds)}  # noqa: B023
        with contextlib.ExitStack() as stack:
            for name, num_threads in _SESSIONS.items():
                model = stack.enter_context(SavedModel(export / "1", num_threads=num_threads))
                model.run(inputs, signature)  # the first call is a slow one
                rate = partial(_session_rate, model, inputs, signature, seconds)
                measured[name] = lambda rate=rate: rows * rate()  # type: ignore[misc] # noqa: B023
            figures = alternate(measured, rounds)
        form = "serialized tf.Examples" if examples else "39 named columns"
        goal = 0.8 if examples else None
        case = f"batch {rows}, 4 clients, {form}"
        for name in _SESSIONS:
            yield Result.of(NAME, case, figures["ours"], figures[name], peer_name=name, unit="rows/s", goal=goal)


def _session_rate(model: SavedModel, inputs: Mapping[str, np.ndarray], signature: str, seconds: float) -> float:
    """Calls per second of the session, from as many threads as keep the cores busy."""
    counts: list[int] = []

    def call() -> None:
        count, end = 0, time.perf_counter() + seconds
        while time.perf_counter() < end:
            model.run(inputs, signature)
            count += 1
        counts.append(count)

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / seconds


def _beside_the_baseline(ours: int, seconds: float, rounds: int) -> Iterator[Result]:
    requests = {name: predict_request(name, 1, examples=False) for name in ("c2al", "baseline")}
    medians: dict[str, list[float]] = {name: [] for name in requests}
    for _ in range(2 * rounds + 1):
        for name, latencies in _in_turns(ours, requests, seconds).items():
            medians[name].append(1000 * statistics.median(latencies))
    case = "batch 1, 1 client, requests to either export in turns, median latency of the C2AL export"
    beside = {"peer_name": "the baseline's export", "unit": "ms", "goal": 0.97}
    yield Result.of(NAME, case, medians["c2al"], medians["baseline"], **beside)


def _in_turns(port: int, requests: Mapping[str, bytes], seconds: float) -> dict[str, list[float]]:
    """Latencies of requests that follow each other, each kind as often as the others."""
    latencies: dict[str, list[float]] = {name: [] for name in requests}
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call, end = channel.unary_unary(PREDICT), time.perf_counter() + seconds
        while time.perf_counter() < end:
            for name, request in requests.items():
                start = time.perf_counter()
                call(request, timeout=60)
                latencies[name].append(time.perf_counter() - start)
    return latencies


def _closed_loops(port: int, seconds: float, quick: bool) -> Iterator[Result]:
    """Either export under loads of all sizes."""
    sizes, clients = ((1,), (8,)) if quick else ((1, 32, 256), (1, 8, 32, 128))
    for rows, examples, at_a_time in itertools.product(sizes, (False, True), clients):
        loads = {
            name: Load(port, predict_request(name, rows, examples=examples), at_a_time) for name in ("c2al", "baseline")
        }
        rates = {name: rows * load.run(seconds) for name, load in loads.items()}
        quantiles = {name: [load.quantile_ms(share) for share in _SHARES] for name, load in loads.items()}
        form = "serialized tf.Examples" if examples else "39 named columns"
        yield from _beside_export(f"closed loop, batch {rows}, {at_a_time} clients, {form}, batching", rates, quantiles)


def _open_loops(port: int, exports: Mapping[str, Path], seconds: float) -> Iterator[Result]:
    """Either export asked evenly, at half of what the C2AL export's server can do."""
    questions = {
        name: [dataclasses.replace(question, model=name) for question in read_questions(exports[name] / "1")]
        for name in ("c2al", "baseline")
    }
    rate = closed_loop(port, questions["c2al"], seconds).rate() / 2
    rounds = [{name: open_loop(port, asked, rate, seconds) for name, asked in questions.items()} for _ in range(4)]
    tallies = {name: total(tallies[name] for tallies in rounds) for name in questions}
    failed = [what for tally in tallies.values() for what in (*tally.wrong, *tally.refused)]
    if failed:
        raise RuntimeError(f"every request must be answered. Received: {failed[0]}")
    quantiles = {name: [tally.quantile_ms(share) for share in _SHARES] for name, tally in tallies.items()}
    rates = {name: statistics.median(tallies[name].rate() for tallies in rounds) for name in questions}
    yield from _beside_export("open loop at half load, batch 1, both forms in turns, batching", rates, quantiles)


def _beside_export(case: str, rates: Mapping[str, float], quantiles: Mapping[str, Sequence[float]]) -> Iterator[Result]:
    peer = "the baseline's export"
    yield Result(NAME, case, rates["c2al"], rates["baseline"], peer, "rows/s")
    for share, ours, theirs in zip(_SHARES, quantiles["c2al"], quantiles["baseline"], strict=True):
        yield Result(NAME, f"{case}, p{100 * share:g}", ours, theirs, peer, "ms")


@contextlib.contextmanager
def _serve(folder: Path, exports: Mapping[str, Path], *, batching: bool, num_processes: int = 1) -> Iterator[int]:
    """`c2al serve` over some exports, in processes of its own; yields its port."""
    path = folder / "models.config"
    path.write_text(text_format.MessageToString(to_proto([ModelConfig(name, base) for name, base in exports.items()])))
    code = (
        "import sys, pathlib\n"
        "from c2al_serving.config.batching_parameters import BatchingParameters\n"
        "from c2al_serving.config.model_config import read_model_configs\n"
        "from c2al_serving.server import serve\n"
        f"serve(read_model_configs(pathlib.Path(sys.argv[1])), grpc_port=int(sys.argv[2]),"
        f" reuse_port={num_processes > 1},"
        f" batching={'BatchingParameters(num_batch_threads=1, max_enqueued_batches=100)' if batching else None},"
        " on_ready=lambda s: print(s.grpc_port, flush=True))"
    )
    port = 0
    with contextlib.ExitStack() as stack:
        for _ in range(num_processes):
            port = stack.enter_context(_process([sys.executable, "-c", code, str(path), str(port)]))
        yield port


@contextlib.contextmanager
def _process(command: list[str]) -> Iterator[int]:
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.kill()
