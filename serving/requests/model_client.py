"""What both clients share: how a server is reached and asked, and a batch that is asked for in pieces."""

import inspect
import json
import os
import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from types import ModuleType
from typing import Any, TypeAlias, TypedDict, TypeVar

import grpc
import numpy as np
from google.protobuf.message_factory import GetMessageClass
from numpy.typing import NDArray

from c2al_tf.protocol import messages
from c2al_tf.protocol.tensors import Signature, read_signatures

from . import pieces
from .casting import as_array

EXAMPLES_SIGNATURE, EXAMPLES_INPUT = "serialized_examples", "examples"
_PAIR = re.compile(r"[0-9a-z_.-]+=[ -~]*")  # what gRPC takes
Metadata: TypeAlias = Mapping[str, str | bytes]
Credentials: TypeAlias = grpc.ChannelCredentials | None
T = TypeVar("T")


class Call(TypedDict, total=False):
    """What any call may be given: `timeout` in seconds, and `metadata` that goes with its requests."""

    timeout: float | None
    metadata: Metadata | None


class PredictError(ValueError):
    """The server refused, was late, or could not be reached; other ValueErrors of a client are about its arguments.

    `code` is the gRPC status, such as `grpc.StatusCode.UNAVAILABLE`, `details` what the server or gRPC says about it,
    and `trailing_metadata` what the server sent with them, by key.
    """

    def __init__(self, text: str, code: Any = grpc.StatusCode.UNKNOWN, details: str = "", metadata: Any = ()) -> None:
        super().__init__(text)
        self.code, self.details, self.trailing_metadata = code, details, dict(metadata)


def open_channel(
    transport: Any, target: str, credentials: Credentials, options: Mapping[str, Any], retries: int, timeout: float
) -> Any:
    """A channel of `grpc` or `grpc.aio`, in plain text without credentials; `ModelClient` has the other arguments."""
    config: dict[str, Any] = {"loadBalancingConfig": [{"round_robin": {}}]}
    if retries:
        policy = {"maxAttempts": 1 + retries, "initialBackoff": "0.1s", "backoffMultiplier": 2, "maxBackoff": "1s"}
        config["methodConfig"] = [{"name": [{}], "retryPolicy": {**policy, "retryableStatusCodes": ["UNAVAILABLE"]}}]
        # A failure takes a token, an answer gives a tenth back; with half of them gone nothing is retried. So the 50
        # requests that a dying server had are, and a server that refuses all gets a tenth more requests at most.
        config["retryThrottling"] = {"maxTokens": 100, "tokenRatio": 0.1}
    merged = {
        "grpc.service_config": json.dumps(config),
        "grpc.max_receive_message_length": -1,
        "grpc.max_send_message_length": -1,
        # Larger requests would not be retried; by default this is 256 KiB.
        "grpc.per_rpc_retry_buffer_size": (1 << 31) - 1,
        # Else a server that is back is not looked for within the first second, and later every two minutes.
        "grpc.initial_reconnect_backoff_ms": 100,
        "grpc.max_reconnect_backoff_ms": 10_000,
        # Pings while requests are under way. A server that nothing is set for closes the connection at the fourth that
        # comes within five minutes while it sends nothing: not more than three are sent within a request's time.
        "grpc.keepalive_time_ms": int(1000 * max(30, timeout / 3)),
        "grpc.keepalive_timeout_ms": 10_000,
        "grpc.http2.ping_timeout_ms": 10_000,  # the same for pings by which gRPC measures: they stand in for the others
        # A proxy of the environment would get requests to localhost, too, and those to all of a name's addresses.
        "grpc.enable_http_proxy": 0,
        **options,
    }
    if credentials is None:
        return transport.insecure_channel(target, list(merged.items()))
    return transport.secure_channel(target, credentials, list(merged.items()))


async def ask(channel: Any, method: str, request: Any, timeout: float, metadata: Metadata, asked: str) -> Any:
    """Calls `Service.Method`, without an event loop if the channel blocks; an error names who is asked."""
    for key, value in metadata.items():
        if not _PAIR.fullmatch(f"{key}={'' if isinstance(value, bytes) else value}"):
            raise ValueError(f"`metadata` must have lower-case keys and ASCII values. Received: {key!r} with {value!r}")
    found = messages.POOL.FindMethodByName(f"tensorflow.serving.{method}")
    path, answer = f"/{found.containing_service.full_name}/{found.name}", GetMessageClass(found.output_type)
    call = channel.unary_unary(path, type(request).SerializeToString, answer.FromString)
    try:
        called = call(request, timeout=timeout, metadata=tuple(metadata.items()))
        return await called if inspect.isawaitable(called) else called
    except grpc.RpcError as error:
        code, details, trailing = error.code(), error.details(), dict(tuple(error.trailing_metadata() or ()))
        raise PredictError(f"{asked}: {code.name}: {details}", code, details, trailing) from error


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine that never waits for an event loop."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it has waited")


class ModelClient:
    """Asks one model. A client belongs to the process that made it: after a fork, the child makes its own.

    Args:
        target: `host:port` of the gRPC interface. Requests go to all addresses of a name in turn, as of a headless
            service: `dns:///name:port`. So they do with several addresses: `ipv4:10.0.0.1:8500,10.0.0.2:8500`.
        model_name: The model's name on the server.
        version: The version to ask; the latest if absent.
        label: The version to ask by its label, such as `canary`.
        timeout: Seconds that each request may take.
        cast: Ask the server once for its signatures, and cast columns to the declared dtypes where this keeps the
            values: integers to others that hold them, numbers to floats, strings. If off, columns go out as they are.
        max_rows: Rows in one request at most; larger batches are sent in pieces.
        max_request_bytes: Bytes in one request at most, likewise: what a gRPC server takes unless told otherwise.
        credentials: TLS credentials; none for plain text.
        retries: How often a request is sent again, 0 to 4, if the server cannot be reached or is UNAVAILABLE: after
            0.1 s, then twice as long each time, within `timeout`; requests change nothing. All other refusals are
            final, and while many requests fail, none is sent again.
        metadata: What goes with each request, such as an authorization, by keys in lower case.
        options: gRPC's channel options, which replace those of `open_channel`. A proxy of the environment is used only
            with `{"grpc.enable_http_proxy": 1}`.
    """

    def __init__(
        self,
        target: str,
        model_name: str = "default",
        *,
        version: int | None = None,
        label: str | None = None,
        timeout: float = 10.0,
        cast: bool = True,
        max_rows: int = 4096,
        max_request_bytes: int = 4 << 20,
        credentials: Credentials = None,
        retries: int = 3,
        metadata: Metadata | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        if max_rows < 1:
            raise ValueError(f"`max_rows` must be at least 1. Received: max_rows={max_rows}")
        if not 0 <= retries <= 4:
            raise ValueError(f"`retries` must be from 0 to 4, what gRPC allows. Received: retries={retries}")
        if version is not None and label is not None:
            raise ValueError(f"One of `version` and `label` must be None. Received: {version=}, {label=}")
        self.target, self.model_name, self.version, self.label = target, model_name, version, label
        self.timeout, self.cast, self.max_rows, self.max_request_bytes = timeout, cast, max_rows, max_request_bytes
        self._own_metadata, self._process = metadata or {}, os.getpid()
        self._signatures: dict[str, Signature] | None = None
        self._channel = open_channel(self._transport(), target, credentials, options or {}, retries, timeout)

    def _transport(self) -> ModuleType:
        """What makes the channel: `grpc` or `grpc.aio`."""
        return grpc

    async def _send_pieces(self, send: Callable[[slice], Any], slices: Sequence[slice]) -> list[Any]:
        """Returns the answers to each slice's request."""
        return [await send(piece) for piece in slices]

    async def _ask_in_pieces(
        self, method: str, make: Callable[[slice], Any], arrays: Mapping[str, NDArray[Any]], call: Call
    ) -> tuple[list[slice], list[Any]]:
        """Splits a batch and sends the request that `make` makes of each piece; returns the pieces and the answers."""
        slices = list(pieces.split(arrays, self.max_rows, self.max_request_bytes))
        return slices, await self._send_pieces(lambda piece: self._ask(method, make(piece), call), slices)

    async def _ask_examples(
        self, method: str, kind: Any, examples: Sequence[bytes], signature_name: str, call: Call
    ) -> list[Any]:
        """Calls Classify or Regress, with their kind of request; returns the results of the pieces."""
        column = as_array(EXAMPLES_INPUT, np.array(examples, object))

        def make(piece: slice) -> Any:
            return kind(model_spec=self._spec(signature_name), input={"example_list": {"examples": column[piece]}})

        _, answers = await self._ask_in_pieces(f"PredictionService.{method}", make, {EXAMPLES_INPUT: column}, call)
        return [answer.result for answer in answers]

    async def _ask_metadata(self, call: Call) -> tuple[Any, dict[str, Signature]]:
        """Returns the version that answers, a ModelSpec, and its signatures."""
        request = messages.GetModelMetadataRequest(model_spec=self._spec(), metadata_field=["signature_def"])
        answer = await self._ask("PredictionService.GetModelMetadata", request, call)
        stored = messages.SignatureDefMap()
        answer.metadata["signature_def"].Unpack(stored)
        return answer.model_spec, read_signatures(stored.signature_def)

    async def _ask(self, method: str, request: Any, call: Call) -> Any:
        if self._process != os.getpid():
            raise RuntimeError(f"a forked process must make its own client. Received: one of process {self._process}")
        timeout, metadata = call.get("timeout"), {**self._own_metadata, **(call.get("metadata") or {})}
        seconds, asked = self.timeout if timeout is None else timeout, f"model {self.model_name!r} at {self.target}"
        try:
            return await ask(self._channel, method, request, seconds, metadata, asked)
        except PredictError as error:
            if error.code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND):
                self._signatures = None  # another version may be served now: ask again before the next request
            raise

    def _spec(self, signature_name: str = "") -> Any:
        version = None if self.version is None else {"value": self.version}
        names = {"name": self.model_name, "signature_name": signature_name}
        return messages.ModelSpec(**names, version=version, version_label=self.label)
