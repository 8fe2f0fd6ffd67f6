"""A blocking gRPC client of the embedded server and of tensorflow_model_server alike. Imports no TensorFlow."""

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import grpc
import numpy as np
from numpy.typing import NDArray

from . import messages
from .casting import Signature, as_array, cast_columns, read_signature
from .tensors import fill_proto, from_proto

DEFAULT_SIGNATURE = "serving_default"
EXAMPLES_SIGNATURE, EXAMPLES_INPUT = "serialized_examples", "examples"
_INIT_OP = "__saved_model_init_op"  # stored among the signatures, but nothing to call
MAX_REQUEST_BYTES = 4 << 20
"""What a gRPC server receives unless told otherwise."""
_FIXED_BYTES, _INPUT_BYTES, _STRING_BYTES = 1024, 128, 6
"""Room for what surrounds the values: of a request, of an input beyond its name, of a string."""


class PredictError(ValueError):
    """The server refused, or could not be reached; `code` is the gRPC status."""

    def __init__(self, message: str, code: grpc.StatusCode) -> None:
        super().__init__(message)
        self.code = code


@dataclasses.dataclass(frozen=True)
class VersionStatus:
    """State of one version: `AVAILABLE`, `LOADING`, `END` ...; `error` says why it is not available."""

    version: int
    state: str
    error: str


class PredictClient:
    """Asks one model of one server. A context manager; calls may come from many threads.

    Args:
        target: `host:port` of the gRPC interface.
        model_name: The model's name on the server.
        version: The version to ask; the latest if absent.
        label: The version to ask by its label, such as `canary`.
        timeout: Seconds that each request may take.
        cast: Ask the server once for its signatures and cast columns to the declared dtypes where this keeps the
            values: integers to other integers that hold them, numbers to floats, strings. If off, columns go out as
            they are.
        max_rows: Rows in one request at most; larger batches are sent in pieces.
        credentials: TLS credentials; none for plain text.
        retries: How often a request is sent again, 0 to 4, if the server cannot be reached or says that it is
            UNAVAILABLE: after 0.1 s, then twice as long each time, within `timeout`. That is safe, as a request changes
            nothing; all other refusals are final.
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
        credentials: grpc.ChannelCredentials | None = None,
        retries: int = 3,
    ) -> None:
        if max_rows < 1:
            raise ValueError(f"`max_rows` must be at least 1. Received: max_rows={max_rows}")
        if version is not None and label is not None:
            raise ValueError(f"One of `version` and `label` must be None. Received: {version=}, {label=}")
        self.target, self.model_name, self.version, self.label = target, model_name, version, label
        self.timeout, self.cast, self.max_rows = timeout, cast, max_rows
        self._signatures: dict[str, Signature] | None = None
        options = _channel_options(retries)
        if credentials is None:
            self._channel = grpc.insecure_channel(target, options)
        else:
            self._channel = grpc.secure_channel(target, credentials, options)
        prediction, model = messages.PREDICTION_SERVICE, messages.MODEL_SERVICE
        self._predict = self._method(f"/{prediction}/Predict", messages.PredictResponse)
        self._metadata = self._method(f"/{prediction}/GetModelMetadata", messages.GetModelMetadataResponse)
        self._status = self._method(f"/{model}/GetModelStatus", messages.GetModelStatusResponse)

    def predict(
        self,
        columns: Mapping[str, NDArray[Any] | Sequence[Any]],
        signature_name: str = DEFAULT_SIGNATURE,
        outputs: Sequence[str] = (),
        timeout: float | None = None,
    ) -> dict[str, NDArray[Any]]:
        """Returns the model's outputs for a batch of rows, in order.

        Args:
            columns: An array or list for each input, all with the same number of rows.
            signature_name: Signature to call.
            outputs: Outputs to return; all of them if empty.
            timeout: Seconds that each request may take, instead of the client's.

        Raises:
            ValueError: If columns do not fit the signature or each other.
            PredictError: If the server refuses, is late, or cannot be reached.
        """
        arrays = self._arrays(columns, signature_name, timeout)
        pieces, parts = list(_pieces(arrays, self.max_rows)), []
        for piece in pieces:
            request = messages.PredictRequest(model_spec=self._model_spec(), output_filter=outputs)
            request.model_spec.signature_name = signature_name
            for name, array in arrays.items():
                fill_proto(request.inputs[name], array[piece])
            response = self._call(self._predict, request, timeout)
            parts.append({name: from_proto(response.outputs[name]) for name in sorted(response.outputs)})
        return _concatenate(parts, pieces)

    def predict_examples(
        self, examples: Sequence[bytes], outputs: Sequence[str] = (), timeout: float | None = None
    ) -> dict[str, NDArray[Any]]:
        """Returns the model's outputs for serialized tf.Examples, by the signature `serialized_examples`."""
        column = np.empty(len(examples), object)
        column[:] = examples
        return self.predict({EXAMPLES_INPUT: column}, EXAMPLES_SIGNATURE, outputs, timeout)

    def metadata(self, timeout: float | None = None) -> dict[str, Signature]:
        """Returns the model's signatures, as the server declares them now."""
        request = messages.GetModelMetadataRequest(model_spec=self._model_spec(), metadata_field=["signature_def"])
        response = self._call(self._metadata, request, timeout)
        stored = messages.SignatureDefMap()
        response.metadata["signature_def"].Unpack(stored)
        names = sorted(stored.signature_def.keys() - {_INIT_OP})
        return {name: read_signature(stored.signature_def[name]) for name in names}

    def status(self, timeout: float | None = None) -> list[VersionStatus]:
        """Returns the state of each version that the server knows."""
        request = messages.GetModelStatusRequest(model_spec=self._model_spec())
        response = self._call(self._status, request, timeout)
        names = messages.ModelVersionStatus.State
        return [
            VersionStatus(status.version, names.Name(status.state), status.status.error_message)
            for status in response.model_version_status
        ]

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _arrays(
        self, columns: Mapping[str, Any], signature_name: str, timeout: float | None
    ) -> dict[str, NDArray[Any]]:
        if not self.cast:
            return {name: as_array(name, column) for name, column in columns.items()}
        if self._signatures is None:
            self._signatures = self.metadata(timeout)
        if signature_name not in self._signatures:
            known = ", ".join(self._signatures)
            raise ValueError(f"model {self.model_name!r} has no signature {signature_name!r}. It has: {known}")
        return cast_columns(columns, self._signatures[signature_name].inputs)

    def _model_spec(self) -> Any:
        spec = messages.ModelSpec(name=self.model_name)
        if self.version is not None:
            spec.version.value = self.version
        if self.label is not None:
            spec.version_label = self.label
        return spec

    def _method(self, path: str, response: Any) -> Any:
        return self._channel.unary_unary(
            path,
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=response.FromString,
        )

    def _call(self, method: Any, request: Any, timeout: float | None) -> Any:
        try:
            return method(request, timeout=self.timeout if timeout is None else timeout)
        except grpc.RpcError as error:
            if error.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND):
                self._signatures = None  # another version may be served now: ask again before the next request
            raise PredictError(
                f"model {self.model_name!r} at {self.target}: {error.code().name}: {error.details()}", error.code()
            ) from error


def _channel_options(retries: int) -> list[tuple[str, Any]]:
    if not 0 <= retries <= 4:
        raise ValueError(f"`retries` must be from 0 to 4, what gRPC allows. Received: retries={retries}")
    options: list[tuple[str, Any]] = [
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
        # Else a server that is back is not looked for within the first second.
        ("grpc.initial_reconnect_backoff_ms", 100),
    ]
    if retries:
        policy = {
            "maxAttempts": 1 + retries,
            "initialBackoff": "0.1s",
            "backoffMultiplier": 2,
            "maxBackoff": "1s",
            "retryableStatusCodes": ["UNAVAILABLE"],
        }
        options.append(("grpc.service_config", json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": policy}]})))
    return options


def _concatenate(parts: Sequence[Mapping[str, NDArray[Any]]], pieces: Sequence[slice]) -> dict[str, NDArray[Any]]:
    if len(parts) == 1:
        return dict(parts[0])
    for part, piece in zip(parts, pieces, strict=True):
        for name, array in part.items():
            rows = piece.stop - piece.start
            if array.shape[:1] != (rows,):
                raise ValueError(
                    f"output {name!r} must have a row for each of the {rows} rows sent, for the batch does not fit one "
                    f"request. Received: shape={array.shape}"
                )
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _pieces(arrays: Mapping[str, NDArray[Any]], max_rows: int) -> Iterator[slice]:
    """Slices of rows, each small enough for one request; the only one may be empty."""
    sizes = {name: array.shape[0] for name, array in arrays.items() if array.ndim}
    if len(sizes) < len(arrays):
        raise ValueError(f"columns must have rows. Received a scalar for: {', '.join(arrays.keys() - sizes.keys())}")
    if len(set(sizes.values())) > 1:
        raise ValueError(f"columns must have the same number of rows. Received: {sizes}")
    rows = next(iter(sizes.values()), 0)
    ends = np.cumsum(sum((_row_bytes(array) for array in arrays.values()), np.zeros(rows, np.int64)))
    room = MAX_REQUEST_BYTES - _FIXED_BYTES - sum(len(name) + _INPUT_BYTES for name in arrays)
    start = 0
    while start < rows or start == 0:
        before = ends[start - 1] if start else 0
        stop = int(np.searchsorted(ends, before + room, side="right"))
        stop = min(stop, start + max_rows)
        if stop == start and rows:
            raise ValueError(f"row {start} takes {ends[start] - before} bytes; a request has room for {room}.")
        yield slice(start, stop)
        if not rows:
            return
        start = stop


def _row_bytes(array: NDArray[Any]) -> NDArray[np.int64]:
    if array.dtype.kind != "O":
        return np.full(len(array), array.itemsize * math.prod(array.shape[1:]), np.int64)
    lengths = np.fromiter(map(len, array.flat), np.int64, array.size) + _STRING_BYTES
    return lengths.reshape(len(array), math.prod(array.shape[1:])).sum(axis=1)
