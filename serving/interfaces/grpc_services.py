"""PredictionService and ModelService over the loaded models."""

import asyncio
import inspect
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc.aio
from google.protobuf.message import DecodeError

from ..config.model_config import from_proto
from ..lifecycle.models import Models
from ..protocol import messages
from ..protocol.errors import GRPC_STATUS, INTERNAL, INVALID_ARGUMENT, RequestError
from ..servable import inference
from ..servable.batching import deadline

SIGNATURE_DEF = "signature_def"
_MAX_DETAILS = 2000  # gRPC sends details as a header, and a client refuses headers beyond 8 KB
_log = logging.getLogger(__name__)
# Of their own, as reloads wait for requests, and those may need a thread of the loop.
_reloading = ThreadPoolExecutor(1, thread_name_prefix="reload")


async def predict(models: Models, request: Any) -> Any:
    """Answers a PredictRequest."""
    spec = _model_spec(request)
    with models.counted(spec.name, "Predict", "GRPC"), models.use(spec) as servable:
        return await servable.predict(request)


async def classify(models: Models, request: Any) -> Any:
    """Answers a ClassificationRequest."""
    spec = _model_spec(request)
    with models.counted(spec.name, "Classify", "GRPC"), models.use(spec) as servable:
        return await inference.answer(servable, inference.classify(servable, request))


async def regress(models: Models, request: Any) -> Any:
    """Answers a RegressionRequest."""
    spec = _model_spec(request)
    with models.counted(spec.name, "Regress", "GRPC"), models.use(spec) as servable:
        return await inference.answer(servable, inference.regress(servable, request))


async def multi_inference(models: Models, request: Any) -> Any:
    """Answers a MultiInferenceRequest, by the version that its first task means."""
    spec = request.tasks[0].model_spec if request.tasks else messages.ModelSpec()
    with models.counted(spec.name, "MultiInference", "GRPC"), models.use(spec) as servable:
        return await inference.answer(servable, inference.multi_inference(servable, request))


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


_METHODS: dict[str, dict[str, tuple[Callable[[Models, Any], Any], Any]]] = {
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


def handlers(models: Models) -> list[grpc.GenericRpcHandler]:
    """The two services as handlers for a gRPC server of an event loop."""
    return [
        grpc.method_handlers_generic_handler(
            service,
            {name: _handler(models, answer, request) for name, (answer, request) in methods.items()},
        )
        for service, methods in _METHODS.items()
    ]


def _handler(models: Models, answer: Callable[[Models, Any], Any], request_class: Any) -> grpc.RpcMethodHandler:
    async def call(data: bytes, context: grpc.aio.ServicerContext) -> Any:
        remaining = context.time_remaining()
        if remaining is not None:
            deadline.set(asyncio.get_running_loop().time() + remaining)
        try:
            try:
                request = request_class.FromString(data)
            except DecodeError as error:
                raise RequestError(f"The request cannot be parsed: {error}", INTERNAL) from error
            response = answer(models, request)
            if inspect.isawaitable(response):
                response = await response
            return response if isinstance(response, bytes) else response.SerializeToString()
        except ValueError as error:
            code = getattr(error, "code", INTERNAL)
            if code == INTERNAL:
                _log.exception("a request failed")
            await context.abort(GRPC_STATUS.get(code, grpc.StatusCode.UNKNOWN), str(error)[:_MAX_DETAILS])

    return grpc.unary_unary_rpc_method_handler(call)
