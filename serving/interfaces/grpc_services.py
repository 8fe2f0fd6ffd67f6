"""PredictionService and ModelService over the loaded models."""

import asyncio
import inspect
import logging
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc.aio
from google.protobuf.message import DecodeError

from ..config.model_config import from_proto
from ..lifecycle.models import Models
from ..protocol import messages
from ..protocol.envelope import read_envelope
from ..protocol.errors import GRPC_STATUS, INTERNAL, INVALID_ARGUMENT, RESOURCE_EXHAUSTED, UNAVAILABLE, RequestError
from ..protocol.memory import MAX_MEMORY, parsed_bytes
from ..servable import inference
from ..servable.batching import deadline

SIGNATURE_DEF = "signature_def"
MAX_MESSAGE = 28 << 20
"""Bytes of a request: gRPC holds it twice while it comes in, and the tensors are two more copies of it."""
MAX_PLAIN_MESSAGE = 2**17
"""Bytes of a request that is not for inference: a list of models is the longest."""
_MAX_DETAILS = 2000  # bytes, up to three on the wire for each: a client refuses headers beyond 8 KB
_READING_SECONDS = 0.2
_log = logging.getLogger(__name__)
# Of their own, as reloads wait for requests, and those may need a thread of the loop.
_reloading = ThreadPoolExecutor(1, thread_name_prefix="reload")


async def predict(models: Models, request: Any, room: int) -> Any:
    """Answers a PredictRequest, read as a PredictEnvelope; `room`: see `Servable.predict`."""
    spec = _model_spec(request)
    with models.use(spec) as servable:
        return await servable.predict(request, room)


async def classify(models: Models, request: Any, room: int) -> Any:
    """Answers a ClassificationRequest; `room`: see `inference.read_examples`."""
    spec = _model_spec(request)
    with models.use(spec) as servable:
        return await inference.answer(servable, inference.classify(servable, request, room))


async def regress(models: Models, request: Any, room: int) -> Any:
    """Answers a RegressionRequest; `room`: see `inference.read_examples`."""
    spec = _model_spec(request)
    with models.use(spec) as servable:
        return await inference.answer(servable, inference.regress(servable, request, room))


async def multi_inference(models: Models, request: Any, room: int) -> Any:
    """Answers a MultiInferenceRequest, by the version of its first task; `room`: see `inference.read_examples`."""
    spec = request.tasks[0].model_spec if request.tasks else messages.ModelSpec()
    with models.use(spec) as servable:
        return await inference.answer(servable, inference.multi_inference(servable, request, room))


def get_model_metadata(models: Models, request: Any) -> Any:
    """Answers a GetModelMetadataRequest: the signatures."""
    spec = _model_spec(request)
    if not request.metadata_field:
        raise RequestError("GetModelMetadataRequest must specify at least one metadata_field")
    for field in request.metadata_field:
        if field != SIGNATURE_DEF:
            raise RequestError(f"Metadata field {field} is not supported. Supported: {SIGNATURE_DEF}")
    response = messages.GetModelMetadataResponse()
    signatures = messages.SignatureDefMap()
    with models.use(spec) as servable:
        response.model_spec.name = servable.name
        response.model_spec.version.value = servable.version
        for name, serialized in servable.model.signature_defs.items():
            signatures.signature_def[name].ParseFromString(serialized)
    response.metadata[SIGNATURE_DEF].Pack(signatures)
    return response


def get_model_status(models: Models, request: Any) -> Any:
    """Answers a GetModelStatusRequest."""
    return models.status(_model_spec(request))


async def reload_config(models: Models, request: Any) -> Any:
    """Answers a ReloadConfigRequest: the server has these models from now on."""
    try:
        configs = from_proto(request.config)
        await asyncio.get_running_loop().run_in_executor(_reloading, models.reload, configs)
    except ValueError as error:
        raise RequestError(str(error), getattr(error, "code", INVALID_ARGUMENT)) from error
    response = messages.ReloadConfigResponse()
    response.status.SetInParent()
    return response


def _model_spec(request: Any) -> Any:
    if not request.HasField("model_spec"):
        raise RequestError("Missing ModelSpec")
    return request.model_spec


_METHODS: dict[str, dict[str, tuple[Callable[..., Any], Any]]] = {
    messages.PREDICTION_SERVICE: {
        "Predict": (predict, messages.PredictEnvelope),
        "Classify": (classify, messages.ClassificationRequest),
        "Regress": (regress, messages.RegressionRequest),
        "MultiInference": (multi_inference, messages.MultiInferenceRequest),
        "GetModelMetadata": (get_model_metadata, messages.GetModelMetadataRequest),
    },
    messages.MODEL_SERVICE: {
        "GetModelStatus": (get_model_status, messages.GetModelStatusRequest),
        "HandleReloadConfigRequest": (reload_config, messages.ReloadConfigRequest),
    },
}


_INFERENCES = ("Predict", "Classify", "Regress", "MultiInference")


class Room:
    """For so many requests for inference at a time, until it is closed. For one event loop. A context manager."""

    def __init__(self, size: int) -> None:
        self._size = self._left = size
        self._closed, self._last_exit = False, -math.inf

    def __enter__(self) -> None:
        if self._closed:
            raise RequestError("The server is about to stop.", UNAVAILABLE)
        if self._left == 0:
            raise RequestError(f"{self._size} requests are under way, which is the bound.", RESOURCE_EXHAUSTED)
        self._left -= 1

    def __exit__(self, *_: object) -> None:
        self._left += 1
        self._last_exit = time.monotonic()

    async def close(self, seconds: float) -> None:
        """Lets no more in, and waits until all have left and their answers been read, so many seconds at most."""
        self._closed, end = True, time.monotonic() + seconds
        while self._left < self._size and time.monotonic() < end:
            await asyncio.sleep(0.01)
        # A connection that gRPC closes before its client has read it all may be reset.
        await asyncio.sleep(max(0.0, min(end, self._last_exit + _READING_SECONDS) - time.monotonic()))


def handlers(models: Models, room: Room) -> list[grpc.GenericRpcHandler]:
    """The two services as handlers for a gRPC server of an event loop: requests for inference need room."""
    return [
        grpc.method_handlers_generic_handler(
            service, {name: _handler(models, room, name, *method) for name, method in methods.items()}
        )
        for service, methods in _METHODS.items()
    ]


def _handler(
    models: Models, room: Room, name: str, answer: Callable[..., Any], request_class: Any
) -> grpc.RpcMethodHandler:
    async def infer(request: Any, memory: int) -> Any:
        with models.counted(_model_name(request), name, "GRPC"), room:
            return await answer(models, request, memory)

    async def call(data: bytes, context: grpc.aio.ServicerContext) -> Any:
        remaining = context.time_remaining()
        if remaining is not None:
            deadline.set(asyncio.get_running_loop().time() + remaining)
        try:
            request, memory = _read(name, request_class, data)
            response = infer(request, memory) if name in _INFERENCES else answer(models, request)
            if inspect.isawaitable(response):
                response = await response
            return response if isinstance(response, bytes) else response.SerializeToString()
        except ValueError as error:
            if not hasattr(error, "code"):
                _log.exception("a request failed")
            code = getattr(error, "code", INTERNAL)
            details = str(error).encode()[:_MAX_DETAILS].decode(errors="ignore")
            await context.abort(GRPC_STATUS.get(code, grpc.StatusCode.UNKNOWN), details)

    return grpc.unary_unary_rpc_method_handler(call)


def _read(name: str, request_class: Any, data: bytes) -> tuple[Any, int]:
    """A method's request, and the bytes of memory that its inputs may still cost."""
    try:
        if request_class is messages.PredictEnvelope:
            return read_envelope(data)
        if name not in _INFERENCES and len(data) > MAX_PLAIN_MESSAGE:
            raise RequestError(f"{name}: a request may have {MAX_PLAIN_MESSAGE} bytes. Received: {len(data)} bytes")
        parsed_bytes(request_class, data, "The request")
        return request_class.FromString(data), MAX_MEMORY - 3 * len(data)
    except DecodeError as error:
        raise RequestError(f"The request cannot be parsed: {error}", INTERNAL) from error


def _model_name(request: Any) -> str:
    """The model that a request for inference names, if any."""
    specs = [task.model_spec for task in request.tasks[:1]] if hasattr(request, "tasks") else [request.model_spec]
    return "".join(spec.name for spec in specs)
