"""A small exported model with the project's serving contract, and the embedded server over it."""

import contextlib
import dataclasses
import os
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow as tf
from c2al_serving.requests.model_client import ModelClient
from c2al_serving.servable.batching import Batcher
from c2al_serving.server import Server
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from c2al_tf.saved_model import SavedModel


@pytest.fixture(scope="session", autouse=True)
def patient_clients() -> Iterator[None]:
    """Clients wait five minutes by default, not ten seconds: how fast the server is, no test decides."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ModelClient.__init__.__kwdefaults__, "timeout", 300.0)
        yield


class Clicks(tf.Module):
    """A linear model on a string, an integer, a float and a list of strings."""

    def __init__(self, vocabulary: str, bias: float):
        initializer = tf.lookup.TextFileInitializer(
            vocabulary, tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER
        )
        self.table = tf.lookup.StaticHashTable(initializer, default_value=-1)
        self.weights = tf.Variable([[0.5], [0.25], [-1.0], [0.125]])
        self.bias = tf.Variable(bias)

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.string, "city"),
            tf.TensorSpec([None], tf.int64, "user"),
            tf.TensorSpec([None], tf.float32, "price"),
            tf.TensorSpec([None, None], tf.string, "tags"),
        ]
    )
    def raw_columns(self, city, user, price, tags):
        tag_count = tf.reduce_sum(tf.cast(tf.strings.length(tags) > 0, tf.float32), axis=1)
        place = tf.cast(self.table.lookup(city), tf.float32)
        x = tf.stack([place, tf.cast(user, tf.float32), price, tag_count], axis=1)
        logits = x @ self.weights + self.bias
        return {"logits": logits, "probabilities": tf.sigmoid(logits)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")])
    def serialized_examples(self, examples):
        parsed = tf.io.parse_example(
            examples,
            {
                "city": tf.io.FixedLenFeature([], tf.string, ""),
                "user": tf.io.FixedLenFeature([], tf.int64),
                "price": tf.io.FixedLenFeature([], tf.float32),
                "tags": tf.io.RaggedFeature(tf.string),
            },
        )
        return self.raw_columns(parsed["city"], parsed["user"], parsed["price"], parsed["tags"].to_tensor(""))


def save(directory: Path, vocabulary: Path, bias: float = 0.0) -> None:
    module = Clicks(str(vocabulary), bias)
    signatures = {"serving_default": module.raw_columns, "serialized_examples": module.serialized_examples}
    tf.saved_model.save(module, str(directory), signatures=signatures)


def write_warmup(directory: Path, columns: dict[str, np.ndarray], signature: str = "serving_default") -> None:
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "default", signature
    for name, column in columns.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(column))
    log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
    (directory / "assets.extra").mkdir()
    with tf.io.TFRecordWriter(str(directory / "assets.extra" / "tf_serving_warmup_requests")) as writer:
        writer.write(log.SerializeToString())


def make_columns(rows: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    cities = np.array(["Oslo", "Lima", "Łódź", "", "a town whose name is longer than twenty-two bytes"], object)
    return {
        "city": rng.choice(cities, rows),
        "user": rng.integers(-20, 20, rows),
        "price": rng.normal(size=rows).astype(np.float32),
        "tags": rng.choice(np.array(["new", "sale", ""], object), (rows, 3)),
    }


@dataclasses.dataclass(frozen=True)
class Export:
    """Base path with versions 1 and 2 (2 has the larger bias), columns, and what version 2 makes of them."""

    base_path: Path
    columns: dict[str, np.ndarray]
    examples: list[bytes]
    logits: np.ndarray

    @property
    def latest(self) -> Path:
        return self.base_path / "2"


def to_example(row: dict[str, Any]) -> bytes:
    def strings(values):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value.encode() for value in values]))

    feature = {
        "city": strings([row["city"]]),
        "user": tf.train.Feature(int64_list=tf.train.Int64List(value=[row["user"]])),
        "price": tf.train.Feature(float_list=tf.train.FloatList(value=[row["price"]])),
        "tags": strings(row["tags"]),
    }
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


@pytest.fixture(scope="session")
def export(tmp_path_factory: pytest.TempPathFactory) -> Export:
    folder = tmp_path_factory.mktemp("serving")
    vocabulary = folder / "cities.txt"
    vocabulary.write_text("Oslo\nLima\nŁódź\n", encoding="utf-8")
    columns = make_columns(64)
    base_path = folder / "export"
    for version, bias in ((1, 0.0), (2, 3.0)):
        save(base_path / str(version), vocabulary, bias)
        write_warmup(base_path / str(version), columns)
    (base_path / ".3-half-written").mkdir()
    function = tf.saved_model.load(str(base_path / "2")).signatures["serving_default"]
    logits = function(**{name: tf.constant(column) for name, column in columns.items()})["logits"].numpy()
    rows = [{name: column[row] for name, column in columns.items()} for row in range(64)]
    return Export(base_path, columns, [to_example(row) for row in rows], logits)


@dataclasses.dataclass(frozen=True)
class ServerProcess:
    """A server in a process of its own, and its ports."""

    process: subprocess.Popen[str]
    grpc_port: int
    rest_port: int


_SERVE = """
import sys
from c2al_serving.server import serve
on_ready = lambda server: print(server.grpc_port, server.rest_port, flush=True)
serve(sys.argv[1], grpc_port=0, rest_port=0, on_ready=on_ready)
"""


@pytest.fixture(scope="session")
def serving_process(start_process) -> Callable[[Path], contextlib.AbstractContextManager[ServerProcess]]:
    """`serving_process(base_path)` serves it in another process."""

    @contextlib.contextmanager
    def serving(base_path: Path) -> Iterator[ServerProcess]:
        with start_process([sys.executable, "-c", _SERVE, base_path], stderr=subprocess.DEVNULL) as process:
            yield ServerProcess(process, *map(int, process.stdout.readline().split()))

    return serving


@pytest.fixture(scope="session")
def export_server(serving_process, export: Export) -> Iterator[ServerProcess]:
    with serving_process(export.base_path) as server:
        yield server


@pytest.fixture(scope="module")
def server(export_server) -> ServerProcess:
    """The export, served in another process for all tests."""
    return export_server


@pytest.fixture(scope="session")
def batcher_of() -> Callable[[Server], Batcher]:
    """`batcher_of(server)`: the batcher of the embedded server's only version, in which requests wait."""

    def find(server: Server) -> Batcher:
        ((name, (number,)),) = server.models.available().items()
        return server.models._versions[name][number]._servable._batcher

    return find


@dataclasses.dataclass
class HeldModel:
    """Calls of SavedModel since it is held, by their number of rows; each goes on once `released` is set."""

    calls: list[int]
    released: threading.Event


@contextlib.contextmanager
def _hold_model() -> Iterator[HeldModel]:
    held, call_model = HeldModel([], threading.Event()), SavedModel.call

    def call(model: SavedModel, inputs: Any, *rest: Any) -> Any:
        held.calls.append(next(iter(inputs.values())).shape[0])
        held.released.wait()
        return call_model(model, inputs, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SavedModel, "call", call)
        try:
            yield held
        finally:
            held.released.set()


@pytest.fixture(scope="session")
def hold_model() -> Callable[[], contextlib.AbstractContextManager[HeldModel]]:
    """`with hold_model() as held`: an embedded server's calls of its model last until the test releases them."""
    return _hold_model


class Door(socketserver.ThreadingTCPServer):
    """Passes connections on to a port, after it has closed the first `refusals` of them."""

    def __init__(self, port: int):
        super().__init__(("127.0.0.1", 0), _Visitor)
        self.port, self.refusals = port, 0
        self.address = f"127.0.0.1:{self.server_address[1]}"
        self.passed: list[socket.socket] = []

    def server_close(self) -> None:
        for connection in self.passed:  # gRPC keeps it open when its channel is closed
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        super().server_close()


class _Visitor(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        if self.server.refusals:
            self.server.refusals -= 1
            return
        self.server.passed.append(self.request)
        with socket.create_connection(("127.0.0.1", self.server.port)) as behind:
            back = threading.Thread(target=_pass_on, args=(behind, self.request))
            back.start()
            _pass_on(self.request, behind)
            back.join()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):  # whoever ends first
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@pytest.fixture
def door(server) -> Iterator[Door]:
    """A `Door` to the server."""
    with Door(server.grpc_port) as door:
        thread = threading.Thread(target=door.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield door
        finally:
            door.shutdown()
            thread.join()


class _Answering(grpc.GenericRpcHandler):
    """Answers every method with what a function makes of its name, the request's bytes and the context."""

    def __init__(self, answer: Callable[[str, bytes, grpc.ServicerContext], Any]):
        self.answer = answer

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        method = details.method.rpartition("/")[2]
        return grpc.unary_unary_rpc_method_handler(
            lambda request, context: self.answer(method, request, context),
            response_serializer=lambda message: message.SerializeToString(),
        )


@contextlib.contextmanager
def _answering(answer: Callable[[str, bytes, grpc.ServicerContext], Any]) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(8), [_Answering(answer)], options=[("grpc.max_receive_message_length", -1)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


@pytest.fixture(scope="session")
def answering() -> Callable[..., contextlib.AbstractContextManager[str]]:
    """`with answering(answer) as target`: a gRPC server whose every method is `answer(method, request, context)`."""
    return _answering


class Scores(tf.Module):
    """Classify and Regress on the feature `x` of an example."""

    def value(self, inputs):
        return tf.io.parse_example(inputs, {"x": tf.io.FixedLenFeature([], tf.float32)})["x"]

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "inputs")])
    def classify(self, inputs):
        value = self.value(inputs)
        return {"classes": tf.tile([["no", "yés"]], [tf.size(inputs), 1]), "scores": tf.stack([-value, value], axis=1)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "inputs")])
    def regress(self, inputs):
        return {"outputs": 2 * self.value(inputs)}


@pytest.fixture(scope="session")
def scores_server(serving_process, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server of `Scores`: Classify is its default signature."""
    folder, module = tmp_path_factory.mktemp("scores"), Scores()
    signatures = {"serving_default": module.classify, "regress": module.regress}
    tf.saved_model.save(module, str(folder / "1"), signatures=signatures)
    with serving_process(folder) as server:
        yield server


@pytest.fixture(scope="session")
def score_examples() -> list[bytes]:
    """Examples for `Scores`, with `x` from 0 to 4."""

    def example(x: float) -> bytes:
        feature = {"x": tf.train.Feature(float_list=tf.train.FloatList(value=[x]))}
        return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()

    return [example(x) for x in range(5)]
