"""Classify, Regress and MultiInference on one loaded version: from tf.Examples to classes with scores, and values.

Any signature of the right form is accepted, whatever its method name, as by default in tensorflow_model_server.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from c2al_tf.protocol import messages
from c2al_tf.protocol.tensors import dtype_name
from c2al_tf.saved_model import DEFAULT_SIGNATURE, Signature

from ..protocol.errors import UNIMPLEMENTED, RequestError
from ..protocol.memory import MAX_MEMORY, too_large
from .batching import seconds_left
from .servable import Servable

INPUTS = "inputs"
_CLASSES, _SCORES, _OUTPUTS = "classes", "scores", "outputs"
_CLASSIFY, _REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"
_Outputs = Mapping[str, NDArray[Any]]
_EXAMPLE = 2048
"""Bytes for an example beside its characters: copies, 256; its features in the model; its part of the response."""
_CONTEXT = 24
"""Bytes for a byte of context with an example: `bytes`, TensorFlow's copy, and what the model makes of it."""


class Inference(NamedTuple):
    """A request as calls of the model, and the way to its response.

    Attributes:
        inputs: The examples, as the only input of every signature.
        outputs: Names of the outputs that are wanted, by signature.
        response: Makes the response from the values of these outputs, by signature.
    """

    inputs: dict[str, NDArray[Any]]
    outputs: dict[str, list[str]]
    response: Callable[[Mapping[str, _Outputs]], Any]


async def answer(servable: Servable, inference: Inference, api: str) -> Any:
    """Answers a request: batched with others if it is for one signature, else by one call of the model."""
    inputs, outputs, response = inference
    if len(outputs) > 1:
        return response(await asyncio.to_thread(servable.model.run_together, inputs, outputs, seconds_left()))
    ((signature, names),) = outputs.items()
    return response({signature: await servable.run(inputs, signature, names, api)})


def classify(servable: Servable, request: Any) -> Inference:
    """Reads a ClassificationRequest."""
    return _read(servable, request, _FORMS[_CLASSIFY], messages.ClassificationResponse())


def regress(servable: Servable, request: Any) -> Inference:
    """Reads a RegressionRequest."""
    return _read(servable, request, _FORMS[_REGRESS], messages.RegressionResponse())


def multi_inference(servable: Servable, request: Any) -> Inference:
    """Reads a MultiInferenceRequest."""
    wanted: dict[str, list[str]] = {}
    for task in request.tasks:
        if not task.model_spec.name:
            raise RequestError("Found ModelSpec with an empty model name.")
        if task.model_spec.name != request.tasks[0].model_spec.name:
            raise RequestError("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
        name = _signature_name(task)
        if name in wanted:
            raise RequestError(f"Duplicate evaluation of signature: {name}")
        signature = _signature(servable, name, "Requested signature not found in model graph")
        if task.method_name not in _FORMS:
            raise RequestError(f"Unsupported signature method_name: {task.method_name}", UNIMPLEMENTED)
        wanted[name] = _wanted_outputs(_FORMS[task.method_name], name, signature)
    examples = read_examples(request.input)

    def respond(outputs: Mapping[str, _Outputs]) -> Any:
        response = messages.MultiInferenceResponse()
        for task in request.tasks:
            form, result = _FORMS[task.method_name], response.results.add()
            name = _signature_name(task)
            servable.fill_model_spec(result.model_spec, name)
            form.fill(getattr(result, form.result), outputs[name], len(examples))
        return response

    return Inference({INPUTS: examples}, wanted, respond)


def read_examples(given: Any) -> NDArray[Any]:
    """The serialized tf.Examples of an Input, (batch,), each with the context before it if there is one.

    In protobuf, two concatenated messages are merged; if both have a feature, the example's wins.

    Raises:
        RequestError: If there are no examples, or they would take too much memory.
    """
    kind = given.WhichOneof("kind")
    examples = getattr(given, kind).examples if kind else ()
    if not examples:
        raise RequestError("Input is empty.")
    context = given.example_list_with_context.context
    need = len(examples) * (_EXAMPLE + len(context) * _CONTEXT)
    if need > MAX_MEMORY:
        raise too_large(f"Input of {len(examples)} examples, each with {len(context)} bytes of context,", need)
    array = np.empty(len(examples), object)
    array[:] = [context + example for example in examples] if context else examples
    return array


def _read(servable: Servable, request: Any, form: "_Form", response: Any) -> Inference:
    name = _signature_name(request)
    wanted = _wanted_outputs(form, name, _signature(servable, name, "No signature was found with the name"))
    examples = read_examples(request.input)

    def respond(outputs: Mapping[str, _Outputs]) -> Any:
        form.fill(response.result, outputs[name], len(examples))
        servable.fill_model_spec(response.model_spec, name)
        return response

    return Inference({INPUTS: examples}, {name: wanted}, respond)


def _signature_name(asked: Any) -> str:
    return asked.model_spec.signature_name or DEFAULT_SIGNATURE


def _signature(servable: Servable, name: str, otherwise: str) -> Signature:
    signatures = servable.model.signatures
    if name not in signatures:
        raise RequestError(f"{otherwise}: {name}. The model has: {', '.join(signatures)}")
    return signatures[name]


def _wanted_outputs(form: "_Form", name: str, signature: Signature) -> list[str]:
    """The outputs that are wanted of a signature, which must have the form."""
    chosen = [output for output in form.outputs if output in signature.outputs]
    if len(signature.inputs) != 1:
        wrong = "Expected one input Tensor."
    elif INPUTS not in signature.inputs:
        wrong = f'No "{INPUTS}" found in SignatureDef:'
    elif not 1 <= len(signature.outputs) <= len(form.outputs):
        wrong = form.wrong_number.format(len(signature.outputs))
    elif not chosen:
        wrong = form.wrong_names
    else:
        return chosen
    inputs, outputs = ", ".join(signature.inputs), ", ".join(signature.outputs)
    has = f"inputs {{{inputs}}}, outputs {{{outputs}}}, method_name {signature.method_name}"
    raise RequestError(f"{wrong} Signature {name} has {has}")


def _fill_classes(result: Any, outputs: _Outputs, num_rows: int) -> None:
    for name, values in outputs.items():
        _check_output(name, values, np.dtype(object if name == _CLASSES else np.float32))
        if values.ndim != 2:
            raise RequestError(f"Expected Tensor shape: [batch_size num_classes] but got {list(values.shape)}")
        if len(values) != num_rows:
            raise RequestError(f"Expected {name} output batch size of {num_rows}. Got: {len(values)}")
    shape = next(iter(outputs.values())).shape
    labels, scores = outputs.get(_CLASSES, np.full(shape, b"", object)), outputs.get(_SCORES, np.zeros(shape))
    if labels.shape != scores.shape:
        received = f"Got {labels.shape[1]} vs. {scores.shape[1]}"
        raise RequestError(f"Tensors class and score should match in dim_size(1). {received}")
    for of_row in zip(labels.tolist(), scores.tolist(), strict=True):
        classes = result.classifications.add().classes
        for label, score in zip(*of_row, strict=True):
            classes.add(label=label.decode(errors="replace"), score=score)


def _fill_values(result: Any, outputs: _Outputs, num_rows: int) -> None:
    values = outputs[_OUTPUTS]
    _check_output(_OUTPUTS, values, np.dtype(np.float32))
    if values.ndim != 1 and values.shape[1:] != (1,):
        wanted, received = "either [batch_size] or [batch_size, 1]", list(values.shape)
        raise RequestError(f"Expected output Tensor shape to be {wanted} but got {received}")
    if len(values) != num_rows:
        raise RequestError(f"Input batch size did not match output batch size: {num_rows} vs. {len(values)}")
    for value in values.ravel().tolist():
        result.regressions.add(value=value)


def _check_output(name: str, values: NDArray[Any], dtype: np.dtype[Any]) -> None:
    if values.dtype != dtype:
        raise RequestError(f"Expected {name} Tensor of {dtype_name(dtype)}. Got: {dtype_name(values.dtype)}")


class _Form(NamedTuple):
    """How Classify and Regress differ."""

    outputs: tuple[str, ...]  # of which a signature has one at least, and no others
    wrong_number: str
    wrong_names: str
    fill: Callable[[Any, _Outputs, int], None]
    result: str  # the field of an InferenceResult


_FORMS = {
    _CLASSIFY: _Form(
        (_CLASSES, _SCORES),
        "Expected one or two output Tensors, found {}.",
        f'Expected classification signature outputs to contain at least one of "{_CLASSES}" or "{_SCORES}".',
        _fill_classes,
        "classification_result",
    ),
    _REGRESS: _Form(
        (_OUTPUTS,),
        "Expected one output Tensor.",
        "No regression outputs found in SignatureDef:",
        _fill_values,
        "regression_result",
    ),
}

READERS: dict[str, Callable[[Servable, Any], Inference]] = {
    "classify_log": classify,
    "regress_log": regress,
    "multi_inference_log": multi_inference,
}
"""What reads a request, by the field of a PredictionLog that has it."""
