"""Export for serving: the primary heads alone, every variable once, checked on the C++ loader before publication."""

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ..data.inputs.features import FeatureEncoder
from ..files import replace_directory
from ..model import check_logits, strip_auxiliary_heads
from ..saved_model import SavedModel, SavedModelError
from ..saved_model.conformance import check_calls, difference
from ..schema import Schema
from ..training.batches import by_task
from ..types import Array, Columns
from .facts import ExportError, ExportFacts, check_facts, inspect_export
from .probes import probe_rows, spellings
from .readme import export_readme
from .signatures import CLASSIFY, COLUMNS, EXAMPLES, REGRESS, signature_inputs, signature_outputs, write_saved_model


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
    _check_inputs(model, schema)
    served_model = strip_auxiliary_heads(model)
    columns = {feature.name: _raw(sample[feature.name]) for feature in schema.features}
    wanted = _wanted(served_model, columns, expected, encoder)
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
                for signature, outputs in signature_outputs(logits).items():
                    _compare(served, signature, calls[signature], outputs, f"beside {source}", facts.max_error)
            _check_probes(served, served_model, schema, columns, encoder, facts.max_error)
            for check in check_calls(served, calls, facts.max_error):
                if not check.passed:
                    raise ExportError(f"{check.what}: this must hold for every export. Received: {check.found}")
            _write_extra(served, schema, columns, proof)
    return Export(base / str(version), facts, reference_facts, proof)


def _check_inputs(model: keras.Model, schema: Schema) -> None:
    """The schema must make exactly what the model reads."""
    given = getattr(model, "input", None)
    has = {name: _form(x.dtype, x.shape[1:]) for name, x in given.items()} if isinstance(given, Mapping) else {}
    makes = {
        name: _form(column.dtype, () if column.length is None else (column.length,))
        for name, column in schema.inputs.items()
    }
    if has == makes:
        return
    names = sorted(name for name in {*has, *makes} if has.get(name) != makes.get(name))
    told = [f"`{name}`: the model reads {has.get(name)}, the schema makes {makes.get(name)}" for name in names]
    raise ValueError(
        "The model's inputs must be a dict of those that the schema makes: ids of categories and buckets, scaled "
        f"values. A model with lookups, bucketing or scaling of its own cannot be exported with a schema. Received: "
        f"{'; '.join(told[:4])}"
    )


def _form(dtype: str, shape: tuple[int | None, ...]) -> str:
    kind = "float" if dtype.startswith(("float", "bfloat")) else "ids" if dtype.startswith("int") else dtype
    return f"{kind} {(None, *shape)}"


def _raw(values: Any) -> Array:
    array = np.asarray(values)
    return array.astype(object) if array.dtype.kind in "UT" else array


def _wanted(
    model: keras.Model, columns: Columns, expected: Array | Mapping[str, Array] | None, encoder: FeatureEncoder | None
) -> dict[str, Mapping[str, Array]]:
    """The logits by task that the export must give, by where they come from."""
    wanted: dict[str, Mapping[str, Array]] = {}
    rows = len(next(iter(columns.values())))
    if expected is not None:
        given = {task: np.asarray(logits, np.float32).reshape(-1, 1) for task, logits in by_task(expected).items()}
        tasks = list(by_task(model.output))
        if not isinstance(expected, Mapping) and len(tasks) == 1:
            given = dict(zip(tasks, given.values(), strict=True))
        shapes = {task: logits.shape for task, logits in given.items()}
        if shapes != dict.fromkeys(tasks, (rows, 1)):
            raise ValueError(f"`expected` must be logits of {rows:,} rows for each of {tasks}. Received: {shapes}")
        wanted["the caller's predictions on raw rows"] = given
    if encoder is not None:
        wanted["the model behind the encoder of training"] = _logits(model, columns, encoder)
    if not wanted:
        raise ValueError(
            "An export is proved against `expected`, the logits that you computed for the rows of `sample` by your own "
            "path, or against `encoder`, the FeatureEncoder by which the model was trained. Received: neither"
        )
    return wanted


def _logits(model: keras.Model, columns: Columns, encoder: FeatureEncoder) -> dict[str, Array]:
    x = encoder({name: tf.constant(values) for name, values in columns.items()})
    return {task: np.asarray(logits, np.float32) for task, logits in by_task(model(x, training=False)).items()}


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


def _check_probes(
    served: SavedModel,
    model: keras.Model,
    schema: Schema,
    columns: Columns,
    encoder: FeatureEncoder | None,
    max_error: float,
) -> None:
    """Null, empty, unseen and longest values: all signatures agree, and give what the model behind the encoder does."""
    rows = probe_rows(schema, columns)
    logits = {} if encoder is None else {"the model behind the encoder": _logits(model, rows, encoder)}
    outputs = {source: signature_outputs(values)[COLUMNS] for source, values in logits.items()}
    outputs = outputs or {f"`{COLUMNS}`": served.run(rows)}
    for what, inputs, signature in _probe_calls(schema, rows):
        for source, wanted in outputs.items():
            _compare(served, signature, inputs, wanted, f"{what}, beside {source}", max_error)


def _probe_calls(schema: Schema, rows: Columns) -> Iterator[tuple[str, Columns, str]]:
    yield "rows of null, empty, unseen and longest values", rows, COLUMNS
    for spelling, examples in spellings(schema, rows).items():
        yield spelling, {"examples": examples}, EXAMPLES


def _compare(
    served: SavedModel,
    signature: str,
    inputs: Columns,
    wanted: Mapping[str, Any],
    where: str,
    max_error: float,
) -> None:
    """Raises ExportError at the row whose outputs differ most, or if there is no answer."""
    try:
        got = served.run(inputs, signature)
    except SavedModelError as error:
        raise ExportError(f"`{signature}` ({where}) must answer. Received: {error}") from error
    for name, values in wanted.items():
        expected = np.asarray(values)
        if difference(got[name], expected) <= max_error:
            continue
        row = int(np.argmax([difference(a[None], b[None]) for a, b in zip(got[name], expected, strict=True)]))
        raise ExportError(
            f"`{name}` of `{signature}` ({where}) must be equal within {max_error:g}. Received: "
            f"{got[name][row].tolist()} where {expected[row].tolist()} is expected, in row {row}: "
            f"{ {key: column[row] for key, column in inputs.items()}!r:.300}"
        )


def _next_version(base: Path) -> int:
    if not base.is_dir():
        return 1
    return max((int(path.name) for path in base.iterdir() if path.name.isdigit()), default=0) + 1
