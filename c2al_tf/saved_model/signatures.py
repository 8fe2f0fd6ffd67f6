"""The signatures of a SavedModel, read from its MetaGraphDef."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from .tensors import DTYPES

_INIT_OP = "__saved_model_init_op"


@dataclasses.dataclass(frozen=True)
class TensorSpec:
    """One input or output: the graph's tensor, its dtype (strings: object) and its shape.

    `None` stands for a size that is free; as the whole shape, for a free rank.
    """

    tensor: str
    dtype: np.dtype[Any]
    shape: tuple[int | None, ...] | None

    def __str__(self) -> str:
        return f"{dtype_name(self.dtype)} {shape_text(self.shape)}"


@dataclasses.dataclass(frozen=True)
class Signature:
    """A function of the model: its named inputs and outputs."""

    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    method_name: str


@dataclasses.dataclass(frozen=True)
class MetaGraph:
    """The parts of a MetaGraphDef used here: signatures, parsed and as stored, and whether TensorFlow 2 wrote it."""

    signatures: Mapping[str, Signature]
    signature_defs: Mapping[str, bytes]
    is_tensorflow_2: bool


def read_meta_graph(serialized: bytes) -> MetaGraph:
    """Parses a MetaGraphDef. The init op, which is stored among the signatures, is left out of `signatures`."""
    meta_graph = _message("MetaGraphDef").FromString(serialized)
    stored = {entry.key: entry.value for entry in sorted(meta_graph.signature_def, key=lambda entry: entry.key)}
    return MetaGraph(
        {name: _signature(value) for name, value in stored.items() if name != _INIT_OP},
        {name: value.SerializeToString() for name, value in stored.items()},
        bool(meta_graph.object_graph_def),
    )


def session_config(inter_op_threads: int, intra_op_threads: int) -> bytes:
    """A serialized ConfigProto."""
    config = _message("ConfigProto")(
        inter_op_parallelism_threads=inter_op_threads, intra_op_parallelism_threads=intra_op_threads
    )
    return bytes(config.SerializeToString())


def shape_text(shape: Sequence[int | None] | None) -> str:
    """A shape like `(?, 3)`, with a question mark for a free size; `(...)` if the rank is free."""
    return "(...)" if shape is None else f"({', '.join('?' if size is None else str(size) for size in shape)})"


def dtype_name(dtype: np.dtype[Any]) -> str:
    """TensorFlow's name of a dtype."""
    return "string" if dtype.kind == "O" else dtype.name


def _signature(stored: Any) -> Signature:
    inputs, outputs = (
        {entry.key: _tensor_spec(entry.value) for entry in sorted(entries, key=lambda entry: entry.key)}
        for entries in (stored.inputs, stored.outputs)
    )
    return Signature(inputs, outputs, stored.method_name)


def _tensor_spec(info: Any) -> TensorSpec:
    sizes = tuple(dim.size if dim.size >= 0 else None for dim in info.tensor_shape.dim)
    dtype = DTYPES.get(info.dtype, np.dtype(np.void))
    return TensorSpec(info.name, dtype, None if info.tensor_shape.unknown_rank else sizes)


@functools.cache
def _pool() -> descriptor_pool.DescriptorPool:
    """The parts of tensorflow/core/protobuf's meta_graph.proto and config.proto that are used here.

    They are in a separate pool, as the default one may hold the same names. On the wire a map is a list of entries.
    """
    messages: dict[str, list[tuple[str, int, str]]] = {
        "MetaGraphDef": [("signature_def", 5, "SignatureEntry*"), ("object_graph_def", 7, "bytes")],
        "SignatureEntry": [("key", 1, "string"), ("value", 2, "SignatureDef")],
        "SignatureDef": [("inputs", 1, "TensorEntry*"), ("outputs", 2, "TensorEntry*"), ("method_name", 3, "string")],
        "TensorEntry": [("key", 1, "string"), ("value", 2, "TensorInfo")],
        "TensorInfo": [("name", 1, "string"), ("dtype", 2, "int32"), ("tensor_shape", 3, "TensorShapeProto")],
        "TensorShapeProto": [("dim", 2, "Dim*"), ("unknown_rank", 3, "bool")],
        "Dim": [("size", 1, "int64")],
        "ConfigProto": [("intra_op_parallelism_threads", 2, "int32"), ("inter_op_parallelism_threads", 5, "int32")],
    }
    field_type = descriptor_pb2.FieldDescriptorProto.Type
    file = descriptor_pb2.FileDescriptorProto(name="saved_model.proto", package="c2al", syntax="proto3")
    for name, fields in messages.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            added = message.field.add(name=field, number=number, label=3 if kind.endswith("*") else 1)
            if kind.rstrip("*") in messages:
                added.type, added.type_name = field_type.TYPE_MESSAGE, f".c2al.{kind.rstrip('*')}"
            else:
                added.type = field_type.Value(f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool


def _message(name: str) -> Any:
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"c2al.{name}"))
