"""TensorFlow Serving's REST API over the loaded models: what a request is answered; `rest_server` has the HTTP."""

import asyncio
import json
import re
import urllib.parse
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from google.protobuf import json_format

from c2al_tf.protocol import messages
from c2al_tf.saved_model import DEFAULT_SIGNATURE, SavedModelError

from ..lifecycle.models import Models
from ..protocol.errors import NOT_FOUND, RequestError
from ..protocol.memory import MAX_MEMORY
from ..servable import inference
from .grpc_services import SIGNATURE_DEF, get_model_metadata
from .json_examples import AS_FLOAT, fill_input, write_classifications, write_regressions
from .json_memory import ARRAYS, EXAMPLES, MAX_SHOWN, check_body, shown
from .json_tensors import ROWS, read_inputs, write_outputs

T = TypeVar("T")
_VERSION = r"(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
# As in the real server, letters of either case match, but `PREDICT` is no method then.
_PATHS = {
    "POST": re.compile(rf"(?ia)/v1/models/(?P<name>[^/:]+){_VERSION}:(?P<api>classify|regress|predict)"),
    "GET": re.compile(rf"(?ia)/v1/models(?:/(?P<name>[^/:]+))?{_VERSION}(?:/(?P<part>metadata))?"),
}
_LARGE = 1 << 16
_to_dict = partial(
    json_format.MessageToDict,
    preserving_proto_field_name=True,
    always_print_fields_with_no_presence=True,
    descriptor_pool=messages.POOL,
)


async def answer(models: Models, method: str, path: str, body: bytes | RequestError, room: int = MAX_MEMORY) -> bytes:
    """The JSON that a request gets.

    Args:
        models: What answers.
        method: HTTP's, such as `POST`.
        path: With its query, which the real server takes for a part of it.
        body: What was sent, or why it was refused: that is counted, and raised.
        room: Bytes of memory that the request may cost beside its body.

    Raises:
        RequestError: If the request has no such form, or means no loaded model.
        SavedModelError: If the model refuses the inputs.
    """
    if not path.lower().startswith("/v1/"):
        raise RequestError(f"Not found: {path}", NOT_FOUND)
    match = _PATHS[method].fullmatch(path) if method in _PATHS else None
    parts = match.groupdict("") if match else {}
    name, api = urllib.parse.unquote(parts.get("name", "")), parts.get("api", "")
    with models.counted(name, api, "REST"):
        if isinstance(body, RequestError):
            raise body
        if match is None or api not in ("", *_INFERENCES):
            raise RequestError(f"Malformed request: {method} {path}")
        spec = _model_spec(name, parts["version"], urllib.parse.unquote(parts["label"]))
        if api:
            return await _INFERENCES[api](models, spec, body, room)
        if not name:
            raise RequestError("Missing model name in request.")
        return _dump(_metadata, models, spec) if parts["part"] == "metadata" else _dump(_to_dict, models.status(spec))


def _model_spec(name: str, version: str, label: str) -> Any:
    try:
        spec = messages.ModelSpec(name=name)
        if version:
            spec.version.value = int(version)
        elif label:
            spec.version_label = label
    except ValueError as error:  # no UTF-8, or more than an int64
        raise RequestError(f"Failed to convert model {name!r}, version {version!r}, label {label!r}") from error
    return spec


async def _predict(models: Models, spec: Any, body: bytes, room: int) -> bytes:
    request, signature = await _off_loop(len(body), _parse, body, ARRAYS, room)
    with models.use(spec) as servable:
        known = servable.model.signatures
        if signature not in known:
            what = f'Serving signature name: "{signature:.{MAX_SHOWN}}" not found in signature def'
            raise RequestError(f"{what}: {', '.join(known)}")
        inputs = await _off_loop(len(body), read_inputs, request, known[signature].inputs)
        outputs = await servable.run(inputs, signature)
        size = sum(array.nbytes for array in outputs.values())
        return await _off_loop(size, _dump, write_outputs, outputs, ROWS in request)


async def _infer(
    api: str, request_class: Any, read: Any, write: Any, models: Models, spec: Any, body: bytes, room: int
) -> bytes:
    request = request_class(model_spec=spec)
    await _off_loop(len(body), _fill, request, body, room)
    with models.use(spec) as servable:
        try:
            result = (await inference.answer(servable, read(servable, request), api)).result
        except SavedModelError as error:
            advice = f" {AS_FLOAT}" if "expected type: float" in str(error) else ""
            raise RequestError(f"{error}{advice}", error.code) from error
        return await _off_loop(result.ByteSize(), _dump, write, result)


_INFERENCES: dict[str, Callable[..., Any]] = {
    "predict": _predict,
    "classify": partial(_infer, "Classify", messages.ClassificationRequest, inference.classify, write_classifications),
    "regress": partial(_infer, "Regress", messages.RegressionRequest, inference.regress, write_regressions),
}


async def _off_loop(size: int, function: Callable[..., T], *args: Any) -> T:
    """Calls a function; in a thread if it has so many bytes to work on that others would have to wait."""
    return await asyncio.to_thread(function, *args) if size > _LARGE else function(*args)


def _fill(request: Any, body: bytes, room: int) -> None:
    given, signature = _parse(body, EXAMPLES, room)
    try:
        request.model_spec.signature_name = signature
        fill_input(request.input, given)
    except UnicodeEncodeError as error:  # half of a surrogate pair
        raise RequestError(f"JSON Parse error: {error}") from error


def _parse(body: bytes, costs: Mapping[bytes, int], room: int) -> tuple[dict[str, Any], str]:
    """The request, and the signature that it names."""
    check_body(body, costs, room)
    try:
        request = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"JSON Parse error: {error}") from error
    if not isinstance(request, dict):
        raise RequestError("JSON Parse error: the request must be an object.")
    signature = request.get("signature_name", "")
    if not isinstance(signature, str):
        raise RequestError(f"'signature_name' key must be a string value. Received: {shown(signature)}")
    return request, signature or DEFAULT_SIGNATURE


def _dump(content: Callable[..., dict[str, Any]], *args: Any) -> bytes:
    return json.dumps(content(*args)).encode()


def _metadata(models: Models, spec: Any) -> dict[str, Any]:
    request = messages.GetModelMetadataRequest(model_spec=spec, metadata_field=[SIGNATURE_DEF])
    response, signatures = get_model_metadata(models, request), messages.SignatureDefMap()
    response.metadata[SIGNATURE_DEF].Unpack(signatures)
    return {"model_spec": _to_dict(response.model_spec), "metadata": {SIGNATURE_DEF: _to_dict(signatures)}}
