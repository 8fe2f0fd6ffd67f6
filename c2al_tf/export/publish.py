"""Export for serving: the primary heads alone, every variable once, checked on the C++ loader before publication."""

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ..data.inputs.features import FeatureEncoder
from ..files import replace_directory
from ..model import strip_auxiliary_heads
from ..saved_model import SavedModel
from ..saved_model.conformance import check_calls
from ..schema import Schema
from ..types import Array, Columns
from .facts import ExportError, ExportFacts, check_facts, inspect_export
from .readme import export_readme
from .signatures import CLASSIFY, REGRESS, signature_inputs, signature_outputs, write_saved_model

MAX_ERROR = 1e-5
"""Bound on the difference between the export's logits and the model's: two executables round differently."""


@dataclass(frozen=True)
class Export:
    """A published export: its folder, its contents and those of the reference's export."""

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
    tf.Example strings, (batch,), as `examples`. Both give `logits` and `probabilities`, float32 (batch, 1).

    `classify` and `regress` are for TensorFlow Serving's Classify and Regress: tf.Example strings as `inputs`;
    `classes`, the strings "0" and "1", and their `scores`, both (batch, 2); `outputs`, the probabilities (batch, 1).
    TensorFlow's Python loader does not offer these two: they are tensors of the graph, not functions.

    With several primary tasks the names are `<task>_logits`, `<task>_probabilities`, `<task>_classify`,
    `<task>_regress`. The export includes warm-up requests from `sample` and a README that documents all this.

    The export is written to a temporary folder and loaded by TensorFlow's C++ loader with XLA off, as in
    tensorflow_model_server. It is renamed into place only if it gives the model's logits, answers batches of any size,
    refuses wrong inputs (see `saved_model.conformance`), and differs from the export of `reference` in its weights
    only.

    Args:
        model: A model with or without auxiliary heads; its inputs are `schema.inputs`.
        schema: The meaning of the raw columns.
        base_path: Folder of the versions: a server's `base_path`.
        sample: Raw columns of at least one row, for checks and warm-up requests.
        reference: A model without auxiliary heads of the same configuration: the baseline, or a fresh one.
        version: Number of the version; if absent, one above the highest existing one.

    Returns:
        The version's folder, its contents and those of the reference's export.

    Raises:
        ExportError: If a check fails. Nothing is published then.
        ValueError: If the version exists.
    """
    base = Path(base_path)
    version = _next_version(base) if version is None else version
    if (base / str(version)).exists():
        raise ValueError(f"{base}: a version is never overwritten. Received: version={version}, which exists")
    columns = {feature.name: np.asarray(sample[feature.name]) for feature in schema.features}
    with replace_directory(base / str(version)) as directory:
        write_saved_model(strip_auxiliary_heads(model), schema, directory)
        facts = inspect_export(directory)
        with tempfile.TemporaryDirectory(dir=directory) as other:  # a killed process leaves nothing elsewhere
            write_saved_model(reference, schema, Path(other))
            reference_facts = inspect_export(other)
        check_facts(facts, reference_facts)
        with SavedModel(directory) as served:
            _check_outputs(served, model, schema, columns)
            _write_extra(served, schema, columns)
    return Export(base / str(version), facts, reference_facts)


def _write_extra(served: SavedModel, schema: Schema, columns: Columns) -> None:
    extra = served.directory / "assets.extra"
    extra.mkdir()
    (extra / "README.md").write_text(export_readme(schema, served.signatures, columns), encoding="utf-8")
    _write_warmup(extra / "tf_serving_warmup_requests", schema, served.signatures, columns)


def _write_warmup(
    path: Path, schema: Schema, signatures: Iterable[str], columns: Columns, sizes: tuple[int, ...] = (1, 64)
) -> None:
    """Requests that a server replays before it takes traffic: each signature at some batch sizes."""
    # Imported here because it takes seconds and only warm-up requests need it.
    from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

    rows = len(next(iter(columns.values())))
    with tf.io.TFRecordWriter(str(path)) as writer:
        for size in sizes:
            some = {name: values[np.arange(size) % rows] for name, values in columns.items()}
            for signature, inputs in signature_inputs(some, schema, signatures).items():
                log = PredictionLog()
                _fill_log(log, signature, inputs)
                writer.write(log.SerializeToString())


def _fill_log(log: Any, signature: str, inputs: Columns) -> None:
    form = next((form for form in (CLASSIFY, REGRESS) if signature.endswith(form)), "predict")
    request = getattr(log, f"{form}_log").request
    request.model_spec.signature_name = signature
    for name, values in inputs.items():
        if form == "predict":
            request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
        else:
            for example in values:
                request.input.example_list.examples.add().MergeFromString(example)


def _check_outputs(served: SavedModel, model: keras.Model, schema: Schema, columns: Columns) -> None:
    x = FeatureEncoder(schema)({name: tf.constant(values) for name, values in columns.items()})
    expected = signature_outputs(strip_auxiliary_heads(model)(x, training=False))
    calls = signature_inputs(columns, schema, expected)
    for signature, inputs in calls.items():
        _compare(expected[signature], served.run(inputs, signature), signature)
    for check in check_calls(served, calls):
        if not check.passed:
            raise ExportError(f"{check.what}: this must hold for every export. Received: {check.found}")


def _compare(expected: Mapping[str, Any], got: Mapping[str, Array], signature: str) -> None:
    for name, values in expected.items():
        wanted = np.asarray(values)
        error = np.abs(got[name] - wanted) if wanted.dtype != object else got[name] != wanted
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
