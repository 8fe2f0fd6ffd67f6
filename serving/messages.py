"""The protobuf messages of TensorFlow Serving's API that are spoken here, field for field as in its .proto files.

They are declared here because the official ones, `tensorflow_serving.apis`, import all of TensorFlow. They live in a
descriptor pool of their own, so both can be used in one process. Fields left out are kept when a message is passed on,
as protobuf does with every field that it does not know.

One thing is declared otherwise: the `tf.Example`s of an `Input` are `bytes` here, which is the same on the wire. The
model wants them serialized, so they need not be parsed and serialized again on the way.
"""

import re
from typing import Any

from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2

_TENSORFLOW = {
    "TensorShapeProto.Dim": ("int64 size = 1", "string name = 2"),
    "TensorShapeProto": ("repeated Dim dim = 2", "bool unknown_rank = 3"),
    "TensorProto": (
        "DataType dtype = 1",
        "TensorShapeProto tensor_shape = 2",
        "int32 version_number = 3",
        "bytes tensor_content = 4",
        "repeated int32 half_val = 13",
        "repeated float float_val = 5",
        "repeated double double_val = 6",
        "repeated int32 int_val = 7",
        "repeated bytes string_val = 8",
        "repeated int64 int64_val = 10",
        "repeated bool bool_val = 11",
        "repeated uint32 uint32_val = 16",
        "repeated uint64 uint64_val = 17",
    ),
    "NamedTensorProto": ("string name = 1", "TensorProto tensor = 2"),
    "TensorInfo": ("oneof encoding string name = 1", "DataType dtype = 2", "TensorShapeProto tensor_shape = 3"),
    "SignatureDef": (
        "map<string, TensorInfo> inputs = 1",
        "map<string, TensorInfo> outputs = 2",
        "string method_name = 3",
        "map<string, TensorProto> defaults = 4",
    ),
    "BytesList": ("repeated bytes value = 1",),
    "FloatList": ("repeated float value = 1",),
    "Int64List": ("repeated int64 value = 1",),
    "Feature": (
        "oneof kind BytesList bytes_list = 1",
        "oneof kind FloatList float_list = 2",
        "oneof kind Int64List int64_list = 3",
    ),
    "Features": ("map<string, Feature> feature = 1",),
    "Example": ("Features features = 1",),
}

_SERVING = {
    "ModelSpec": (
        "string name = 1",
        "oneof version_choice google.protobuf.Int64Value version = 2",
        "oneof version_choice string version_label = 4",
        "string signature_name = 3",
    ),
    "PredictRequest": (
        "ModelSpec model_spec = 1",
        "map<string, tensorflow.TensorProto> inputs = 2",
        "repeated string output_filter = 3",
    ),
    # Two readings of PredictRequest's bytes: a map is a list of entries on the wire, and any message in it bytes.
    "PredictEnvelope": ("ModelSpec model_spec = 1", "repeated bytes inputs = 2", "repeated string output_filter = 3"),
    "NamedTensor": ("string key = 1", "tensorflow.TensorProto value = 2"),
    "PredictResponse": ("ModelSpec model_spec = 2", "map<string, tensorflow.TensorProto> outputs = 1"),
    "ExampleList": ("repeated bytes examples = 1",),
    "ExampleListWithContext": ("repeated bytes examples = 1", "bytes context = 2"),
    "Input": (
        "oneof kind ExampleList example_list = 1",
        "oneof kind ExampleListWithContext example_list_with_context = 2",
    ),
    "Class": ("string label = 1", "float score = 2"),
    "Classifications": ("repeated Class classes = 1",),
    "ClassificationResult": ("repeated Classifications classifications = 1",),
    "ClassificationRequest": ("ModelSpec model_spec = 1", "Input input = 2"),
    "ClassificationResponse": ("ModelSpec model_spec = 2", "ClassificationResult result = 1"),
    "Regression": ("float value = 1",),
    "RegressionResult": ("repeated Regression regressions = 1",),
    "RegressionRequest": ("ModelSpec model_spec = 1", "Input input = 2"),
    "RegressionResponse": ("ModelSpec model_spec = 2", "RegressionResult result = 1"),
    "InferenceTask": ("ModelSpec model_spec = 1", "string method_name = 2"),
    "InferenceResult": (
        "ModelSpec model_spec = 1",
        "oneof result ClassificationResult classification_result = 2",
        "oneof result RegressionResult regression_result = 3",
    ),
    "MultiInferenceRequest": ("repeated InferenceTask tasks = 1", "Input input = 2"),
    "MultiInferenceResponse": ("repeated InferenceResult results = 1",),
    "SignatureDefMap": ("map<string, tensorflow.SignatureDef> signature_def = 1",),
    "GetModelMetadataRequest": ("ModelSpec model_spec = 1", "repeated string metadata_field = 2"),
    "GetModelMetadataResponse": (
        "ModelSpec model_spec = 1",
        "map<string, google.protobuf.Any> metadata = 2",
    ),
    "StatusProto": ("tensorflow.error.Code error_code = 1", "string error_message = 2"),
    "ModelVersionStatus": ("int64 version = 1", "State state = 2", "StatusProto status = 3"),
    "GetModelStatusRequest": ("ModelSpec model_spec = 1",),
    "GetModelStatusResponse": ("repeated ModelVersionStatus model_version_status = 1",),
    "LogCollectorConfig": ("string type = 1", "string filename_prefix = 2"),
    "SamplingConfig": ("double sampling_rate = 1",),
    "LoggingConfig": ("LogCollectorConfig log_collector_config = 1", "SamplingConfig sampling_config = 2"),
    "FileSystemStoragePathSourceConfig": (),
    "FileSystemStoragePathSourceConfig.ServableVersionPolicy": (
        "oneof policy_choice Latest latest = 100",
        "oneof policy_choice All all = 101",
        "oneof policy_choice Specific specific = 102",
    ),
    "FileSystemStoragePathSourceConfig.ServableVersionPolicy.Latest": ("uint32 num_versions = 1",),
    "FileSystemStoragePathSourceConfig.ServableVersionPolicy.All": (),
    "FileSystemStoragePathSourceConfig.ServableVersionPolicy.Specific": ("repeated int64 versions = 1",),
    "ModelConfig": (
        "string name = 1",
        "string base_path = 2",
        "ModelType model_type = 3",
        "string model_platform = 4",
        "FileSystemStoragePathSourceConfig.ServableVersionPolicy model_version_policy = 7",
        "map<string, int64> version_labels = 8",
        "LoggingConfig logging_config = 6",
    ),
    "ModelConfigList": ("repeated ModelConfig config = 1",),
    "ModelServerConfig": (
        "oneof config ModelConfigList model_config_list = 1",
        "oneof config google.protobuf.Any custom_model_config = 2",
    ),
    "BatchingParameters": (
        "google.protobuf.Int64Value max_batch_size = 1",
        "google.protobuf.Int64Value batch_timeout_micros = 2",
        "google.protobuf.Int64Value max_enqueued_batches = 3",
        "google.protobuf.Int64Value num_batch_threads = 4",
        "google.protobuf.StringValue thread_pool_name = 5",
        "repeated int64 allowed_batch_sizes = 6",
        "bool pad_variable_length_inputs = 7",
        "google.protobuf.BoolValue enable_large_batch_splitting = 8",
        "google.protobuf.Int64Value max_execution_batch_size = 9",
    ),
    "SSLConfig": (
        "string server_key = 1",
        "string server_cert = 2",
        "string custom_ca = 3",
        "bool client_verify = 4",
    ),
    "PrometheusConfig": ("bool enable = 1", "string path = 2"),
    "MonitoringConfig": ("PrometheusConfig prometheus_config = 1",),
    "Metric": ("string name = 1", "oneof value_increase int64 int64_value_increase = 2"),
    "ReloadConfigRequest": ("ModelServerConfig config = 1", "repeated string metric_names = 2"),
    "ReloadConfigResponse": ("StatusProto status = 1", "repeated Metric metric = 2"),
    "LogMetadata": (
        "ModelSpec model_spec = 1",
        "SamplingConfig sampling_config = 2",
        "repeated string saved_model_tags = 3",
    ),
    "ClassifyLog": ("ClassificationRequest request = 1", "ClassificationResponse response = 2"),
    "RegressLog": ("RegressionRequest request = 1", "RegressionResponse response = 2"),
    "PredictLog": ("PredictRequest request = 1", "PredictResponse response = 2"),
    "PredictStreamedLog": ("repeated PredictRequest request = 1", "repeated PredictResponse response = 2"),
    "MultiInferenceLog": ("MultiInferenceRequest request = 1", "MultiInferenceResponse response = 2"),
    "SessionRunRequest": (
        "ModelSpec model_spec = 1",
        "repeated tensorflow.NamedTensorProto feed = 2",
        "repeated string fetch = 3",
        "repeated string target = 4",
        "bool tensor_name_is_alias = 6",
    ),
    "SessionRunResponse": ("ModelSpec model_spec = 3", "repeated tensorflow.NamedTensorProto tensor = 1"),
    "SessionRunLog": ("SessionRunRequest request = 1", "SessionRunResponse response = 2"),
    "PredictionLog": (
        "LogMetadata log_metadata = 1",
        "oneof log_type ClassifyLog classify_log = 2",
        "oneof log_type RegressLog regress_log = 3",
        "oneof log_type PredictLog predict_log = 6",
        "oneof log_type PredictStreamedLog predict_streamed_log = 7",
        "oneof log_type MultiInferenceLog multi_inference_log = 4",
        "oneof log_type SessionRunLog session_run_log = 5",
    ),
}

_SERVICES = {
    "PredictionService": {
        "Predict": ("PredictRequest", "PredictResponse"),
        "Classify": ("ClassificationRequest", "ClassificationResponse"),
        "Regress": ("RegressionRequest", "RegressionResponse"),
        "MultiInference": ("MultiInferenceRequest", "MultiInferenceResponse"),
        "GetModelMetadata": ("GetModelMetadataRequest", "GetModelMetadataResponse"),
    },
    "ModelService": {
        "GetModelStatus": ("GetModelStatusRequest", "GetModelStatusResponse"),
        "HandleReloadConfigRequest": ("ReloadConfigRequest", "ReloadConfigResponse"),
    },
}

_DATA_TYPES = {
    "DT_INVALID": 0,
    "DT_FLOAT": 1,
    "DT_DOUBLE": 2,
    "DT_INT32": 3,
    "DT_UINT8": 4,
    "DT_INT16": 5,
    "DT_INT8": 6,
    "DT_STRING": 7,
    "DT_INT64": 9,
    "DT_BOOL": 10,
    "DT_UINT16": 17,
    "DT_HALF": 19,
    "DT_UINT32": 22,
    "DT_UINT64": 23,
}
_MODEL_TYPES = {"MODEL_TYPE_UNSPECIFIED": 0, "TENSORFLOW": 1, "OTHER": 2}
_STATES = {"UNKNOWN": 0, "START": 10, "LOADING": 20, "AVAILABLE": 30, "UNLOADING": 40, "END": 50}
_CODES = {
    "OK": 0,
    "CANCELLED": 1,
    "UNKNOWN": 2,
    "INVALID_ARGUMENT": 3,
    "DEADLINE_EXCEEDED": 4,
    "NOT_FOUND": 5,
    "ALREADY_EXISTS": 6,
    "PERMISSION_DENIED": 7,
    "RESOURCE_EXHAUSTED": 8,
    "FAILED_PRECONDITION": 9,
    "ABORTED": 10,
    "OUT_OF_RANGE": 11,
    "UNIMPLEMENTED": 12,
    "INTERNAL": 13,
    "UNAVAILABLE": 14,
    "DATA_LOSS": 15,
    "UNAUTHENTICATED": 16,
}

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


def _pool() -> descriptor_pool.DescriptorPool:
    tensorflow = _file("tensorflow", _TENSORFLOW)
    _add_enum(tensorflow.enum_type, "DataType", _DATA_TYPES)
    error = _file("tensorflow.error", {})
    _add_enum(error.enum_type, "Code", _CODES)
    known = any_pb2.DESCRIPTOR, wrappers_pb2.DESCRIPTOR
    serving = _file("tensorflow.serving", _SERVING, tensorflow.name, error.name, *(file.name for file in known))
    status = next(message for message in serving.message_type if message.name == "ModelVersionStatus")
    _add_enum(status.enum_type, "State", _STATES)
    _add_enum(serving.enum_type, "ModelType", _MODEL_TYPES)
    _add_services(serving, _SERVICES)
    pool = descriptor_pool.DescriptorPool()
    for file in known:
        pool.AddSerializedFile(file.serialized_pb)
    for added in (tensorflow, error, serving):
        pool.Add(added)
    return pool


POOL = _pool()


def _message(name: str) -> Any:
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(name))


TensorProto = _message("tensorflow.TensorProto")
SignatureDef = _message("tensorflow.SignatureDef")
ModelSpec = _message("tensorflow.serving.ModelSpec")
PredictRequest = _message("tensorflow.serving.PredictRequest")
PredictEnvelope = _message("tensorflow.serving.PredictEnvelope")
NamedTensor = _message("tensorflow.serving.NamedTensor")
PredictResponse = _message("tensorflow.serving.PredictResponse")
Example = _message("tensorflow.Example")
ClassificationRequest = _message("tensorflow.serving.ClassificationRequest")
ClassificationResponse = _message("tensorflow.serving.ClassificationResponse")
RegressionRequest = _message("tensorflow.serving.RegressionRequest")
RegressionResponse = _message("tensorflow.serving.RegressionResponse")
MultiInferenceRequest = _message("tensorflow.serving.MultiInferenceRequest")
MultiInferenceResponse = _message("tensorflow.serving.MultiInferenceResponse")
SignatureDefMap = _message("tensorflow.serving.SignatureDefMap")
GetModelMetadataRequest = _message("tensorflow.serving.GetModelMetadataRequest")
GetModelMetadataResponse = _message("tensorflow.serving.GetModelMetadataResponse")
GetModelStatusRequest = _message("tensorflow.serving.GetModelStatusRequest")
GetModelStatusResponse = _message("tensorflow.serving.GetModelStatusResponse")
ModelVersionStatus = _message("tensorflow.serving.ModelVersionStatus")
PredictionLog = _message("tensorflow.serving.PredictionLog")
ModelConfigList = _message("tensorflow.serving.ModelConfigList")
ModelServerConfig = _message("tensorflow.serving.ModelServerConfig")
BatchingParameters = _message("tensorflow.serving.BatchingParameters")
SSLConfig = _message("tensorflow.serving.SSLConfig")
MonitoringConfig = _message("tensorflow.serving.MonitoringConfig")
ReloadConfigRequest = _message("tensorflow.serving.ReloadConfigRequest")
ReloadConfigResponse = _message("tensorflow.serving.ReloadConfigResponse")

PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"
