"""What the blocking and the asyncio client share: their arguments, the requests, and what the answers mean."""

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from ..protocol import messages
from ..protocol.tensors import fill_proto, from_proto
from . import pieces
from .casting import Signature, as_array, cast_columns, read_signature
from .frames import Rows, named_columns

DEFAULT_SIGNATURE = "serving_default"
EXAMPLES_SIGNATURE, EXAMPLES_INPUT = "serialized_examples", "examples"
_INIT_OP = "__saved_model_init_op"  # stored among the signatures, but nothing to call


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


class ModelClient:
    """Asks one model of one server: the part that does not depend on how calls are made.

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
        options, transport = _channel_options(retries), self._transport()
        if credentials is None:
            self._channel = transport.insecure_channel(target, options)
        else:
            self._channel = transport.secure_channel(target, credentials, options)
        prediction, model = messages.PREDICTION_SERVICE, messages.MODEL_SERVICE
        self._predict = self._method(f"/{prediction}/Predict", messages.PredictResponse)
        self._metadata = self._method(f"/{prediction}/GetModelMetadata", messages.GetModelMetadataResponse)
        self._status = self._method(f"/{model}/GetModelStatus", messages.GetModelStatusResponse)

    def _transport(self) -> ModuleType:
        """What makes the channel: `grpc` or `grpc.aio`."""
        raise NotImplementedError

    def _method(self, path: str, response: Any) -> Any:
        return self._channel.unary_unary(
            path,
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=response.FromString,
        )

    def _split(
        self, columns: Rows, signatures: Mapping[str, Signature] | None, signature_name: str, outputs: Sequence[str]
    ) -> tuple[list[slice], Iterator[tuple[int, Any]]]:
        """The pieces of a batch, and their numbered requests, each made when it is its turn."""
        arrays = self._arrays(named_columns(columns), signatures, signature_name)
        slices = list(pieces.split(arrays, self.max_rows))

        def requests() -> Iterator[tuple[int, Any]]:
            for number, piece in enumerate(slices):
                request = messages.PredictRequest(model_spec=self._model_spec(), output_filter=outputs)
                request.model_spec.signature_name = signature_name
                for name, array in arrays.items():
                    fill_proto(request.inputs[name], array[piece])
                yield number, request

        return slices, requests()

    def _arrays(
        self, columns: Mapping[str, Any], signatures: Mapping[str, Signature] | None, signature_name: str
    ) -> dict[str, NDArray[Any]]:
        if signatures is None:
            return {name: as_array(name, column) for name, column in columns.items()}
        if signature_name not in signatures:
            known = ", ".join(signatures)
            raise ValueError(f"model {self.model_name!r} has no signature {signature_name!r}. It has: {known}")
        return cast_columns(columns, signatures[signature_name].inputs)

    def _metadata_request(self) -> Any:
        return messages.GetModelMetadataRequest(model_spec=self._model_spec(), metadata_field=["signature_def"])

    def _status_request(self) -> Any:
        return messages.GetModelStatusRequest(model_spec=self._model_spec())

    def _model_spec(self) -> Any:
        spec = messages.ModelSpec(name=self.model_name)
        if self.version is not None:
            spec.version.value = self.version
        if self.label is not None:
            spec.version_label = self.label
        return spec

    def _pin(self, response: Any) -> int:
        """Asks the version that a GetModelMetadataResponse came from, and no other, from now on."""
        if not response.model_spec.HasField("version"):
            raise ValueError(f"{self.target} does not tell which version answers: give `version`")
        self.version, self.label, self._signatures = response.model_spec.version.value, None, None
        return self.version

    def _refused(self, error: Any) -> PredictError:
        code = error.code()
        if code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND):
            self._signatures = None  # another version may be served now: ask again before the next request
        return PredictError(f"model {self.model_name!r} at {self.target}: {code.name}: {error.details()}", code)


def as_column(examples: Sequence[bytes]) -> dict[str, NDArray[Any]]:
    """Serialized tf.Examples as the input of the signature `serialized_examples`."""
    column = np.empty(len(examples), object)
    column[:] = examples
    return {EXAMPLES_INPUT: column}


def read_outputs(response: Any) -> dict[str, NDArray[Any]]:
    """The arrays of a PredictResponse."""
    return {name: from_proto(response.outputs[name]) for name in sorted(response.outputs)}


def read_signatures(response: Any) -> dict[str, Signature]:
    """The signatures of a GetModelMetadataResponse."""
    stored = messages.SignatureDefMap()
    response.metadata["signature_def"].Unpack(stored)
    names = sorted(stored.signature_def.keys() - {_INIT_OP})
    return {name: read_signature(stored.signature_def[name]) for name in names}


def read_status(response: Any) -> list[VersionStatus]:
    """The versions of a GetModelStatusResponse."""
    names = messages.ModelVersionStatus.State
    return [
        VersionStatus(status.version, names.Name(status.state), status.status.error_message)
        for status in response.model_version_status
    ]


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
