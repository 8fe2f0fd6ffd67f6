"""The proof of an export: what its logits must be, and what it answers."""

from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ..data.inputs.features import FeatureEncoder
from ..form import outputs_by_name
from ..saved_model import SavedModel, SavedModelError
from ..saved_model.conformance import difference
from ..schema import Schema
from ..training.batches import by_task
from ..types import Array, Columns
from .facts import ExportError, ExportFacts
from .probes import probe_rows, spellings
from .signatures import COLUMNS, EXAMPLES, signature_outputs


def check_inputs(model: keras.Model, schema: Schema) -> None:
    """Raises ValueError unless the schema makes exactly what the model reads."""
    given = getattr(model, "input", None)
    has = {name: _form(x.dtype, x.shape[1:]) for name, x in given.items()} if isinstance(given, Mapping) else {}
    makes = {
        name: _form(column.dtype, () if column.length is None else (column.length,))
        for name, column in schema.inputs.items()
    }
    shapes = {name: tuple(output.shape) for name, output in outputs_by_name(model).items()}
    if set(shapes.values()) != {(None, 1)}:
        raise ValueError(f"The model's outputs must have shape (batch, 1) each. Received: {shapes}")
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


def wanted_logits(
    model: keras.Model, columns: Columns, expected: Array | Mapping[str, Array] | None, encoder: FeatureEncoder | None
) -> dict[str, Mapping[str, Array]]:
    """The logits by task, each (rows, 1), that the export must give, by where they come from.

    Raises:
        ValueError: If there are none, or they are not of the rows and tasks.
    """
    wanted: dict[str, Mapping[str, Array]] = {}
    rows = len(next(iter(columns.values())))
    if expected is not None:
        tasks = list(outputs_by_name(model))
        by_name = expected if isinstance(expected, Mapping) else {tasks[0]: expected}
        given = {task: np.asarray(logits, np.float32).reshape(-1, 1) for task, logits in by_name.items()}
        shapes = {task: logits.shape for task, logits in given.items()}
        if shapes != dict.fromkeys(tasks, (rows, 1)) or not all(np.isfinite(x).all() for x in given.values()):
            raise ValueError(
                f"`expected` must be finite logits of {rows:,} rows for each of {tasks}. Received: {shapes}"
                + ("" if shapes != dict.fromkeys(tasks, (rows, 1)) else ", not all finite")
            )
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


def check_outputs(
    served: SavedModel, calls: Mapping[str, Columns], logits: Mapping[str, Array], source: str, facts: ExportFacts
) -> None:
    """Raises ExportError unless every signature gives the outputs that these logits, by task, have."""
    for signature, outputs in signature_outputs(logits).items():
        got = _compare(served, signature, calls[signature], outputs, f"beside {source}", facts.max_error)
        for name in (name for name in outputs if name.endswith("logits")):
            expected = np.asarray(outputs[name])
            error, bound = float(np.sqrt(np.mean(np.square(got[name] - expected)))), facts.max_rms_error(expected)
            if not error <= bound:
                raise ExportError(
                    f"`{name}` of `{signature}` (beside {source}) must differ by {bound:.2g} at most in the root mean "
                    f"square over the rows. Received: {error:.2g}"
                )


def check_probes(
    served: SavedModel,
    model: keras.Model,
    schema: Schema,
    columns: Columns,
    encoder: FeatureEncoder | None,
    max_error: float,
) -> None:
    """Raises ExportError unless null, empty, unseen and longest values get the same from all signatures.

    With an encoder they must get what the model behind it gives.
    """
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
) -> dict[str, Array]:
    """The outputs. Raises ExportError at the row whose outputs differ most, or if there is no answer."""
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
    return got
