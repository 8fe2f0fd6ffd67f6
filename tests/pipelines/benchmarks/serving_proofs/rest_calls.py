"""HTTP at the level of bytes: a question over REST, and the answer to bytes that may not be a request."""

import base64
import contextlib
import gzip
import http.client
import json
import select
import socket
from typing import Any

import numpy as np
from c2al_pipelines.benchmarks.serving_load.questions import Question

PREDICT_PATH = "/v1/models/default:predict"
PATHS = [
    *[PREDICT_PATH] * 6,
    "/v1/models/default",
    "/v1/models/default/metadata",
    "/v1/models/default/versions/1:predict",
    "/v1/models/default/labels/stable:predict",
    "/monitoring/prometheus/metrics",
]
HALF_SENT = [
    b"POST /v1/models/default:predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{",
    b"GET /v1/mod",
    b"POST /v1/models/default:predict HTTP/1.1\r\nX:",
]
"""Requests that are never finished."""
_PATIENCE = 1.0


def to_json(question: Question, *, rows: bool) -> dict[str, Any]:
    """The body of a predict request, by rows or by columns."""
    columns = {name: _plain(values.tolist()) for name, values in question.inputs.items()}
    if not rows:
        return {"signature_name": question.signature, "inputs": columns}
    count = len(next(iter(columns.values())))
    instances = [{name: values[row] for name, values in columns.items()} for row in range(count)]
    return {"signature_name": question.signature, "instances": instances}


def ask(port: int, question: Question, seconds: float) -> str:
    """Asks over REST; returns what is wrong with the answer, empty if it is right."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
    try:
        connection.request("POST", PREDICT_PATH, json.dumps(to_json(question, rows=False)))
        response = connection.getresponse()
        content = json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        return f"REST: {error!r}"
    finally:
        connection.close()
    if response.status != 200:
        return f"REST: {response.status}: {content}"
    return question.problem({name: np.float32(values) for name, values in content["outputs"].items()})


def post(path: str, body: bytes, is_compressed: bool = False) -> bytes:
    """A request for inference, after which the connection ends; compressed by gzip."""
    sent = gzip.compress(body) if is_compressed else body
    lines = ["Host: localhost", f"Content-Length: {len(sent)}", "Connection: close"]
    lines += ["Content-Encoding: gzip"] if is_compressed else []
    return "\r\n".join([f"POST {path} HTTP/1.1", *lines, "\r\n"]).encode() + sent


def connect(port: int, seconds: float) -> socket.socket:
    """A connection to a REST server with a timeout."""
    return socket.create_connection(("127.0.0.1", port), timeout=seconds)


def exchange(port: int, request: bytes, seconds: float) -> tuple[str, str]:
    """Sends bytes and no more, and reads the first answer.

    A server cannot know that no more will come: what it has not answered in a second it is told so, and may then close
    the connection without an answer.

    Returns:
        Its status (`none`: the connection was closed without one), and what is wrong with it; nothing if it is proper.
    """
    with connect(port, seconds) as connection:
        is_whole = True
        try:
            with contextlib.suppress(OSError):  # refused before it was sent to its end: the answer says why
                connection.sendall(request)
                is_whole = bool(select.select([connection], [], [], _PATIENCE)[0])
                if not is_whole:
                    connection.shutdown(socket.SHUT_WR)
            response = http.client.HTTPResponse(connection, method=request.split(b" ", 1)[0].decode("latin-1"))
            response.begin()
            content = response.read()
        except TimeoutError:
            return "none", f"no answer in {seconds:g} s"
        except http.client.RemoteDisconnected:
            line = request.split(b"\n", 1)[0].decode("latin-1")
            # An empty line is no request, either.
            return "none", "closed without an answer" if is_whole and line.split() else ""
        except http.client.UnknownProtocol:  # `HTTP/2.0` is answered in kind
            return "none", "" if b" HTTP/2.0\r\n" in request else "an unknown protocol"
        except (OSError, http.client.HTTPException) as error:
            return "none", f"no proper answer: {type(error).__name__}"
    return str(response.status), _problem(response, content)


def _problem(response: http.client.HTTPResponse, content: bytes) -> str:
    status = response.status
    if status >= 500 and status not in (501, 503, 505):
        return f"{status}: {content[:80]!r}"
    is_http = response.headers.get_content_type() == "text/plain" and status in (400, 404, 413, 417)
    if status >= 400 and response._method != "HEAD" and not is_http:  # type: ignore[attr-defined]
        try:
            if isinstance(json.loads(content)["error"], str):
                return ""
        except (ValueError, LookupError, TypeError):
            pass
        return f"{status} without the JSON of an error: {content[:40]!r}"
    return ""


def _plain(value: Any) -> Any:
    """A value as JSON; bytes as base64."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return {"b64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value
