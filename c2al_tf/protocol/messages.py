"""The protobuf messages of TensorFlow Serving's API that are spoken here, made of the `declarations`.

They are declared here because the official ones, `tensorflow_serving.apis`, import all of TensorFlow. They live in a
descriptor pool of their own, so both can be used in one process. The `tf.Example`s of an `Input` are `bytes` here, the
same on the wire: the model wants them serialized.
"""

import re
from typing import Any

from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2

from .declarations import ERROR, SERVICES as SERVICES, SERVING, TENSORFLOW

_DECLARATION = re.compile(r"(message|enum) (\S+) \{([^}]*)\}")
_FIELD = re.compile(r"(?:oneof (?P<oneof>\w+) )?(?P<repeated>repeated )?(?P<type>map<string, .+>|\S+) (\w+) = (\d+)")
_FieldType = descriptor_pb2.FieldDescriptorProto
_SCALARS = {"bool", "bytes", "double", "float", "int32", "int64", "string", "uint32", "uint64"}


def _add_field(message: descriptor_pb2.DescriptorProto, text: str) -> None:
    match = _FIELD.fullmatch(text)
    assert match is not None, text
    kind, name, number = match["type"], match[4], int(match[5])
    label = _FieldType.LABEL_REPEATED if match["repeated"] else _FieldType.LABEL_OPTIONAL
    field = message.field.add(name=name, number=number, label=label)
    if kind.startswith("map<"):
        # A map is a list of entries, whose message protobuf wants named so.
        entry = message.nested_type.add(name=f"{name.title().replace('_', '')}Entry")
        entry.options.map_entry = True
        _add_field(entry, "string key = 1")
        _add_field(entry, f"{kind.removeprefix('map<string, ').removesuffix('>')} value = 2")
        field.label, kind = _FieldType.LABEL_REPEATED, entry.name
    if kind in _SCALARS:
        field.type = _FieldType.Type.Value(f"TYPE_{kind.upper()}")
    else:
        field.type_name = kind
    if match["oneof"]:
        oneofs = [oneof.name for oneof in message.oneof_decl]
        if match["oneof"] not in oneofs:
            message.oneof_decl.add(name=match["oneof"])
            oneofs.append(match["oneof"])
        field.oneof_index = oneofs.index(match["oneof"])


def _file(package: str, declarations: str, *imports: str) -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    file.dependency.extend(imports)
    added: dict[str, Any] = {}
    for kind, path, body in _DECLARATION.findall(declarations):
        outer, _, name = path.rpartition(".")
        parent: Any = added[outer] if outer else file
        parts = [" ".join(part.split()) for part in body.split(";")[:-1]]
        if kind == "message":
            added[path] = (parent.nested_type if outer else parent.message_type).add(name=name)
            for part in parts:
                _add_field(added[path], part)
        else:
            values = (part.split(" = ") for part in parts)
            parent.enum_type.add(name=name, value=[{"name": value, "number": int(number)} for value, number in values])
    return file


def _pool(tensorflow_declarations: str) -> descriptor_pool.DescriptorPool:
    known = any_pb2.DESCRIPTOR, wrappers_pb2.DESCRIPTOR
    tensorflow, error = _file("tensorflow", tensorflow_declarations), _file("tensorflow.error", ERROR)
    serving = _file("tensorflow.serving", SERVING, tensorflow.name, error.name, *(file.name for file in known))
    for name, methods in SERVICES.items():
        service = serving.service.add(name=name)
        for method, (request, response) in methods.items():
            service.method.add(name=method, input_type=request, output_type=response)
    pool = descriptor_pool.DescriptorPool()
    for file in known:
        pool.AddSerializedFile(file.serialized_pb)
    for added in (tensorflow, error, serving):
        pool.Add(added)
    return pool


def _class(pool: descriptor_pool.DescriptorPool, name: str) -> Any:
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


POOL = _pool(TENSORFLOW)
_shape_as_bytes = TENSORFLOW.replace("TensorShapeProto tensor_shape", "bytes tensor_shape")
WirePredictRequest = _class(_pool(_shape_as_bytes), "tensorflow.serving.PredictRequest")
"""A PredictRequest as a server reads it: the shapes of its tensors stay bytes, most of which the server has seen."""

PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"


def __getattr__(name: str) -> Any:
    """The class of the message of that name."""
    package = "tensorflow" if f"message {name} {{" in TENSORFLOW else "tensorflow.serving"
    try:
        message = _class(POOL, f"{package}.{name}")
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no message {name!r}") from None
    return globals().setdefault(name, message)
