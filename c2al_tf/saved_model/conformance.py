"""Checks that a SavedModel behaves as a server needs: it answers any number of rows and refuses wrong inputs.

Wrong inputs go to TensorFlow's C++ session as they are: Python's own checks, which would refuse them before, are not
part of what is proved.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from ..protocol.tensors import Signature, TensorSpec
from ..types import Array
from .model import SavedModel
from .native import INVALID_ARGUMENT, SavedModelError

BATCH_SIZES = (0, 1, 7, 4096)
_FEW_ROWS = 4
"""A wrong dtype or rank is refused whatever the number of rows."""

MAX_ERROR = 1e-5
"""Bound on the difference of a row's float32 outputs between two executables, relative where they are above 1: the
compiler and the batch size change the order of summation."""


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


def difference(a: Array, b: Array) -> float:
    """The largest difference of two outputs, relative where `b` is above 1; infinite unless both are finite and alike.

    Outputs that are not floating-point differ by 0 or infinitely.
    """
    if a.shape != b.shape or a.dtype != b.dtype:
        return math.inf
    if a.dtype.kind != "f":
        return 0.0 if np.array_equal(a, b) else math.inf
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return math.inf
    return float(np.max(np.abs(a - b) / np.maximum(np.abs(b), 1), initial=0.0))


def check_calls(
    model: SavedModel, samples: Mapping[str, Mapping[str, Array]], max_error: float = MAX_ERROR
) -> Iterator[Check]:
    """Calls every signature with batches of several sizes and with inputs that it must refuse.

    Args:
        model: The loaded model.
        samples: By signature an array for each input, all with the same number of rows. A signature without a sample
            is called with zeros and empty strings.
        max_error: Bound on the difference of a row's outputs between two batches, relative where they are above 1.
    """
    asked_for = set()
    for name, signature in model.signatures.items():
        if not signature.inputs:
            continue
        rows = samples.get(name) or {key: _zeros(spec) for key, spec in signature.inputs.items()}
        yield from _check_batches(model, name, signature, rows, max_error)
        tensors = frozenset(spec.tensor for spec in signature.inputs.values())
        few = {key: values[:_FEW_ROWS] for key, values in rows.items()}
        yield from _check_refusals(model, name, signature, few, tensors not in asked_for)
        asked_for.add(tensors)


def _check_batches(
    model: SavedModel, name: str, signature: Signature, rows: Mapping[str, Array], max_error: float
) -> Iterator[Check]:
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
        differences = {key: difference(together[key], alone[key][chosen]) for key in alone}
        worst = max(differences, key=lambda key: differences[key])
        yield Check(what, differences[worst] <= max_error, f"{worst}: within {differences[worst]:.1e}")


def _check_refusals(
    model: SavedModel, name: str, signature: Signature, rows: Mapping[str, Array], asks_anew: bool
) -> Iterator[Check]:
    """No input is given, and each in turn is of another dtype and of another rank: TensorFlow itself must refuse.

    An input that is no placeholder, or of any rank, is left out alone, too. A call for each other one would say no
    more, and take TensorFlow 0.1 to 0.3 s, in which it optimizes the graph for these inputs: a placeholder that nothing
    reads is seen by its rank. Nor would a call without any of the placeholders of an earlier signature, which does not
    ask anew.
    """
    unsure = [key for key, spec in signature.inputs.items() if spec.shape is None or not model.must_be_fed(key, name)]
    ranked = [key for key, spec in signature.inputs.items() if spec.shape is not None]
    nothing: dict[str, dict[str, Array]] = {"no input at all": {}} if asks_anew else {}
    for what, spoilt in {
        "without an input": nothing | {key: {k: rows[k] for k in rows if k != key} for key in unsure},
        "with another dtype of an input": {key: {**rows, key: _of_another_dtype(rows[key])} for key in rows},
        "with another rank of an input": {key: {**rows, key: rows[key][..., np.newaxis]} for key in ranked},
    }.items():
        if not spoilt:
            continue
        answered, found = [], ""
        for key, inputs in spoilt.items():
            try:
                model.run_unchecked(inputs, name)
                answered.append(key)
            except SavedModelError as error:
                # Without the places in the graph, which TensorFlow names in double braces.
                found = " ".join(re.sub(r"\[?\[?\{\{.*?\}\}\]?\]?", "", str(error)).split())
                if error.code != INVALID_ARGUMENT:
                    answered.append(f"{key} ({found})")
        said = f"TensorFlow answers in spite of {', '.join(answered)}" if answered else found
        yield Check(f"{name}: refuses a call {what}, tried with {len(spoilt)}", not answered, said)


def _of_another_dtype(values: Array) -> Array:
    return np.zeros(values.shape, np.int16) if values.dtype.kind in "OSUT" else values.astype(str)


def _zeros(spec: TensorSpec) -> Array:
    shape = [1, *(size or 1 for size in (spec.shape or (None,))[1:])]
    return np.full(shape, "", object) if spec.dtype == object else np.zeros(shape, spec.dtype)
