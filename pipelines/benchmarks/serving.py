"""The embedded server under load, beside a gRPC server in Python that does nothing and the C API alone.

The export is that of a fresh DHEN model of 26 categorical features, hashed, and 13 numeric ones. Servers run in
processes of their own, on the same cores as the client, which keeps a number of requests under way and reads no answer.
A server in Python can be no faster than one that answers without reading the request (`no-op`), and no server faster
than the session alone (`C API`), which has neither protobuf nor network. Requests of one row are also sent to the C2AL
export and to the baseline's in turns, which must not differ.
"""

import contextlib
import dataclasses
import itertools
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import grpc
from c2al_serving.config.model_config import ModelConfig, to_proto
from google.protobuf import text_format

from c2al_tf.saved_model import SavedModel

from .results import Result, alternate
from .serving_load.load import PREDICT, Tally, check_answered, closed_loop, open_loop, total
from .serving_load.models import SMALL, question, write_exports
from .serving_load.questions import Question, read_questions
from .serving_load.server_process import serve, start

NAME = "serving"
_SHARES = (0.5, 0.99, 0.999)
_SESSIONS = {"C API": None, "C API, each call in its caller's thread": 1}
"""Threads of a session; the server's have one."""
_BATCHING = "num_batch_threads { value: 1 } max_enqueued_batches { value: 100 }"
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
        no_op = int(stack.enter_context(start([sys.executable, "-c", _NO_OP, PREDICT]))[1])
        yield from _beside_no_op({"": ours, ", batching": batching}, no_op, seconds, rounds)
        with _serve(Path(folder), exports, batching=True, num_processes=2) as two:
            servers = {", batching": batching, ", batching, two processes on one port": two}
            yield from _on_many_connections(servers, no_op, seconds, rounds)
        yield from _beside_the_session(ours, exports["c2al"], seconds, rounds)
        yield from _beside_the_baseline(ours, 4 * seconds, rounds)
        yield from _closed_loops(batching, seconds, quick)
        yield from _open_loops(batching, exports, 4 * seconds)


@dataclass(frozen=True)
class _Load:
    """A question to one server, asked in a closed loop."""

    port: int
    question: Question
    clients: int
    connections: int = 1

    def run(self, seconds: float) -> Tally:
        """Asks for some seconds.

        Raises:
            RuntimeError: If a request fails.
        """
        tally = closed_loop(self.port, [self.question], seconds, self.clients, self.connections, check=False)
        return check_answered(tally)


def _beside_no_op(ours: Mapping[str, int], no_op: int, seconds: float, rounds: int) -> Iterator[Result]:
    small = question("small", 1, examples=False, schema=SMALL)
    columns, examples = (question("c2al", 1, examples=form) for form in (False, True))
    cases = [(f"39 named columns, {clients} clients", columns, clients) for clients in (1, 8, 32, 128)]
    cases += [("39 columns as tf.Example, 32 clients", examples, 32), ("6 named columns, 32 clients", small, 32)]
    for what, asked, clients in cases:
        loads = {name: _Load(port, asked, clients) for name, port in {**ours, "no-op": no_op}.items()}
        goals = {", batching": 0.5} if clients == 32 else {}
        yield from _beside(f"batch 1, {what}", loads, goals, seconds, rounds)


def _on_many_connections(ours: Mapping[str, int], no_op: int, seconds: float, rounds: int) -> Iterator[Result]:
    for form, examples in (("named columns", False), ("columns as tf.Example", True)):
        asked = question("c2al", 1, examples=examples)
        loads = {name: _Load(port, asked, 32, connections=8) for name, port in {**ours, "no-op": no_op}.items()}
        yield from _beside(f"batch 1, 39 {form}, 32 clients, 8 connections", loads, {}, seconds, rounds)


def _beside(
    case: str, loads: Mapping[str, _Load], goals: Mapping[str, float], seconds: float, rounds: int
) -> Iterator[Result]:
    """The rates and slowest answers of loads beside those of the load `no-op`."""
    slow: dict[str, list[float]] = {name: [] for name in loads}

    def measure(name: str) -> float:
        tally = loads[name].run(seconds)
        slow[name].append(tally.quantile_ms(0.99))
        return tally.rate()

    measurements = alternate({name: partial(measure, name) for name in loads}, rounds)
    peer = {"peer_name": "no-op gRPC server in Python"}
    for name in (name for name in loads if name != "no-op"):
        goal = goals.get(name)
        yield Result.of(
            NAME, case + name, measurements[name], measurements["no-op"], unit="requests/s", goal=goal, **peer
        )
        yield Result.of(NAME, f"{case}{name}, p99", slow[name], slow["no-op"], unit="ms", **peer)


def _beside_the_session(ours: int, export: Path, seconds: float, rounds: int) -> Iterator[Result]:
    for rows, examples in ((32, False), (256, False), (256, True)):
        asked = question("c2al", rows, examples=examples)
        load = _Load(ours, asked, 4)
        measured = {"ours": lambda: rows * load.run(seconds).rate()}  # noqa: B023
        with contextlib.ExitStack() as stack:
            for name, num_threads in _SESSIONS.items():
                model = stack.enter_context(SavedModel(export / "1", num_threads=num_threads))
                asked.answered_by(model)  # the first call is slow
                rate = partial(_session_rate, model, asked, seconds)
                measured[name] = lambda rate=rate: rows * rate()  # type: ignore[misc] # noqa: B023
            measurements = alternate(measured, rounds)
        form = "serialized tf.Examples" if examples else "39 named columns"
        goal = 0.8 if examples else None
        case = f"batch {rows}, 4 clients, {form}"
        for name in _SESSIONS:
            yield Result.of(
                NAME, case, measurements["ours"], measurements[name], peer_name=name, unit="rows/s", goal=goal
            )


def _session_rate(model: SavedModel, asked: Question, seconds: float) -> float:
    """Calls per second of the session, from as many threads as keep the cores busy."""
    counts: list[int] = []

    def call() -> None:
        count, end = 0, time.perf_counter() + seconds
        while time.perf_counter() < end:
            model.run(asked.inputs, asked.signature)
            count += 1
        counts.append(count)

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / seconds


def _beside_the_baseline(ours: int, seconds: float, rounds: int) -> Iterator[Result]:
    requests = {name: question(name, 1, examples=False).serialized() for name in ("c2al", "baseline")}
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
    """Each export under loads of all sizes."""
    sizes, clients = ((1,), (8,)) if quick else ((1, 32, 256), (1, 8, 32, 128))
    for rows, examples, at_a_time in itertools.product(sizes, (False, True), clients):
        tallies = {
            name: _Load(port, question(name, rows, examples=examples), at_a_time).run(seconds)
            for name in ("c2al", "baseline")
        }
        rates = {name: rows * tally.rate() for name, tally in tallies.items()}
        form = "serialized tf.Examples" if examples else "39 named columns"
        yield from _beside_export(f"closed loop, batch {rows}, {at_a_time} clients, {form}, batching", rates, tallies)


def _open_loops(port: int, exports: Mapping[str, Path], seconds: float) -> Iterator[Result]:
    """Each export at an even rate, half the capacity of the C2AL export's server."""
    questions = {
        name: [dataclasses.replace(question, model=name) for question in read_questions(exports[name] / "1")]
        for name in ("c2al", "baseline")
    }
    rate = closed_loop(port, questions["c2al"], seconds).rate() / 2
    rounds = [{name: open_loop(port, asked, rate, seconds) for name, asked in questions.items()} for _ in range(4)]
    tallies = {name: check_answered(total(tallies[name] for tallies in rounds)) for name in questions}
    rates = {name: statistics.median(tallies[name].rate() for tallies in rounds) for name in questions}
    yield from _beside_export("open loop at half load, batch 1, both forms in turns, batching", rates, tallies)


def _beside_export(case: str, rates: Mapping[str, float], tallies: Mapping[str, Tally]) -> Iterator[Result]:
    peer = "the baseline's export"
    yield Result(NAME, case, rates["c2al"], rates["baseline"], peer, "rows/s")
    for share in _SHARES:
        ours, theirs = (tallies[name].quantile_ms(share) for name in ("c2al", "baseline"))
        yield Result(NAME, f"{case}, p{100 * share:g}", ours, theirs, peer, "ms")


@contextlib.contextmanager
def _serve(folder: Path, exports: Mapping[str, Path], *, batching: bool, num_processes: int = 1) -> Iterator[int]:
    """`c2al serve` over some exports, in processes that share a port; yields it."""
    models, parameters = folder / "models.config", folder / "batching.config"
    configs = to_proto([ModelConfig(name, base) for name, base in exports.items()])
    models.write_text(text_format.MessageToString(configs))
    parameters.write_text(_BATCHING)
    arguments = [f"--model-config-file={models}"]
    arguments += [f"--batching-parameters-file={parameters}"] if batching else []
    arguments += ["--reuse-port"] if num_processes > 1 else []
    port = 0
    with contextlib.ExitStack() as stack:
        for _ in range(num_processes):
            port = stack.enter_context(serve(*arguments, grpc_port=port)).grpc_port
        yield port
