"""PredictionService and ModelService over the loaded models."""

import asyncio
import contextlib
import inspect
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import grpc.aio
from google.protobuf.message import DecodeError

from c2al_tf.protocol import messages

from ..config.model_config import from_proto
from ..lifecycle.models import Models
from ..protocol.errors import GRPC_STATUS, INTERNAL, INVALID_ARGUMENT, PERMISSION_DENIED, RequestError
from ..protocol.memory import check_memory
from ..servable import inference
from ..servable.batching import deadline
from ..servable.reading import Reader
from .room import Room

SIGNATURE_DEF = "signature_def"
MAX_MESSAGE = 12 << 20
"""Bytes of a request: its tensors are copied up to four times, within `memory.MAX_MEMORY`."""
MAX_PLAIN_MESSAGE = 2**17
"""Bytes of a request that is not for inference: a list of models is the longest."""
_MAX_DETAILS = 1024
_log = logging.getLogger(__name__)
# Of their own, as reloads wait for requests, and those may need a thread of the loop.
_reloading = ThreadPoolExecutor(1, thread_name_prefix="reload")


_reader = Reader()
"""Shared by all servers and versions: clients send the same forms to each."""


def _parse(request_class: Any, data: bytes) -> tuple[Any, None]:
    check_memory(request_class, data)
    return request_class.FromString(data), None


async def predict(models: Models, request: Any, inputs: Any) -> Any:
    """Answers a PredictRequest, given its inputs as arrays."""
    with models.use(_model_spec(request)) as servable:
        return await servable.predict(request, inputs)


async def infer(api: str, read: Callable[..., inference.Inference], models: Models, request: Any, _: None) -> Any:
    """Answers a ClassificationRequest, a RegressionRequest or a MultiInferenceRequest, by the model that it names."""
    with models.use(_model_spec(request)) as servable:
        return await inference.answer(servable, read(servable, request), api)


def get_model_metadata(models: Models, request: Any) -> Any:
    """Answers a GetModelMetadataRequest: the signatures."""
    spec = _model_spec(request)
    if not request.metadata_field:
        raise RequestError("GetModelMetadataRequest must specify at least one metadata_field")
    for field in request.metadata_field:
        if field != SIGNATURE_DEF:
            raise RequestError(f"Metadata field {field} is not supported. Supported: {SIGNATURE_DEF}")
    with models.use(spec) as servable:
        answering = {"name": servable.name, "version": {"value": servable.version}}
        signatures = messages.SignatureDefMap(signature_def=servable.model.signature_defs)
    response = messages.GetModelMetadataResponse(model_spec=answering)
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
    return messages.ReloadConfigResponse(status={})


def _refuse_reload(models: Models, request: Any) -> Any:
    raise RequestError("This server does not let its models be changed (--no-reload-config).", PERMISSION_DENIED)


def _model_spec(request: Any) -> Any:
    """The ModelSpec that a request names its model by: MultiInference's first task has it."""
    if hasattr(request, "tasks"):
        return request.tasks[0].model_spec if request.tasks else messages.ModelSpec()
    if not request.HasField("model_spec"):
        raise RequestError("Missing ModelSpec")
    return request.model_spec


_INFERENCES: dict[str, tuple[Callable[..., Any], Callable[[bytes], Any]]] = {
    "Predict": (predict, _reader.read),
    "Classify": (partial(infer, "Classify", inference.classify), partial(_parse, messages.ClassificationRequest)),
    "Regress": (partial(infer, "Regress", inference.regress), partial(_parse, messages.RegressionRequest)),
    "MultiInference": (
        partial(infer, "MultiInference", inference.multi_inference),
        partial(_parse, messages.MultiInferenceRequest),
    ),
}


def handlers(models: Models, room: Room, reloads: bool) -> list[grpc.GenericRpcHandler]:
    """The two services as handlers for a gRPC server of an event loop; with `reloads`, requests may change models."""
    plain: dict[str, tuple[Callable[..., Any], Any]] = {
        "GetModelMetadata": (get_model_metadata, messages.GetModelMetadataRequest),
        "GetModelStatus": (get_model_status, messages.GetModelStatusRequest),
        "HandleReloadConfigRequest": (reload_config if reloads else _refuse_reload, messages.ReloadConfigRequest),
    }
    found = {name: _infer(models, room, name, *method) for name, method in _INFERENCES.items()}
    found |= {name: _answer_plain(models, *method) for name, method in plain.items()}
    return [
        grpc.method_handlers_generic_handler(
            f"tensorflow.serving.{service}", {name: _handler(found[name]) for name in methods}
        )
        for service, methods in messages.SERVICES.items()
    ]


def _infer(models: Models, room: Room, name: str, answer: Callable[..., Any], read: Callable[[bytes], Any]) -> Any:
    async def call(data: bytes) -> Any:
        request, inputs = read(data)
        is_counted = name != "MultiInference"  # as in the real server
        counted = models.counted(request.model_spec.name, name, "GRPC") if is_counted else contextlib.nullcontext()
        with counted, room.enter(len(data)):
            return await answer(models, request, inputs)

    return call


def _answer_plain(models: Models, answer: Callable[..., Any], request_class: Any) -> Any:
    async def call(data: bytes) -> Any:
        if len(data) > MAX_PLAIN_MESSAGE:
            raise RequestError(f"a request may have {MAX_PLAIN_MESSAGE} bytes. Received: {len(data)} bytes")
        response = answer(models, request_class.FromString(data))
        return await response if inspect.isawaitable(response) else response

    return call


def _handler(answer: Callable[[bytes], Any]) -> grpc.RpcMethodHandler:
    async def call(data: bytes, context: grpc.aio.ServicerContext) -> Any:
        remaining = context.time_remaining()
        if remaining is not None:
            deadline.set(time.monotonic() + remaining)
        try:
            return (await answer(data)).SerializeToString()
        except DecodeError as error:
            code, text = INTERNAL, f"The request cannot be parsed: {error}"
        except ValueError as error:
            code, text = getattr(error, "code", INTERNAL), str(error)
            if not hasattr(error, "code"):
                _log.exception("a request failed")
        details = text.encode()
        if len(details) > _MAX_DETAILS:
            details = details[:_MAX_DETAILS] + b"...TRUNCATED"
        await context.abort(GRPC_STATUS.get(code, grpc.StatusCode.UNKNOWN), details.decode(errors="ignore"))

    return grpc.unary_unary_rpc_method_handler(call)
