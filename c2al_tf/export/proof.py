"""The proof of an export: what its outputs must be, and what it answers."""

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
from ..types import Array, Columns
from .facts import ExportError, ExportFacts
from .odds import beyond_rounding, log_odds
from .probes import probe_rows, spellings
from .reading import Encode, Reading
from .signatures import COLUMNS, EXAMPLES, predicted


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


def wanted_outputs(
    model: keras.Model,
    reading: Reading,
    columns: Columns,
    expected: Array | Mapping[str, Array] | None,
    encoder: FeatureEncoder | None,
    from_logits: bool | None,
) -> dict[str, dict[str, Array]]:
    """The outputs of Predict that the export must give, by where they come from.

    Raises:
        ValueError: If there are none, or they are not of the rows and outputs.
    """
    wanted = {}
    if expected is not None:
        given = model_outputs(model, columns, reading.encode, from_logits)
        wanted["the caller's predictions on raw rows"] = _as_predicted(model, expected, given, from_logits)
    if encoder is not None:
        wanted["the model behind the encoder of training"] = model_outputs(model, columns, encoder, from_logits)
    if not wanted and reading.schema is None:
        wanted["the model in Python, on the same rows"] = model_outputs(model, columns, reading.encode, from_logits)
    if not wanted:
        raise ValueError(
            "An export is proved against `expected`, the logits that you computed for the rows of `sample` by your own "
            "path, or against `encoder`, the FeatureEncoder by which the model was trained. Received: neither"
        )
    return wanted


def model_outputs(model: keras.Model, columns: Columns, encode: Encode, from_logits: bool | None) -> dict[str, Array]:
    """The outputs of Predict of the model in Python."""
    x = encode({name: tf.constant(values) for name, values in columns.items()})
    try:
        outputs = model(x, training=False)
    except Exception as error:
        raise ValueError(
            "The model must take the columns of `sample` as a dict, or what `preprocess` makes of them, such as "
            f'`preprocess=lambda columns: columns["{next(iter(columns))}"]` for a model of one tensor. '
            f"Received: {type(error).__name__}: {error}, for {keras.tree.map_structure(lambda leaf: leaf.shape, x)}"
        ) from error
    return {name: values.numpy() for name, values in predicted(model, outputs, from_logits).items()}


def _as_predicted(
    model: keras.Model, expected: Any, given: Mapping[str, Array], from_logits: bool | None
) -> dict[str, Array]:
    """What is expected of the model, in the form of Predict's outputs."""
    count = len(given) // (2 if from_logits else 1)
    outputs = {
        name: np.asarray(x) for name, x in predicted(model, _in_structure(model, expected, count), from_logits).items()
    }
    for name in {*given} & {*outputs}:
        if given[name].size == outputs[name].size:
            outputs[name] = outputs[name].astype(given[name].dtype).reshape(given[name].shape)
    shapes, wanted = ({name: x.shape for name, x in named.items()} for named in (outputs, given))
    numbers = [x for x in outputs.values() if x.dtype.kind == "f"]
    if shapes != wanted or not all(np.isfinite(x).all() for x in numbers):
        raise ValueError(
            f"`expected` must be finite outputs of the model for the rows of `sample`, {wanted}. Received: {shapes}"
            + ("" if shapes != wanted else ", not all finite")
        )
    return outputs


def _in_structure(model: keras.Model, expected: Any, count: int) -> Any:
    """Arrays in the structure of the `count` outputs, from a list, as `predict` gives it, or a dict by their names."""
    names = getattr(model, "output_names", None) or ()
    if isinstance(expected, Mapping):
        if not isinstance(getattr(model, "output", None), Mapping) and {*names} == {*expected}:
            expected = [expected[name] for name in names]
        else:
            return {name: np.asarray(x) for name, x in expected.items()}
    if isinstance(expected, list | tuple) and len(expected) == count and all(np.ndim(x) for x in expected):
        return [np.asarray(x) for x in expected]
    return np.asarray(expected)


def check_outputs(
    served: SavedModel,
    calls: Mapping[str, Columns],
    outputs: Mapping[str, Mapping[str, Any]],
    source: str,
    facts: ExportFacts,
    from_logits: bool | None,
) -> None:
    """Raises ExportError unless every signature gives these outputs.

    Probabilities without logits are compared as log-odds, too.
    """
    for signature, wanted in outputs.items():
        got = _compare(served, signature, calls[signature], wanted, f"beside {source}", facts.max_error)
        if from_logits is False and signature in (COLUMNS, EXAMPLES):
            for name, values in got.items():
                _compare_odds(values, np.asarray(wanted[name]), f"`{name}` of `{signature}` (beside {source})", facts)
        logits = [name for name in got if name.endswith("logits")]
        for name in logits or [name for name, values in got.items() if values.dtype.kind == "f"]:
            expected = np.asarray(wanted[name])
            error, bound = float(np.sqrt(np.mean(np.square(got[name] - expected)))), facts.max_rms_error(expected)
            if not error <= bound:
                raise ExportError(
                    f"`{name}` of `{signature}` (beside {source}) must differ by {bound:.2g} at most in the root mean "
                    f"square over the rows. Received: {error:.2g}"
                )


def _compare_odds(got: Array, expected: Array, what: str, facts: ExportFacts) -> None:
    odds, error = log_odds(expected), beyond_rounding(got, expected, facts.precision)
    row = int(np.argmax(error / np.maximum(np.abs(odds), 1)))
    if not difference(odds + error, odds) <= facts.max_error:
        raise ExportError(
            f"{what} must be equal within {facts.max_error:g} in log-odds, but for rounding. Received: "
            f"{got[row].tolist()} where {expected[row].tolist()} is expected, in row {row}"
        )
    if not (mean := float(np.sqrt(np.mean(np.square(error))))) <= (bound := facts.max_rms_error(odds)):
        raise ExportError(
            f"{what} must differ by {bound:.2g} in log-odds at most in the root mean square over the rows. "
            f"Received: {mean:.2g}"
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
    source = f"`{COLUMNS}`" if encoder is None else "the model behind the encoder"
    wanted = served.run(rows) if encoder is None else model_outputs(model, rows, encoder, from_logits=True)
    for what, inputs, signature in _probe_calls(schema, rows):
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
