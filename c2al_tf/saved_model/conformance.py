"""Checks that a SavedModel behaves as a server needs: it answers any number of rows and refuses wrong inputs."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from ..types import Array
from .model import SavedModel
from .native import INVALID_ARGUMENT, SavedModelError
from .signatures import Signature, TensorSpec

BATCH_SIZES = (0, 1, 7, 4096)
MAX_ERROR = 1e-5
"""Bound on the difference of a row's outputs between two batches, relative where they are above 1: the batch size
changes the order of summation."""


@dataclass(frozen=True)
class Check:
    """The result of one check.

    Args:
        what: The requirement.
        passed: Whether it holds.
        found: The observation.
    """

    what: str
    passed: bool
    found: str = ""


def check_calls(model: SavedModel, samples: Mapping[str, Mapping[str, Array]]) -> Iterator[Check]:
    """Calls every signature with batches of several sizes and with inputs that it must refuse.

    Args:
        model: The loaded model.
        samples: By signature an array for each input, all with the same number of rows. A signature without a sample
            is called with zeros and empty strings.
    """
    for name, signature in model.signatures.items():
        if not signature.inputs:
            continue
        rows = samples.get(name) or {key: _zeros(spec) for key, spec in signature.inputs.items()}
        yield from _check_batches(model, name, signature, rows)
        yield from _check_refusals(model, name, signature, rows)


def _check_batches(model: SavedModel, name: str, signature: Signature, rows: Mapping[str, Array]) -> Iterator[Check]:
    try:
        alone = model.run(rows, name)
    except SavedModelError as error:
        yield Check(f"{name}: answers", False, str(error))
        return
    wrong = [key for key, spec in signature.outputs.items() if alone[key].dtype != spec.dtype]
    yield Check(f"{name}: outputs have the declared dtypes", not wrong, ", ".join(wrong or signature.outputs))
    num_rows = len(next(iter(rows.values())))
    for size in BATCH_SIZES:
        chosen = np.arange(size) % num_rows
        what = f"{name}: {size:,} rows get what each gets among {num_rows:,}"
        try:
            together = model.run({key: values[chosen] for key, values in rows.items()}, name)
        except SavedModelError as error:
            yield Check(what, False, str(error))
            continue
        differences = {key: _difference(together[key], alone[key][chosen]) for key in alone}
        worst = max(differences, key=lambda key: differences[key])
        yield Check(what, differences[worst] <= MAX_ERROR, f"{worst}: within {differences[worst]:.1e}")


def _check_refusals(model: SavedModel, name: str, signature: Signature, rows: Mapping[str, Array]) -> Iterator[Check]:
    first, spec = next(iter(signature.inputs.items()))
    other = np.zeros(rows[first].shape, np.int16) if spec.dtype == object else rows[first].astype(str)
    wrong = {
        f"without {first}": {key: values for key, values in rows.items() if key != first},
        "with an input that it has not": {**rows, f"not_{first}": rows[first]},
        f"with another dtype of {first}": {**rows, first: other},
        f"with another rank of {first}": {**rows, first: rows[first][..., np.newaxis]},
    }
    for what, inputs in wrong.items():
        try:
            model.run(inputs, name)
            yield Check(f"{name}: refuses a call {what}", False, "it answered")
        except SavedModelError as error:
            yield Check(f"{name}: refuses a call {what}", error.code == INVALID_ARGUMENT, str(error))


def _difference(a: Array, b: Array) -> float:
    if a.shape != b.shape or a.dtype != b.dtype:
        return np.inf
    if a.dtype.kind != "f":
        return 0.0 if np.array_equal(a, b) else np.inf
    if not np.isfinite(a).all():
        return np.inf
    return float(np.max(np.abs(a - b) / np.maximum(np.abs(b), 1), initial=0.0))


def _zeros(spec: TensorSpec) -> Array:
    shape = [1, *(size or 1 for size in (spec.shape or (None,))[1:])]
    return np.full(shape, "", object) if spec.dtype == object else np.zeros(shape, spec.dtype)
