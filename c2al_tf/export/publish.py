"""Export for serving: the primary heads alone, every variable once, checked on the C++ loader before publication."""

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ..data.columns.raw import as_raw, num_rows
from ..data.inputs.features import FeatureEncoder
from ..files import replace_directory
from ..model import check_logits, strip_auxiliary_heads
from ..saved_model import SavedModel
from ..saved_model.conformance import check_calls
from ..schema import Schema
from ..types import Array, Columns
from .facts import ExportError, ExportFacts, check_facts, inspect_export
from .proof import check_inputs, check_outputs, check_probes, wanted_logits
from .readme import export_readme
from .signatures import CLASSIFY, REGRESS, signature_inputs, write_saved_model


@dataclass(frozen=True)
class Export:
    """A published export.

    Args:
        directory: The version's folder.
        facts: Its contents.
        reference: The contents of the reference's export.
        proof: What its logits were compared with.
    """

    directory: Path
    facts: ExportFacts
    reference: ExportFacts
    proof: str


def export_for_serving(
    model: keras.Model,
    schema: Schema,
    base_path: str | Path,
    *,
    sample: Columns,
    reference: keras.Model,
    expected: Array | Mapping[str, Array] | None = None,
    encoder: FeatureEncoder | None = None,
    examples: Array | None = None,
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
    tensorflow_model_server. It is renamed into place only if it gives the logits that are expected for the raw rows,
    the same ones for null, empty, unseen and longest values however a tf.Example spells them, answers batches of any
    size, refuses wrong inputs (see `saved_model.conformance`), and differs from the export of `reference` in its
    weights only. The export encodes rows by `schema`: whether that is what the model was trained on, only predictions
    made without it can tell. So at least one of `expected` and `encoder` is needed; the result says which it was.

    Args:
        model: A model with or without auxiliary heads; its inputs are `schema.inputs`, its outputs logits.
        schema: The meaning of the raw columns.
        base_path: Folder of the versions: a server's `base_path`.
        sample: Raw columns of at least one row, for checks and warm-up requests.
        reference: A model without auxiliary heads of the same configuration: the baseline, or a fresh one.
        expected: The logits, (rows,) or (rows, 1), or a dict of them by task, that were computed for the rows of
            `sample` the way in which the model is trained and evaluated, without this function's encoder.
        encoder: The encoder by which the model was trained, if it was one.
        examples: The rows of `sample` as serialized tf.Examples, (rows,), as they are in the files. By default they are
            written here.
        version: Number of the version; if absent, one above the highest existing one.

    Returns:
        The version's folder, its contents, those of the reference's export, and what the logits were compared with.

    Raises:
        ExportError: If a check fails. Nothing is published then.
        ValueError: If the version exists, neither `expected` nor `encoder` is given, the model's inputs are not those
            of the schema, or an output is a probability.
    """
    base = Path(base_path)
    version = _next_version(base) if version is None else version
    if (base / str(version)).exists():
        raise ValueError(f"{base}: a version is never overwritten. Received: version={version}, which exists")
    check_logits(model)
    check_inputs(model, schema)
    served_model = strip_auxiliary_heads(model)
    columns = _raw(sample, schema)
    if examples is not None and np.shape(examples) != (num_rows(columns),):
        raise ValueError(
            f"`examples` must be the {num_rows(columns):,} rows of `sample`, (rows,). Received: {np.shape(examples)}"
        )
    wanted = wanted_logits(served_model, columns, expected, encoder)
    proof = " and ".join(wanted)
    with replace_directory(base / str(version)) as directory:
        write_saved_model(served_model, schema, directory)
        facts = inspect_export(directory)
        with tempfile.TemporaryDirectory(dir=directory) as other:  # a killed process leaves nothing elsewhere
            write_saved_model(reference, schema, Path(other))
            reference_facts = inspect_export(other)
        check_facts(facts, reference_facts)
        with SavedModel(directory) as served:
            calls = signature_inputs(columns, schema, served.signatures, examples)
            for source, logits in wanted.items():
                check_outputs(served, calls, logits, source, facts)
            check_probes(served, served_model, schema, columns, encoder, facts.max_error)
            for check in check_calls(served, calls, facts.max_error):
                if not check.passed:
                    raise ExportError(f"{check.what}: this must hold for every export. Received: {check.found}")
            _write_extra(served, schema, columns, proof)
    return Export(base / str(version), facts, reference_facts, proof)


def _write_extra(served: SavedModel, schema: Schema, columns: Columns, proof: str) -> None:
    extra = served.directory / "assets.extra"
    extra.mkdir()
    (extra / "README.md").write_text(export_readme(schema, served.signatures, columns, proof), encoding="utf-8")
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


def _raw(sample: Columns, schema: Schema) -> dict[str, Array]:
    """The features' columns of a sample, in the form of raw columns."""
    missing = [feature.name for feature in schema.features if feature.name not in sample]
    sizes = {len(sample[feature.name]) for feature in schema.features if feature.name in sample}
    if missing or len(sizes) != 1 or 0 in sizes:
        raise ValueError(
            "`sample` must have a column of each feature, all with as many rows, at least one. "
            f"Received: columns of {sorted(sizes)} rows, without {missing}"
        )
    return {feature.name: as_raw(sample[feature.name], feature.column, "sample") for feature in schema.features}


def _next_version(base: Path) -> int:
    if not base.is_dir():
        return 1
    return max((int(path.name) for path in base.iterdir() if path.name.isdigit()), default=0) + 1
