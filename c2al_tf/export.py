"""Export for serving: the primary heads alone, every variable once, proved on the C++ loader before it is published."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from .data.examples import to_examples
from .data.features import FeatureEncoder
from .export_facts import ExportError, ExportFacts, check_facts, inspect_export
from .files import replace_directory
from .model import strip_auxiliary_heads
from .saved_model import SavedModel
from .saved_model.conformance import check_calls
from .schema import Schema
from .types import Array, Columns, Tensor

MAX_ERROR = 1e-5
"""Bound on the difference between the export's logits and the model's: two executables round differently."""


@dataclass(frozen=True)
class Export:
    """A published export: its folder, and what it and the reference's export hold."""

    directory: Path
    facts: ExportFacts
    reference: ExportFacts


def export_for_serving(
    model: keras.Model,
    schema: Schema,
    base_path: str | Path,
    *,
    sample: Columns,
    reference: keras.Model,
    version: int | None = None,
) -> Export:
    """Writes `base_path/<version>/`, a SavedModel of the primary heads that takes raw columns.

    `serving_default` takes the features' raw columns by name, (batch,) or (batch, length); `serialized_examples` takes
    tf.Example strings, (batch,), as `examples`. Both give `logits` and `probabilities`, float32 (batch, 1); with
    several primary tasks `<task>_logits` and `<task>_probabilities`. Warm-up requests made of `sample` are included.

    The export is written aside, loaded by TensorFlow's C++ loader with XLA off, as tensorflow_model_server does, and
    renamed into place only if it gives the model's logits, answers batches of any size and refuses wrong inputs (see
    `saved_model.conformance`), and is, but for the values of its weights, the export of `reference`.

    Args:
        model: A model with or without auxiliary heads; its inputs are `schema.inputs`.
        schema: What the raw columns mean.
        base_path: Folder of the versions: what a server is pointed at.
        sample: Raw columns of some rows, at least one, with which the export is proved and warmed up.
        reference: A model without auxiliary heads of the same configuration: the baseline, or a fresh one.
        version: Number of the version; one above the highest there is if absent.

    Returns:
        The version's folder, and what it and the reference's export hold.

    Raises:
        ExportError: If the export is not what it has to be. Nothing is published then.
        ValueError: If the version exists.
    """
    base = Path(base_path)
    version = _next_version(base) if version is None else version
    if (base / str(version)).exists():
        raise ValueError(f"{base}: a version is never overwritten. Received: version={version}, which exists")
    columns = {feature.name: np.asarray(sample[feature.name]) for feature in schema.features}
    with replace_directory(base / str(version)) as directory:
        _write(strip_auxiliary_heads(model), schema, directory)
        _write_warmup(directory, schema, columns)
        facts = inspect_export(directory)
        with tempfile.TemporaryDirectory(dir=directory) as other:  # a killed process leaves nothing elsewhere
            _write(reference, schema, Path(other))
            reference_facts = inspect_export(other)
        check_facts(facts, reference_facts)
        _check_logits(directory, model, schema, columns)
    return Export(base / str(version), facts, reference_facts)


class _ServingModule(tf.Module):
    """Holds what serving needs and nothing else: through a tracked Keras model every variable would be stored twice."""

    def __init__(self, model: keras.Model, schema: Schema) -> None:
        super().__init__()
        self.encoder = FeatureEncoder(schema)
        self.weights = [weight.value for weight in model.weights]

        def serve(columns: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return _named_outputs(model(self.encoder(columns), training=False))

        @tf.function
        def serving_default(**columns: Tensor) -> dict[str, Tensor]:
            return serve(columns)

        @tf.function
        def serialized_examples(examples: Tensor) -> dict[str, Tensor]:
            return serve(self.encoder.parse_examples(examples))

        specs = {
            name: tf.TensorSpec(spec.shape, spec.dtype, name=name) for name, spec in self.encoder.raw_specs.items()
        }
        self.signatures = {
            "serving_default": serving_default.get_concrete_function(**specs),
            "serialized_examples": serialized_examples.get_concrete_function(
                tf.TensorSpec((None,), tf.string, name="examples")
            ),
        }


def _named_outputs(logits: Mapping[str, Tensor]) -> dict[str, Tensor]:
    outputs = {}
    for task, values in logits.items():
        prefix = "" if len(logits) == 1 else f"{task}_"
        outputs[f"{prefix}logits"] = tf.cast(values, tf.float32)
        outputs[f"{prefix}probabilities"] = tf.sigmoid(tf.cast(values, tf.float32))
    return outputs


def _write(model: keras.Model, schema: Schema, directory: Path) -> None:
    module = _ServingModule(model, schema)
    signatures = module.signatures
    del module.signatures
    tf.saved_model.save(module, str(directory), signatures=signatures)


def _write_warmup(directory: Path, schema: Schema, columns: Columns, sizes: tuple[int, ...] = (1, 64)) -> None:
    """Requests that a server replays before it takes traffic: each signature at some batch sizes."""
    # Imported here: it takes seconds, and nothing else needs it.
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    extra = directory / "assets.extra"
    extra.mkdir()
    rows = len(next(iter(columns.values())))
    with tf.io.TFRecordWriter(str(extra / "tf_serving_warmup_requests")) as writer:
        for size in sizes:
            some = {name: values[np.arange(size) % rows] for name, values in columns.items()}
            for signature, inputs in _calls(schema, some).items():
                request = predict_pb2.PredictRequest()
                request.model_spec.signature_name = signature
                for name, values in inputs.items():
                    request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
                log = prediction_log_pb2.PredictLog(request=request)
                writer.write(prediction_log_pb2.PredictionLog(predict_log=log).SerializeToString())


def _check_logits(directory: Path, model: keras.Model, schema: Schema, columns: Columns) -> None:
    x = FeatureEncoder(schema)({name: tf.constant(values) for name, values in columns.items()})
    expected = _named_outputs(strip_auxiliary_heads(model)(x, training=False))
    with SavedModel(directory) as served:
        calls = _calls(schema, columns)
        for signature, inputs in calls.items():
            _compare(expected, served.run(inputs, signature), signature)
        for check in check_calls(served, calls):
            if not check.passed:
                raise ExportError(f"{check.what}: this must hold for every export. Received: {check.found}")


def _calls(schema: Schema, columns: Columns) -> dict[str, Columns]:
    """The same rows as the inputs of each signature."""
    examples = to_examples(columns, {feature.name: feature.column for feature in schema.features})
    return {"serving_default": columns, "serialized_examples": {"examples": np.array(examples, object)}}


def _compare(expected: Mapping[str, Any], got: Mapping[str, Array], signature: str) -> None:
    for name, values in expected.items():
        wanted = np.asarray(values)
        error = np.abs(got[name] - wanted)
        if not error.max() <= MAX_ERROR:
            row = int(error.argmax())
            raise ExportError(
                f"`{name}` of signature `{signature}` must equal the model's within {MAX_ERROR:g}. Received: "
                f"{got[name].flat[row]} for row {row} of the sample, the model gives {wanted.flat[row]}"
            )


def _next_version(base: Path) -> int:
    if not base.is_dir():
        return 1
    return max((int(path.name) for path in base.iterdir() if path.name.isdigit()), default=0) + 1
