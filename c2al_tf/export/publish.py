"""Export for serving: the primary heads alone, every variable once, checked on the C++ loader before publication."""

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ..cohort_model import CohortModel
from ..data.columns.raw import num_rows
from ..data.inputs.features import FeatureEncoder
from ..files import replace_directory
from ..graph import all_layers
from ..layers import TaskHead
from ..model import check_logits, strip_auxiliary_heads
from ..saved_model import SavedModel
from ..saved_model.conformance import check_calls
from ..schema import Schema
from ..storage import folders_in, is_there, local_path
from ..types import Array, Columns
from .facts import ExportError, ExportFacts, check_facts, check_signature, inspect_export
from .proof import check_inputs, check_outputs, check_probes, wanted_outputs
from .reading import Encode, Reading, by_model, by_schema
from .readme import export_readme
from .signatures import CLASSIFY, REGRESS, signature_inputs, signature_outputs, write_saved_model


@dataclass(frozen=True)
class Export:
    """A published export.

    Args:
        directory: The version's folder.
        facts: Its contents.
        reference: The contents of the export of the reference, if that was a model.
        proof: What its outputs were compared with.
    """

    directory: Path
    facts: ExportFacts
    reference: ExportFacts | None
    proof: str


def export_for_serving(
    model: keras.Model,
    base_path: str | Path,
    *,
    sample: Columns,
    schema: Schema | None = None,
    preprocess: Encode | None = None,
    parsing: Mapping[str, Any] | None = None,
    from_logits: bool | None = None,
    reference: keras.Model | ExportFacts | str | Path | None = None,
    expected: Array | Mapping[str, Array] | None = None,
    encoder: FeatureEncoder | None = None,
    examples: Array | None = None,
    version: int | None = None,
) -> Export:
    """Writes `base_path/<version>/`, a SavedModel without cohort heads that takes raw columns.

    `serving_default` takes raw columns by name: those of a `schema`, those that a functional model reads, or those of
    `sample`, which a subclass reads or `preprocess` turns into what the model reads. `serialized_examples` takes
    tf.Example strings, (batch,), as `examples`. Both give the same outputs:

        from_logits=True    `logits` and `probabilities`, float32 (batch, 1)
        from_logits=False   `probabilities`, float32 (batch, 1)
        from_logits=None    what the model gives, under the names of `keras.Model.export`: today's clients go on

    But for None there are `classify` and `regress`, for TensorFlow Serving's Classify and Regress: tf.Example strings
    as `inputs`; `classes`, the strings "0" and "1", and their `scores`, both (batch, 2); `outputs`, the probabilities
    (batch, 1). TensorFlow's Python loader does not offer these two: they are tensors of the graph, not functions.
    With several tasks the names are `<task>_logits`, `<task>_probabilities`, `<task>_classify`, `<task>_regress`. The
    export includes warm-up requests from `sample` and a README that documents all this.

    The export is written to a temporary folder and loaded by TensorFlow's C++ loader with XLA off, as in
    tensorflow_model_server. It is renamed into place only if every signature gives the outputs that are expected for
    the raw rows, answers batches of any size, refuses wrong inputs (see `saved_model.conformance`), and fits the
    `reference`. With a schema null, empty, unseen and longest values must also get the same however a tf.Example spells
    them, and at least one of `expected` and `encoder` is needed: the export encodes rows by the schema, and whether
    that is what the model was trained on, only predictions made without it can tell. Without a schema and `expected`
    the model's own outputs in Python are what is expected. The result says which it was.

    Args:
        model: A model with or without cohort heads: functional, Sequential, subclassed, or a `CohortModel`, whose base
            is exported. With a schema its inputs are `schema.inputs` and its outputs logits.
        base_path: Folder of the versions: a server's `base_path`.
        sample: Raw columns of at least one row, for checks and warm-up requests.
        schema: The meaning of the raw columns, if the model was trained on what it makes of them.
        preprocess: Maps raw columns, tensors by name, to what the model reads: a layer, a `FeatureSpace`, a loaded
            SavedModel or a function of these, by TensorFlow's operations alone.
        parsing: Features of `tf.io` by name, as a parsing spec has them. A column of a `VarLenFeature` is (batch, any
            number), padded with `""`, NaN or the lowest int64; a tf.Example may have it or not. Each other column is
            needed, with all of its values.
        from_logits: Whether the model's outputs are logits, or else probabilities, (batch, 1) or (batch,). With a
            schema None means True.
        reference: A model without heads of the same configuration, from whose export this one may differ in its
            weights only: the baseline, or a fresh one; or what `try_export` found in such a model's export. Or the
            folder of today's SavedModel, whose `serving_default` this one must have: the names, dtypes and shapes of
            inputs and outputs.
        expected: The model's outputs (logits, if `from_logits`) for the rows of `sample`, (rows,) or (rows, 1), or
            several as a list or a dict by name, computed the way in which the model is trained and evaluated, without
            this function. Probabilities are compared as log-odds, too.
        encoder: The encoder by which the model was trained on a schema, if it was one.
        examples: The rows of `sample` as serialized tf.Examples, (rows,), as they are in the files. By default they are
            written here.
        version: Number of the version; if absent, one above the highest existing one.

    Returns:
        The version's folder, its contents, those of the reference's export, and what the outputs were compared with.

    Raises:
        ExportError: If a check fails. Nothing is published then.
        ValueError: If the version exists, arguments contradict each other, the model's inputs are not those of the
            schema, or an output is not what `from_logits` says.
    """
    base = local_path(base_path)
    version = _next_version(base) if version is None else version
    if version in _versions(base):
        raise ValueError(f"{base}: a version is never overwritten. Received: version={version}, which exists")
    served_model = _without_heads(model)
    if schema is None:
        reading = by_model(served_model, sample, preprocess, parsing)
    else:
        _check_schema(model, schema, preprocess or parsing, from_logits)
        reading, from_logits = by_schema(schema), True
    columns = reading.columns(sample)
    if examples is not None and np.shape(examples) != (num_rows(columns),):
        raise ValueError(
            f"`examples` must be the {num_rows(columns):,} rows of `sample`, (rows,). Received: {np.shape(examples)}"
        )
    wanted = wanted_outputs(served_model, reading, columns, expected, encoder, from_logits)
    proof = " and ".join(wanted)
    with replace_directory(base / str(version)) as directory:
        write_saved_model(served_model, reading, directory, from_logits)
        facts = inspect_export(directory)
        reference_facts = _reference_facts(reference, reading, directory, from_logits)
        check_facts(facts, reference_facts)
        with SavedModel(directory) as served:
            if isinstance(reference, str | Path):
                check_signature(served, reference)
            calls = signature_inputs(columns, reading, served.signatures, examples)
            for source, outputs in wanted.items():
                check_outputs(served, calls, signature_outputs(outputs, from_logits), source, facts, from_logits)
            if schema is not None:
                check_probes(served, served_model, schema, columns, encoder, facts.max_error)
            for check in check_calls(served, calls, facts.max_error):
                if not check.passed:
                    raise ExportError(f"{check.what}: this must hold for every export. Received: {check.found}")
            _write_extra(served, reading, columns, proof)
    return Export(base / str(version), facts, reference_facts, proof)


def try_export(model: keras.Model, folder: Path, *, schema: Schema, sample: Columns) -> ExportFacts:
    """Exports a model within a folder, of which nothing stays, and returns what a SavedModel of this form holds.

    It must load on the C++ loader and give the model's outputs behind a new encoder: what cannot be exported is known
    before a model is trained. `export_for_serving` checks more.

    Raises:
        ExportError: If it does not.
        ValueError: If the model's inputs are not those of the schema.
    """
    served_model, encoder, reading = _without_heads(model), FeatureEncoder(schema), by_schema(schema)
    _check_schema(model, schema, None, None)
    columns = reading.columns(sample)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".export-trial-") as directory:
        write_saved_model(served_model, reading, Path(directory), True)
        facts = inspect_export(directory)
        check_facts(facts, None)
        with SavedModel(directory) as served:
            calls = signature_inputs(columns, reading, served.signatures)
            for source, outputs in wanted_outputs(served_model, reading, columns, None, encoder, True).items():
                check_outputs(served, calls, signature_outputs(outputs, True), source, facts, True)
    return facts


def _without_heads(model: keras.Model) -> keras.Model:
    if isinstance(model, CohortModel):
        return model.base
    has_heads = any(isinstance(layer, TaskHead) and layer.auxiliary for layer in all_layers(model))
    return strip_auxiliary_heads(model) if has_heads else model


def _check_schema(model: keras.Model, schema: Schema, reading: Any, from_logits: bool | None) -> None:
    if reading or from_logits is False:
        raise ValueError(
            "A model with a `schema` must give logits of what the schema makes of raw columns: leave out `preprocess`, "
            f"`parsing` and `from_logits`. Received: {reading}, from_logits={from_logits}"
        )
    check_logits(model)
    check_inputs(model, schema)


def _reference_facts(
    reference: keras.Model | ExportFacts | str | Path | None,
    reading: Reading,
    directory: Path,
    from_logits: bool | None,
) -> ExportFacts | None:
    if reference is None or isinstance(reference, str | Path):
        return None
    if isinstance(reference, ExportFacts):
        return reference
    with tempfile.TemporaryDirectory(dir=directory) as other:  # a killed process leaves nothing elsewhere
        write_saved_model(_without_heads(reference), reading, Path(other), from_logits)
        return inspect_export(other)


def _write_extra(served: SavedModel, reading: Reading, columns: Columns, proof: str) -> None:
    extra = served.directory / "assets.extra"
    extra.mkdir()
    (extra / "README.md").write_text(export_readme(served.signatures, columns, proof, reading.schema), encoding="utf-8")
    _write_warmup(extra / "tf_serving_warmup_requests", reading, served.signatures, columns)


def _write_warmup(
    path: Path, reading: Reading, signatures: Iterable[str], columns: Columns, sizes: tuple[int, ...] = (1, 64)
) -> None:
    """Requests that a server replays before it takes traffic: each signature at some batch sizes."""
    # Imported here because it takes seconds and only warm-up requests need it.
    from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

    rows = len(next(iter(columns.values())))
    with tf.io.TFRecordWriter(str(path)) as writer:
        for size in sizes:
            some = {name: values[np.arange(size) % rows] for name, values in columns.items()}
            for signature, inputs in signature_inputs(some, reading, signatures).items():
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


def _next_version(base: Path) -> int:
    return max(_versions(base), default=0) + 1


def _versions(base: Path) -> list[int]:
    return [int(path.name) for path in folders_in(base) if path.name.isdigit()] if is_there(base) else []
