"""TensorFlow Serving's REST API over the loaded models: inference, status, metadata; and what Prometheus reads."""

import contextlib
import http.server
import json
import logging
import re
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from google.protobuf import json_format

from c2al_tf.saved_model import DEFAULT_SIGNATURE

from ..lifecycle import metrics
from ..lifecycle.models import Models
from ..protocol import messages
from ..protocol.errors import HTTP_STATUS, INTERNAL, NOT_FOUND, RESOURCE_EXHAUSTED, RequestError
from ..protocol.memory import MAX_MEMORY
from ..servable import inference
from ..servable.servable import Servable
from .event_loop import wait_for
from .grpc_services import SIGNATURE_DEF, get_model_metadata
from .json_examples import fill_input, write_classifications, write_regressions
from .json_memory import MAX_SHOWN, Room, room_beside, shown
from .json_tensors import ROWS, read_inputs, write_outputs

_PATH = re.compile(
    r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>\d{1,18})|/labels/(?P<label>[^/:]+))?"
    r"(?P<action>:predict|:classify|:regress|/metadata)?"
)
_MAX_BODY = MAX_MEMORY // 2
_MAX_MESSAGE = 2000
_CHUNK = 1 << 16
_IDLE_SECONDS = 60
_SPARE_CONNECTIONS = 128
_NO_ROOM = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_log = logging.getLogger(__name__)


def answer(models: Models, method: str, path: str, body: bytes) -> dict[str, Any]:
    """The JSON that a request gets.

    Raises:
        RequestError: If the request has no such form, or means no loaded model.
        SavedModelError: If the model refuses the inputs.
    """
    if not path.startswith("/v1/"):
        raise RequestError(f"Not found: {path}", NOT_FOUND)
    match = _PATH.fullmatch(path.partition("?")[0])
    infer = _INFERENCES.get(match["action"]) if match else None
    if match is None or method != ("POST" if infer else "GET"):
        raise RequestError(f"Malformed request: {method} {path}")
    spec = messages.ModelSpec(name=match["name"])
    if match["version"]:
        spec.version.value = int(match["version"])
    if match["label"]:
        spec.version_label = match["label"]
    if infer is not None:
        with models.counted(spec.name, match["action"][1:].title(), "REST"):
            return infer(models, spec, body)
    if match["action"] == "/metadata":
        return _metadata(models, spec)
    return _to_dict(models.status(spec))


def _predict(models: Models, spec: Any, body: bytes) -> dict[str, Any]:
    request, signature, room = _parse(body)
    with models.use(spec) as servable:
        model = servable.model
        if signature not in model.signatures:
            raise RequestError(
                f'Serving signature name: "{signature:.{MAX_SHOWN}}" not found in signature def: '
                f"{', '.join(model.signatures)}"
            )
        inputs = read_inputs(request, model.signatures[signature].inputs, room)
        return write_outputs(wait_for(servable.run(inputs, signature)), as_rows=ROWS in request)


def _infer(
    request_class: Any,
    read: Callable[[Servable, Any, int], inference.Inference],
    write: Callable[[Any], dict[str, Any]],
    models: Models,
    spec: Any,
    body: bytes,
) -> dict[str, Any]:
    request = request_class(model_spec=spec)
    room = _fill(request, body)
    with models.use(spec) as servable:
        return write(wait_for(inference.answer(servable, read(servable, request, room.left))).result)


_INFERENCES: dict[str, Callable[[Models, Any, bytes], dict[str, Any]]] = {
    ":predict": _predict,
    ":classify": partial(_infer, messages.ClassificationRequest, inference.classify, write_classifications),
    ":regress": partial(_infer, messages.RegressionRequest, inference.regress, write_regressions),
}


def _fill(request: Any, body: bytes) -> Room:
    given, signature, room = _parse(body)
    try:
        request.model_spec.signature_name = signature
        fill_input(request.input, given, room)
    except UnicodeEncodeError as error:  # half of a surrogate pair
        raise RequestError(f"JSON Parse error: {error}") from error
    return room


def _parse(body: bytes) -> tuple[dict[str, Any], str, Room]:
    """The request, the signature that it names, and the memory that is left to it."""
    room = room_beside(body)
    try:
        request = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"JSON Parse error: {error}") from error
    if not isinstance(request, dict):
        raise RequestError("JSON Parse error: the request must be an object.")
    signature = request.get("signature_name") or DEFAULT_SIGNATURE
    if not isinstance(signature, str):
        raise RequestError(f"'signature_name' key must be a string value. Received: {shown(signature)}")
    return request, signature, room


def _metadata(models: Models, spec: Any) -> dict[str, Any]:
    response = get_model_metadata(
        models, messages.GetModelMetadataRequest(model_spec=spec, metadata_field=[SIGNATURE_DEF])
    )
    signatures = messages.SignatureDefMap()
    response.metadata[SIGNATURE_DEF].Unpack(signatures)
    return {"model_spec": _to_dict(response.model_spec), "metadata": {SIGNATURE_DEF: _to_dict(signatures)}}


def _to_dict(message: Any) -> dict[str, Any]:
    return json_format.MessageToDict(
        message,
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
        descriptor_pool=messages.POOL,
    )


class RestServer(http.server.ThreadingHTTPServer):
    """A thread for each connection. `shutdown`, then `server_close`, finish the requests under way.

    Args:
        host: Address to listen on.
        port: Its port; 0 for a free one.
        models: What answers.
        max_requests: POST requests under way; beyond it they are refused (429), whose bodies are not kept. There may be
            128 more connections than that, so that status, metadata and metrics have room; those beyond get a 503.
        metrics_path: Where Prometheus reads; None: nowhere.
    """

    daemon_threads = False
    request_queue_size = 128

    def __init__(self, host: str, port: int, models: Models, max_requests: int, metrics_path: str | None) -> None:
        self.models, self.max_requests, self.metrics_path = models, max_requests, metrics_path
        self.room = threading.Semaphore(max_requests)
        self.max_connections = max_requests + _SPARE_CONNECTIONS
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__((host, port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Remembers the connection, if there is room for it."""
        with self._lock:
            has_room = len(self._open) < self.max_connections
            if has_room:
                self._open.add(request)
        if has_room:
            super().process_request(request, client_address)
            return
        with contextlib.suppress(OSError):  # the other side was faster
            request.send(_NO_ROOM)
        self.shutdown_request(request)

    def shutdown_request(self, request: Any) -> None:
        """Forgets the connection."""
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        """Waits until what has been asked is answered."""
        with self._lock:
            for connection in self._open:
                # An idle connection ends here; one that is being answered still can be written to.
                with contextlib.suppress(OSError):  # the other side was faster
                    connection.shutdown(socket.SHUT_RD)
        super().server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Logs what a connection died of."""
        _log.debug("connection of %s", client_address, exc_info=True)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = _IDLE_SECONDS
    server: RestServer

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What is no request is told in JSON, too."""
        self.close_connection = True
        self._send_json(code, {"error": message or self.responses[http.HTTPStatus(code)][0]})

    def do_GET(self) -> None:
        if self.headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in self.headers:
            self.close_connection = True  # its body would be read as the next request
        if self.path.partition("?")[0] == self.server.metrics_path:
            self._send(200, self.server.models.metrics.text(), metrics.CONTENT_TYPE)
        else:
            self._send_json(*self._answer(b""))

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or "Transfer-Encoding" in self.headers:
            self.send_error(411, "Content-Length must be given: the bytes of the body.")
        elif len(length) > 18 or int(length) > _MAX_BODY:
            self.send_error(413, f"Content-Length may be at most {_MAX_BODY}. Received: {length:.20}")
        elif not self.server.room.acquire(blocking=False):
            self._discard(int(length))
            self._send_json(*self._refuse())
        else:
            try:
                body = self._read_body(int(length))
                outcome = self._answer(body) if len(body) == int(length) else None
            finally:
                self.server.room.release()
            if outcome is not None:
                self._send_json(*outcome)  # only now: who has the answer may ask again
            else:
                self.send_error(
                    400, f"The body must have {length} bytes, as Content-Length says. Received: {len(body)}"
                )

    def log_message(self, format: str, *args: Any) -> None:
        _log.debug(format, *args)

    def _answer(self, body: bytes) -> tuple[int, dict[str, Any]]:
        try:
            return 200, answer(self.server.models, self.command, self.path, body)
        except ValueError as error:
            code = getattr(error, "code", INTERNAL)
            return HTTP_STATUS.get(code, 500), {"error": str(error)[:_MAX_MESSAGE]}

    def _refuse(self) -> tuple[int, dict[str, Any]]:
        match, models = _PATH.fullmatch(self.path.partition("?")[0]), self.server.models
        error = RequestError(
            f"{self.server.max_requests} requests are under way, which is the bound.", RESOURCE_EXHAUSTED
        )
        if match and match["action"] in _INFERENCES:
            with contextlib.suppress(RequestError), models.counted(match["name"], match["action"][1:].title(), "REST"):
                raise error
        return HTTP_STATUS[RESOURCE_EXHAUSTED], {"error": str(error)}

    def _read_body(self, length: int) -> bytes:
        """What there is of a body when the connection ends. Raises TimeoutError, as a socket does, if it takes long."""
        body, end = bytearray(), time.monotonic() + _IDLE_SECONDS
        while len(body) < length and (chunk := self.rfile.read1(min(length - len(body), _CHUNK))):
            body += chunk
            if time.monotonic() > end:
                raise TimeoutError(f"{length} bytes have not come within {_IDLE_SECONDS} s")
        return bytes(body)

    def _discard(self, length: int) -> None:
        while length > 0 and (chunk := self.rfile.read(min(length, _CHUNK))):
            length -= len(chunk)

    def _send_json(self, status: int, content: dict[str, Any]) -> None:
        self._send(status, json.dumps(content).encode(), "application/json")

    def _send(self, status: int, data: bytes, content_type: str) -> None:
        if self.request_version == "HTTP/0.9":  # it knows no status, and is what a line without a version is taken for
            self.request_version = "HTTP/1.0"
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(data)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
