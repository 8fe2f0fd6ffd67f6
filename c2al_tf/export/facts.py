"""The contents of an exported SavedModel, and the check that they match those of a reference export."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from ..protocol.tensors import read_signatures
from ..saved_model import DEFAULT_SIGNATURE, SavedModel
from ..saved_model.conformance import MAX_ERROR
from ..storage import opened
from ..types import Array

MAX_SIZE_RATIO = 0.01
"""Bound on the relative difference in bytes to the reference's export, without the names of layers."""


HALF_STEPS = 16.0
"""Rounding steps of a half precision by which an output may differ between two executables. On 8,192 rows of
Census-Income XLA and TensorFlow's C++ runtime differ by 4 at most."""

HALF_RMS_STEPS = 2.0
"""Rounding steps, of the spread of the logits, by which the logits may differ in the root mean square, beside half of
one of their mean: a bias that only one of two executables rounds shifts all rows. A wrong encoding moves them by more
of the spread. Census-Income: 0.3."""

EPSILONS = {"float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
"""Distance from 1 to the next number, by the type in which a graph computes."""


_OF_CHECKPOINT = b"/.ATTRIBUTES/"
"""In the key of every variable in a checkpoint."""


class ExportError(RuntimeError):
    """An export failed a check and was not published."""


@dataclass(frozen=True)
class ExportFacts:
    """The contents of a SavedModel.

    Args:
        nodes: Nodes of the graph and of all functions in it.
        variables: (shape, dtype) of every variable, sorted.
        variable_bytes: Size of the variables' values.
        total_bytes: Size of all files, without those in `assets.extra/`.
        data_bytes: Size of variables, assets and the graph's constants: all but names and structure.
        must_compile: Nodes and functions that force XLA, which TensorFlow Serving refuses to run.
        precision: The coarsest type in which the graph computes.
    """

    nodes: int
    variables: tuple[tuple[tuple[int, ...], str], ...]
    variable_bytes: int
    total_bytes: int
    data_bytes: int
    must_compile: int
    precision: str = "float32"

    def max_rms_error(self, logits: Array) -> float:
        """Bound on the root mean square, over rows, of the difference of logits between two executables."""
        if self.precision == "float32":
            return math.inf  # `max_error` says enough.
        spread, shift = max(float(np.std(logits)), 0.1), abs(float(np.mean(logits)))
        return EPSILONS[self.precision] * (HALF_RMS_STEPS * spread + shift / 2)

    @property
    def max_error(self) -> float:
        """Bound on the difference of an output between two executables, relative where it is above 1."""
        return MAX_ERROR if self.precision == "float32" else HALF_STEPS * EPSILONS[self.precision]


def inspect_export(directory: str | Path) -> ExportFacts:
    """Counts the contents of the SavedModel in `directory`."""
    directory = opened(directory)
    saved_model = saved_model_pb2.SavedModel.FromString((directory / "saved_model.pb").read_bytes())
    main, functions = attrgetter("node", "library.function")(saved_model.meta_graphs[0].graph_def)
    nodes = [*main, *(node for function in functions for node in function.node_def)]
    shapes = tf.train.load_checkpoint(str(directory / "variables" / "variables"))
    dtypes = shapes.get_variable_to_dtype_map()
    variables = [
        (tuple(shape), dtypes[name].name)
        for name, shape in shapes.get_variable_to_shape_map().items()
        if not name.startswith("_CHECKPOINTABLE")
    ]
    files = [path for path in directory.rglob("*") if path.is_file() and "assets.extra" not in path.parts]
    assets = sum(path.stat().st_size for path in files if "assets" in path.relative_to(directory).parts)
    variable_bytes = sum(int(np.prod(shape)) * tf.dtypes.as_dtype(dtype).size for shape, dtype in variables)
    return ExportFacts(
        nodes=len(nodes),
        variables=tuple(sorted(variables)),
        variable_bytes=variable_bytes,
        total_bytes=sum(path.stat().st_size for path in files),
        data_bytes=variable_bytes + assets + _constant_bytes(nodes),
        must_compile=sum("_XlaMustCompile" in holder.attr for holder in [*nodes, *functions]),
        precision=_precision(nodes),
    )


def _constant_bytes(nodes: Iterable[Any]) -> int:
    """Size of the constants, without those that name variables for a checkpoint: they hold names of layers."""
    values = (node.attr["value"].tensor for node in nodes if node.op == "Const")
    return sum(value.ByteSize() for value in values if not any(_OF_CHECKPOINT in text for text in value.string_val))


def _precision(nodes: Iterable[Any]) -> str:
    """The coarsest floating-point type of the nodes' arguments and results."""
    found = {value.type for node in nodes for value in node.attr.values() if value.type}
    kinds = {tf.bfloat16.as_datatype_enum: "bfloat16", tf.float16.as_datatype_enum: "float16"}
    return max((kinds[kind] for kind in found & set(kinds)), key=lambda name: EPSILONS[name], default="float32")


def check_facts(export: ExportFacts, reference: ExportFacts | None) -> None:
    """Checks that a server can run an export, and that it differs from a reference's in the values of its weights only.

    Raises:
        ExportError: If a node forces XLA, or nodes, variables or size differ from a reference's.
    """
    if export.must_compile:
        raise ExportError(
            f"No node may carry `_XlaMustCompile`: TensorFlow Serving has XLA off. "
            f"Received: {export.must_compile} that do"
        )
    if reference is None:
        return
    if export.variables != reference.variables:
        extra = sorted(set(export.variables) ^ set(reference.variables))[:4]
        raise ExportError(
            "The export's variables must be the reference's: auxiliary heads, optimizer slots and copies do not belong "
            f"there. Received: {len(export.variables)} variables, the reference has {len(reference.variables)}; shapes "
            f"on one side alone: {extra}"
        )
    if export.nodes != reference.nodes:
        raise ExportError(
            f"The export's graph must have as many nodes as the reference's. Received: {export.nodes}, the reference "
            f"has {reference.nodes}"
        )
    if abs(export.data_bytes / max(reference.data_bytes, 1) - 1) > MAX_SIZE_RATIO:
        raise ExportError(
            f"The export's variables, assets and constants must be within {MAX_SIZE_RATIO:.0%} of the reference's. "
            f"Received: {export.data_bytes} bytes, the reference has {reference.data_bytes}"
        )


def check_signature(export: SavedModel, reference: str | Path) -> None:
    """Checks that an export is called as today's SavedModel is.

    Raises:
        ExportError: If the inputs or outputs of `serving_default` differ in name, dtype or shape.
        ValueError: If there is no SavedModel in `reference`, or it has no such signature.
    """
    file = opened(reference) / "saved_model.pb"
    if not file.exists():
        raise ValueError(f"`reference` must be a model, or the folder of a SavedModel. Received: no {file}")
    stored = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    today = read_signatures(stored.meta_graphs[0].signature_def).get(DEFAULT_SIGNATURE)
    if today is None:
        raise ValueError(f"`reference` must have the signature `{DEFAULT_SIGNATURE}`. Received: {file} without it")
    ours = export.signatures[DEFAULT_SIGNATURE]
    for what in ("inputs", "outputs"):
        has, had = ({name: str(spec) for name, spec in getattr(each, what).items()} for each in (ours, today))
        if has != had:
            raise ExportError(
                f"The {what} of `{DEFAULT_SIGNATURE}` must be those of {reference}, {had}. Received: {has}"
            )
