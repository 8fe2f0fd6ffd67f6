"""The protobuf messages of TensorFlow Serving's API that are spoken here, made of the `declarations`.

They are declared here because the official ones, `tensorflow_serving.apis`, import all of TensorFlow. They live in a
descriptor pool of their own, so both can be used in one process. The `tf.Example`s of an `Input` are `bytes` here, the
same on the wire: the model wants them serialized.
"""

import re
from typing import Any

from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2

from .declarations import CODES, DATA_TYPES, MODEL_TYPES, SERVICES as SERVICES, SERVING, STATES, TENSORFLOW

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


def _add_enum(enums: Any, name: str, values: dict[str, int]) -> None:
    enum = enums.add(name=name)
    for value, number in values.items():
        enum.value.add(name=value, number=number)


def _add_services(file: descriptor_pb2.FileDescriptorProto, services: dict[str, dict[str, tuple[str, str]]]) -> None:
    for name, methods in services.items():
        service = file.service.add(name=name)
        for method, (request, response) in methods.items():
            service.method.add(name=method, input_type=request, output_type=response)


def _file(package: str, messages: dict[str, tuple[str, ...]], *imports: str) -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    file.dependency.extend(imports)
    added: dict[str, descriptor_pb2.DescriptorProto] = {}
    for name in sorted(messages, key=lambda name: name.count(".")):
        outer, _, last = name.rpartition(".")
        added[name] = (added[outer].nested_type if outer else file.message_type).add(name=last)
        for field in messages[name]:
            _add_field(added[name], field)
    return file


def _pool(tensorflow_messages: dict[str, tuple[str, ...]]) -> descriptor_pool.DescriptorPool:
    tensorflow = _file("tensorflow", tensorflow_messages)
    _add_enum(tensorflow.enum_type, "DataType", DATA_TYPES)
    error = _file("tensorflow.error", {})
    _add_enum(error.enum_type, "Code", CODES)
    known = any_pb2.DESCRIPTOR, wrappers_pb2.DESCRIPTOR
    serving = _file("tensorflow.serving", SERVING, tensorflow.name, error.name, *(file.name for file in known))
    status = next(message for message in serving.message_type if message.name == "ModelVersionStatus")
    _add_enum(status.enum_type, "State", STATES)
    _add_enum(serving.enum_type, "ModelType", MODEL_TYPES)
    _add_services(serving, SERVICES)
    pool = descriptor_pool.DescriptorPool()
    for file in known:
        pool.AddSerializedFile(file.serialized_pb)
    for added in (tensorflow, error, serving):
        pool.Add(added)
    return pool


def _class(pool: descriptor_pool.DescriptorPool, name: str) -> Any:
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


POOL = _pool(TENSORFLOW)
_shape_as_bytes = tuple(field.replace("TensorShapeProto", "bytes") for field in TENSORFLOW["TensorProto"])
WirePredictRequest = _class(_pool({**TENSORFLOW, "TensorProto": _shape_as_bytes}), "tensorflow.serving.PredictRequest")
"""A PredictRequest as a server reads it: the shapes of its tensors stay bytes, most of which the server has seen."""

PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"


def __getattr__(name: str) -> Any:
    """The class of the message of that name."""
    package = "tensorflow" if name in TENSORFLOW else "tensorflow.serving"
    try:
        message = _class(POOL, f"{package}.{name}")
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no message {name!r}") from None
    return globals().setdefault(name, message)
