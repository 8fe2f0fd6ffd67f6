"""The documentation in an export: names, dtypes, shapes and meanings of the inputs and outputs of each signature."""

import json
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ..saved_model import DEFAULT_SIGNATURE, Signature, TensorSpec
from ..schema import CategoricalFeature, Feature, Schema
from ..types import MISSING_INT, MISSING_STRING, Columns

_NULLS = {"string": f'`"{MISSING_STRING}"`', "int64": f"`{MISSING_INT}`", "float32": "`NaN`"}
_RPCS = {"predict": "Predict", "classify": "Classify and MultiInference", "regress": "Regress and MultiInference"}
_MEANINGS = {
    "logits": "log-odds that `{label}` is 1",
    "probabilities": "probability that `{label}` is 1",
    "scores": "probabilities that `{label}` is 0, and that it is 1",
    "classes": 'the labels that the scores are of: "0", "1"',
    "outputs": "probability that `{label}` is 1",
}
_HEAD = """\
# What this model takes and gives

A version folder for TensorFlow Serving. Dtypes are exact: a server refuses int32 where int64 stands, with
INVALID_ARGUMENT. `?` is the number of rows, any number from 0 on and the same for all inputs of a request.

A `tf.Example` has the columns of `serving_default` as its features: strings in `bytes_list`, """
_NULLS_IN_EXAMPLES = """\
int64 in `int64_list`,
float32 in `float_list` or `int64_list`, which may differ from row to row. A feature that is absent or empty has no
value; values beyond a column's length are cut off.

An input has the name of its column in the training files, if that begins with a letter and goes on with letters from a
to z, digits and `_`, and is no word of Python. Else these stay, a letter or digit of another script becomes `u` and its
code point, what lies between becomes `_` or, at the ends, nothing, `x_` comes before a name that would not begin with a
letter, and `_` after a word of Python: `Price (EUR)` is `Price_EUR`. Requests and their `tf.Example`s need the inputs'
names.
"""
_ALL_IN_EXAMPLES = """\
integers and
booleans in `int64_list`, other numbers in `float_list`. Each column is needed, with all of its values, but one of any
number of values, `(?, ?)`: it may be absent, and `serving_default` takes it padded with `""`, NaN or
-9223372036854775808, which are no values.
"""
_ASK = """\
## Ask it

`default` stands for the name that the server has for the model.

    {requests}

In Python, by gRPC:

    import json
    from c2al_serving.client import PredictClient

    columns = json.loads({columns!r})
    with PredictClient("localhost:8500", "default") as client:
        print(client.predict(columns))
"""


def export_readme(
    signatures: Mapping[str, Signature], sample: Columns, proof: str, schema: Schema | None = None
) -> str:
    """Describes an export in Markdown.

    Args:
        signatures: The signatures of the export.
        sample: Raw columns; the first row is the one in the requests that are shown.
        proof: What the export's outputs were compared with.
        schema: The meaning of the raw columns; without one they are what the model was trained on.
    """
    ordered = sorted(signatures, key=lambda name: (name != DEFAULT_SIGNATURE, name))
    parts = [
        _HEAD + (_NULLS_IN_EXAMPLES if schema else _ALL_IN_EXAMPLES),
        f"Before it was published its outputs were compared with {proof}.\n",
        *(_describe(name, signatures[name], schema) for name in ordered),
        _ask(signatures, sample),
    ]
    return "\n".join(parts)


def _describe(name: str, signature: Signature, schema: Schema | None) -> str:
    columns: Mapping[str, str] = {}
    if name == DEFAULT_SIGNATURE:
        features = schema.features if schema else ()
        columns = dict.fromkeys(signature.inputs, "as in training") | {f.name: _values(f) for f in features}
    lines = [f"## `{name}`", "", f"For {_RPCS[_method(signature)]}.", ""]
    rows = ((key, spec, columns.get(key, "serialized `tf.Example`s")) for key, spec in signature.inputs.items())
    lines += _table("input", "values", rows)
    rows = ((key, spec, _meaning(key, name, schema)) for key, spec in signature.outputs.items())
    return "\n".join([*lines, *_table("output", "meaning", rows)])


def _table(what: str, last: str, rows: Iterable[tuple[str, TensorSpec, str]]) -> list[str]:
    lines = [f"| {what} | dtype | shape | {last} |", "|---|---|---|---|"]
    for name, spec, text in rows:
        dtype, shape = str(spec).split(" ", 1)
        lines.append(f"| `{name}` | {dtype} | `{shape}` | {text} |")
    return [*lines, ""]


def _values(feature: Feature) -> str:
    """The values that a column may hold, and how the model treats unknown ones."""
    null = _NULLS[feature.column.dtype]
    if not isinstance(feature, CategoricalFeature):
        return f"numbers; {null} or an infinite one {_missing(feature)}"
    if feature.vocabulary is None:
        known = f"any, hashed to {feature.num_hash_buckets:,} buckets"
    else:
        known = f"{len(feature.vocabulary):,} known ones; any other is taken as out of vocabulary, as in training"
    if feature.length is None:
        return f"{known}; {null} {_missing(feature)}"
    return f"{known}; up to {feature.length} a row, padded with {null}; a row of padding alone {_missing(feature)}"


def _missing(feature: Feature) -> str:
    if feature.missing == "default":
        return f"stands for `{feature.default}`"
    return "is no value" if feature.missing == "slot" else "is no value, which no training row had"


def _meaning(output: str, signature: str, schema: Schema | None) -> str:
    kind = next((kind for kind in _MEANINGS if output.endswith(kind)), None)
    if kind is None:
        return "what the model gives"
    prefixes = (output.removesuffix(kind), _prefix(signature))
    if schema is None:
        label = next((prefix.removesuffix("_") for prefix in prefixes if prefix.endswith("_")), "label")
    else:
        label = next((label for label in schema.labels if f"{label}_" in prefixes), schema.labels[0])
    return _MEANINGS[kind].format(label=label)


def _prefix(signature: str) -> str:
    return signature.removesuffix("classify").removesuffix("regress")


def _ask(signatures: Mapping[str, Signature], sample: Columns) -> str:
    row = {name: _json_value(values[0]) for name, values in sample.items()}
    example = {name: present for name, value in row.items() if (present := _present(value))}
    bodies: dict[str, dict[str, Any]] = {"predict": {"instances": [row]}}
    for name, signature in signatures.items():
        bodies.setdefault(_method(signature), {"signature_name": name, "examples": [example]})
    url = "localhost:8501/v1/models/default"
    requests = [f"curl {url}:{method} -d {shlex.quote(json.dumps(body))}" for method, body in bodies.items()]
    columns = json.dumps({name: [value] for name, value in row.items()})
    return _ASK.format(requests="\n    ".join(requests), columns=columns)


def _method(signature: Signature) -> str:
    return signature.method_name.rpartition("/")[2]


def _json_value(value: Any) -> Any:
    # The shortest decimal form of a float32: 0.2 instead of 0.20000000298023224.
    if isinstance(value, np.float32):
        return float(str(value))
    if isinstance(value, np.ndarray) and value.ndim:
        return [_json_value(item) for item in value]
    return value.decode(errors="replace") if isinstance(value, bytes) else np.asarray(value).tolist()


def _present(value: Any) -> list[Any]:
    values = value if isinstance(value, list) else [value]
    return [item for item in values if item not in (MISSING_STRING, MISSING_INT) and item == item]
