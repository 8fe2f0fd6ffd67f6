"""The embedded server under load, beside a gRPC server in Python that does nothing and the C API that does all.

The export is that of a fresh DHEN model of 26 categorical features, hashed, and 13 numeric ones; servers run in
processes of their own, on the same cores as the client, which keeps so many requests under way and reads no answer. A
server in Python can be no faster than one that answers without looking at the request (`no-op`), and no server faster
than the session alone (`C API`), which has neither protobuf nor network.
"""

import contextlib
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import grpc
import keras
import numpy as np
from c2al_serving import messages
from c2al_serving.model_config import ModelConfig, to_proto
from c2al_serving.tensors import fill_proto
from google.protobuf import text_format

from c2al_tf.config import ModelConfig as ModelSizes
from c2al_tf.data.examples import to_examples
from c2al_tf.export import export_for_serving
from c2al_tf.model import build_model
from c2al_tf.saved_model import SavedModel
from c2al_tf.schema import CategoricalFeature, NumericFeature, Schema
from c2al_tf.types import Columns

from .results import Result, alternate

NAME = "serving"
_PREDICT = f"/{messages.PREDICTION_SERVICE}/Predict"
_COHORTS = ("head", "tail")
_SCHEMA = Schema(
    (
        *(CategoricalFeature(f"c{i}", "int64", num_hash_buckets=1000) for i in range(26)),
        *(NumericFeature(f"n{i}", "standard", boundaries=(-1.0, 0.0, 1.0)) for i in range(13)),
    )
)
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
        ours = stack.enter_context(_serve(Path(folder), exports, batching=False))
        batching = stack.enter_context(_serve(Path(folder), exports, batching=True))
        no_op = stack.enter_context(_process([sys.executable, "-c", _NO_OP, _PREDICT]))
        yield from _beside_no_op({"": ours, ", batching": batching}, no_op, seconds, rounds)
        yield from _beside_the_session(ours, exports["c2al"], seconds, rounds)
        yield from _beside_the_baseline(ours, seconds, rounds)


def write_exports(folder: Path) -> dict[str, Path]:
    """Base paths of the exports of a model trained with cohort heads and of one without, by name."""
    sizes = ModelSizes(embedding_dim=8)
    models = {"c2al": build_model(_SCHEMA, sizes, cohorts=_COHORTS), "baseline": build_model(_SCHEMA, sizes)}
    reference = build_model(_SCHEMA, sizes)
    for name, model in models.items():
        export_for_serving(model, _SCHEMA, folder / name, sample=draw_rows(64), reference=reference)
    keras.backend.clear_session()
    return {name: folder / name for name in models}


def draw_rows(count: int) -> Columns:
    """Raw columns of random rows."""
    rng = np.random.default_rng(0)
    return {
        f.name: rng.integers(0, 10_000, count)
        if isinstance(f, CategoricalFeature)
        else rng.normal(size=count).astype(np.float32)
        for f in _SCHEMA.features
    }


def predict_request(model: str, rows: int, *, examples: bool) -> bytes:
    """A serialized PredictRequest of random rows, as named columns or as serialized tf.Examples."""
    columns = draw_rows(rows)
    inputs: Mapping[str, np.ndarray] = columns
    request = messages.PredictRequest()
    request.model_spec.name = model
    if examples:
        request.model_spec.signature_name = "serialized_examples"
        inputs = {"examples": _examples(columns)}
    for name, values in inputs.items():
        fill_proto(request.inputs[name], values)
    return bytes(request.SerializeToString())


def _examples(columns: Columns) -> np.ndarray:
    return np.array(to_examples(columns, {f.name: f.column for f in _SCHEMA.features}), object)


@dataclass
class Load:
    """Requests to one server, so many at a time, and how long each took."""

    port: int
    request: bytes
    clients: int
    latencies: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def run(self, seconds: float) -> float:
        """Asks for some seconds; returns the answers per second.

        Raises:
            RuntimeError: If a request fails.
        """
        self.latencies.clear()
        done = threading.Semaphore(0)
        with grpc.insecure_channel(f"127.0.0.1:{self.port}") as channel:
            call = channel.unary_unary(_PREDICT)
            start = time.perf_counter()

            def ask() -> None:
                asked = time.perf_counter()

                def answered(future: grpc.Future) -> None:
                    if future.exception() is not None:
                        self.errors.append(str(future.exception()))
                    self.latencies.append(time.perf_counter() - asked)
                    if time.perf_counter() - start < seconds and not self.errors:
                        ask()
                    else:
                        done.release()

                call.future(self.request, timeout=60).add_done_callback(answered)

            for _ in range(self.clients):
                ask()
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
    for rows, clients in ((1, 1), (1, 8), (1, 32), (1, 128)):
        request = predict_request("c2al", rows, examples=False)
        loads = {name: Load(port, request, clients) for name, port in {**ours, "no-op": no_op}.items()}
        slow: dict[str, list[float]] = {name: [] for name in loads}

        def measure(name: str) -> float:
            rate = loads[name].run(seconds)  # noqa: B023
            slow[name].append(loads[name].quantile_ms(0.99))  # noqa: B023
            return rate

        figures = alternate({name: partial(measure, name) for name in loads}, rounds)
        goal = 0.6 if clients == 32 else None
        peer = {"peer_name": "no-op gRPC server in Python"}
        for name in ours:
            case = f"batch {rows}, {clients} clients, 39 named columns{name}"
            yield Result.of(NAME, case, figures[name], figures["no-op"], unit="requests/s", goal=goal, **peer)
            yield Result.of(NAME, f"{case}, p99", slow[name], slow["no-op"], unit="ms", **peer)


def _beside_the_session(ours: int, export: Path, seconds: float, rounds: int) -> Iterator[Result]:
    for rows, examples in ((32, False), (256, False), (256, True)):
        load = Load(ours, predict_request("c2al", rows, examples=examples), 4)
        columns = draw_rows(rows)
        inputs = {"examples": _examples(columns)} if examples else columns
        signature = "serialized_examples" if examples else "serving_default"
        with SavedModel(export / "1") as model:
            model.run(inputs, signature)  # the first call is a slow one
            figures = alternate(
                {
                    "ours": lambda: rows * load.run(seconds),  # noqa: B023
                    "C API": lambda: rows * _session_rate(model, inputs, signature, seconds),  # noqa: B023
                },
                rounds,
            )
        form = "serialized tf.Examples" if examples else "39 named columns"
        goal = 0.8 if examples else None
        case = f"batch {rows}, 4 clients, {form}"
        yield Result.of(NAME, case, figures["ours"], figures["C API"], peer_name="C API", unit="rows/s", goal=goal)


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
    loads = {name: Load(ours, predict_request(name, 1, examples=False), 1) for name in ("c2al", "baseline")}

    def median(name: str) -> float:
        loads[name].run(seconds / 4)
        return statistics.median(loads[name].latencies) * 1000

    figures = alternate({name: partial(median, name) for name in loads}, 4 * rounds + 1)
    case = "batch 1, 1 client, median latency of the C2AL export"
    beside = {"peer_name": "the baseline's export", "unit": "ms", "goal": 0.97}
    yield Result.of(NAME, case, figures["c2al"], figures["baseline"], **beside)


@contextlib.contextmanager
def _serve(folder: Path, exports: Mapping[str, Path], *, batching: bool) -> Iterator[int]:
    """`c2al serve` over some exports, in a process of its own; yields its port."""
    path = folder / "models.config"
    path.write_text(text_format.MessageToString(to_proto([ModelConfig(name, base) for name, base in exports.items()])))
    code = (
        "import sys, pathlib\n"
        "from c2al_serving.batching import BatchingParameters\n"
        "from c2al_serving.model_config import read_model_configs\n"
        "from c2al_serving.server import serve\n"
        f"serve(read_model_configs(pathlib.Path(sys.argv[1])), grpc_port=0,"
        f" batching={'BatchingParameters()' if batching else None},"
        " on_ready=lambda s: print(s.grpc_port, flush=True))"
    )
    with _process([sys.executable, "-c", code, str(path)]) as port:
        yield port


@contextlib.contextmanager
def _process(command: list[str]) -> Iterator[int]:
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.kill()
