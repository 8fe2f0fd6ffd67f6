"""The signatures of an export: raw columns, serialized tf.Examples, and TensorFlow Serving's classify and regress."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.saved_model import fingerprinting_utils

from ..form import named_outputs
from ..types import Array, Columns, Tensor
from .facts import ExportError
from .reading import Reading
from .tables import tables

COLUMNS, EXAMPLES, CLASSIFY, REGRESS = "serving_default", "serialized_examples", "classify", "regress"
LABELS = ("0", "1")
"""The classes of a binary task, in the order of their scores."""

_names = tf.saved_model


def write_saved_model(model: keras.Model, reading: Reading, directory: Path, from_logits: bool | None) -> None:
    """Writes `model`, which has no auxiliary heads, with all signatures."""
    module = _ServingModule(model, reading, from_logits)
    signatures = module.signatures
    del module.signatures
    try:
        tf.saved_model.save(module, str(directory), signatures=signatures)
    except AssertionError as error:  # what TensorFlow raises for a table that no object of the module holds
        raise ExportError(
            "The lookup tables of the model and of `preprocess` must be found: layers, modules, objects and functions "
            "must hold them as attributes or refer to them by name. "
            f"Received: {model!r}, preprocess={reading.owner!r}; TensorFlow says: {error}"
        ) from error
    if from_logits is not None:
        _add_forms(directory)


def predicted(model: keras.Model, outputs: Any, from_logits: bool | None) -> dict[str, Tensor]:
    """The outputs of Predict for what a model gives.

    Args:
        model: The model, which may name several outputs.
        outputs: What it gave.
        from_logits: Whether these are logits (batch, 1) or (batch,), or else probabilities; None: anything, which is
            given as it is under the names of `keras.Model.export`.

    Raises:
        ValueError: If several outputs have no names, or an output is not of a binary task where it must be.
    """
    if from_logits is None:
        leaves = outputs if isinstance(outputs, list | tuple) else [outputs]
        named = outputs if isinstance(outputs, Mapping) else {f"output_{n}": x for n, x in enumerate(leaves)}
        return {name: tf.convert_to_tensor(values) for name, values in named.items()}
    found: dict[str, Tensor] = {}
    tasks = named_outputs(model, outputs)
    for task, values in tasks.items():
        if len(values.shape) not in (1, 2) or values.shape[1:] not in ((), (1,)):
            raise ValueError(
                "Outputs must be (batch, 1) or (batch,) each where `from_logits` is given; `from_logits=None` gives "
                f"them as they are. Received: `{task}` of shape {tuple(values.shape)}"
            )
        prefix = "" if len(tasks) == 1 else f"{task}_"
        values = tf.reshape(tf.cast(values, tf.float32), (-1, 1))
        if from_logits:
            found[f"{prefix}logits"], values = values, tf.sigmoid(values)
        found[f"{prefix}probabilities"] = values
    return found


def signature_outputs(outputs: Mapping[str, Tensor], from_logits: bool | None) -> dict[str, dict[str, Tensor]]:
    """The outputs of each signature, for those of Predict."""
    forms = {} if from_logits is None else _forms(outputs)
    return {COLUMNS: dict(outputs), EXAMPLES: dict(outputs), **forms}


def signature_inputs(
    columns: Columns, reading: Reading, signatures: Iterable[str], examples: Array | None = None
) -> dict[str, Columns]:
    """The same rows as the inputs of each signature; tf.Examples are written unless they are given."""
    examples = np.array(reading.write(columns) if examples is None else examples, object)
    own = {COLUMNS: columns, EXAMPLES: {"examples": examples}}
    return {name: own.get(name, {_names.CLASSIFY_INPUTS: examples}) for name in signatures}


class _ServingModule(tf.Module):
    """Holds only what serving needs: with a tracked Keras model every variable would be stored twice."""

    def __init__(self, model: keras.Model, reading: Reading, from_logits: bool | None) -> None:
        super().__init__()

        def serve(columns: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return predicted(model, model(reading.encode(columns), training=False), from_logits)

        @tf.function(autograph=False)
        def serving_default(**columns: Tensor) -> dict[str, Tensor]:
            return serve(columns)

        @tf.function(autograph=False)
        def serialized_examples(examples: Tensor) -> dict[str, Tensor]:
            return serve(reading.parse(examples))

        self.signatures = {
            COLUMNS: serving_default.get_concrete_function(**reading.specs),
            EXAMPLES: serialized_examples.get_concrete_function(tf.TensorSpec((None,), tf.string, name="examples")),
        }
        self.weights = list(self.signatures[COLUMNS].graph.variables)
        captured = [tensor for function in self.signatures.values() for tensor in function.captured_inputs]
        self.tables = tables([model, reading.owner], captured)


def _forms(outputs: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """The outputs of classify and regress, from the heads' `outputs`."""
    forms = {}
    for name, probabilities in outputs.items():
        prefix, found, _ = name.rpartition("probabilities")
        if not found:
            continue
        with tf.name_scope(f"{prefix}{CLASSIFY}"):
            scores = tf.concat([1 - probabilities, probabilities], axis=1)
            classes = tf.broadcast_to(tf.constant(LABELS), tf.shape(scores))
        forms[f"{prefix}{CLASSIFY}"] = {_names.CLASSIFY_OUTPUT_SCORES: scores, _names.CLASSIFY_OUTPUT_CLASSES: classes}
        forms[f"{prefix}{REGRESS}"] = {_names.REGRESS_OUTPUTS: probabilities}
    return forms


def _add_forms(directory: Path) -> None:
    """Adds classify and regress to a SavedModel, as a few nodes on the outputs of `serialized_examples`.

    So the graph holds no third copy of the model, and a request to several signatures computes the model once.
    """
    path = directory / "saved_model.pb"
    saved_model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    (meta_graph,) = saved_model.meta_graphs
    examples = meta_graph.signature_def[EXAMPLES]
    with tf.Graph().as_default() as graph:
        given = {name: tf.compat.v1.placeholder(tf.float32, (None, 1), name) for name in sorted(examples.outputs)}
        forms = _forms(given)
    for node in graph.as_graph_def().node:
        if node.name not in given:
            node.input[:] = [examples.outputs[name].name if name in given else name for name in node.input]
            meta_graph.graph_def.node.append(node)
    for signature, outputs in forms.items():
        added = meta_graph.signature_def[signature]
        is_classify = signature.endswith(CLASSIFY)
        added.method_name = _names.CLASSIFY_METHOD_NAME if is_classify else _names.REGRESS_METHOD_NAME
        added.inputs[_names.CLASSIFY_INPUTS].CopyFrom(examples.inputs["examples"])
        for name, tensor in outputs.items():
            info = added.outputs[name]
            info.name = examples.outputs[tensor.op.name].name if tensor.op.name in given else tensor.name
            info.dtype = tensor.dtype.as_datatype_enum
            info.tensor_shape.CopyFrom(tensor.shape.as_proto())
    path.write_bytes(saved_model.SerializeToString(deterministic=True))
    fingerprinting_utils.write_fingerprint(str(directory))  # The stored fingerprint is that of the old file.
