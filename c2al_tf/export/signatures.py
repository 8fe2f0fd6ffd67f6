"""The signatures of an export: raw columns, serialized tf.Examples, and TensorFlow Serving's classify and regress."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.saved_model import fingerprinting_utils

from ..data.columns.wire import to_examples
from ..data.inputs.features import FeatureEncoder
from ..schema import Schema
from ..training.batches import by_task
from ..types import Array, Columns, Tensor

COLUMNS, EXAMPLES, CLASSIFY, REGRESS = "serving_default", "serialized_examples", "classify", "regress"
LABELS = ("0", "1")
"""The classes of a binary task, in the order of their scores."""

_names = tf.saved_model


def write_saved_model(model: keras.Model, schema: Schema, directory: Path) -> None:
    """Writes `model`, which has no auxiliary heads, with all signatures."""
    module = _ServingModule(model, schema)
    signatures = module.signatures
    del module.signatures
    tf.saved_model.save(module, str(directory), signatures=signatures)
    _add_forms(directory)


def signature_outputs(logits: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """The outputs of each signature for the heads' logits (batch, 1)."""
    outputs = _head_outputs(logits)
    return {COLUMNS: outputs, EXAMPLES: outputs, **_forms(outputs)}


def signature_inputs(
    columns: Columns, schema: Schema, signatures: Iterable[str], examples: Array | None = None
) -> dict[str, Columns]:
    """The same rows as the inputs of each signature; tf.Examples are written unless they are given."""
    if examples is None:
        serialized = to_examples(columns, {feature.name: feature.column for feature in schema.features})
        examples = np.array(serialized, object)
    examples = np.asarray(examples, object)
    own = {COLUMNS: columns, EXAMPLES: {"examples": examples}}
    return {name: own.get(name, {_names.CLASSIFY_INPUTS: examples}) for name in signatures}


class _ServingModule(tf.Module):
    """Holds only what serving needs: with a tracked Keras model every variable would be stored twice."""

    def __init__(self, model: keras.Model, schema: Schema) -> None:
        super().__init__()
        self.encoder = FeatureEncoder(schema)
        self.weights = [weight.value for weight in model.weights]

        def serve(columns: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return _head_outputs(by_task(model(self.encoder(columns), training=False)))

        @tf.function(autograph=False)
        def serving_default(**columns: Tensor) -> dict[str, Tensor]:
            return serve(columns)

        @tf.function(autograph=False)
        def serialized_examples(examples: Tensor) -> dict[str, Tensor]:
            return serve(self.encoder.parse_examples(examples))

        specs = {
            name: tf.TensorSpec(spec.shape, spec.dtype, name=name) for name, spec in self.encoder.raw_specs.items()
        }
        self.signatures = {
            COLUMNS: serving_default.get_concrete_function(**specs),
            EXAMPLES: serialized_examples.get_concrete_function(tf.TensorSpec((None,), tf.string, name="examples")),
        }


def _head_outputs(logits: Mapping[str, Tensor]) -> dict[str, Tensor]:
    outputs = {}
    for task, values in logits.items():
        prefix = "" if len(logits) == 1 else f"{task}_"
        outputs[f"{prefix}logits"] = tf.cast(values, tf.float32)
        outputs[f"{prefix}probabilities"] = tf.sigmoid(tf.cast(values, tf.float32))
    return outputs


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
