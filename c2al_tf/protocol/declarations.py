"""TensorFlow Serving's API, field for field as in its .proto files: messages, enumerations, services.

A message has the fields that are used here: protobuf keeps the others when it passes a message on. The text is that of
.proto files, with two differences: a declaration inside a message stands after it, with its full name, and each field
of a `oneof` begins with `oneof` and its name. The object graph of a MetaGraphDef is only asked whether it is there.
"""

TENSORFLOW = """
enum DataType {
  DT_INVALID = 0; DT_FLOAT = 1; DT_DOUBLE = 2; DT_INT32 = 3; DT_UINT8 = 4; DT_INT16 = 5; DT_INT8 = 6; DT_STRING = 7;
  DT_INT64 = 9; DT_BOOL = 10; DT_UINT16 = 17; DT_HALF = 19; DT_UINT32 = 22; DT_UINT64 = 23;
}
message TensorShapeProto { repeated Dim dim = 2; bool unknown_rank = 3; }
message TensorShapeProto.Dim { int64 size = 1; string name = 2; }
message TensorProto {
  DataType dtype = 1; TensorShapeProto tensor_shape = 2; int32 version_number = 3; bytes tensor_content = 4;
  repeated int32 half_val = 13; repeated float float_val = 5; repeated double double_val = 6;
  repeated int32 int_val = 7; repeated bytes string_val = 8; repeated int64 int64_val = 10; repeated bool bool_val = 11;
  repeated uint32 uint32_val = 16; repeated uint64 uint64_val = 17;
}
message TensorInfo { oneof encoding string name = 1; DataType dtype = 2; TensorShapeProto tensor_shape = 3; }
message SignatureDef {
  map<string, TensorInfo> inputs = 1; map<string, TensorInfo> outputs = 2; string method_name = 3;
  map<string, TensorProto> defaults = 4;
}
message BytesList { repeated bytes value = 1; }
message FloatList { repeated float value = 1; }
message Int64List { repeated int64 value = 1; }
message Feature {
  oneof kind BytesList bytes_list = 1; oneof kind FloatList float_list = 2; oneof kind Int64List int64_list = 3;
}
message Features { map<string, Feature> feature = 1; }
message Example { Features features = 1; }
message MetaGraphDef { map<string, SignatureDef> signature_def = 5; bytes object_graph_def = 7; }
message ConfigProto { int32 intra_op_parallelism_threads = 2; int32 inter_op_parallelism_threads = 5; }
message RunOptions { int64 timeout_in_ms = 2; }
"""

SERVING = """
enum ModelType { MODEL_TYPE_UNSPECIFIED = 0; TENSORFLOW = 1; OTHER = 2; }
message ModelSpec {
  string name = 1; oneof version_choice google.protobuf.Int64Value version = 2;
  oneof version_choice string version_label = 4; string signature_name = 3;
}
message PredictRequest {
  ModelSpec model_spec = 1; map<string, tensorflow.TensorProto> inputs = 2; repeated string output_filter = 3;
}
message PredictResponse { ModelSpec model_spec = 2; map<string, tensorflow.TensorProto> outputs = 1; }
message ExampleList { repeated bytes examples = 1; }
message ExampleListWithContext { repeated bytes examples = 1; bytes context = 2; }
message Input {
  oneof kind ExampleList example_list = 1; oneof kind ExampleListWithContext example_list_with_context = 2;
}
message Class { string label = 1; float score = 2; }
message Classifications { repeated Class classes = 1; }
message ClassificationResult { repeated Classifications classifications = 1; }
message ClassificationRequest { ModelSpec model_spec = 1; Input input = 2; }
message ClassificationResponse { ModelSpec model_spec = 2; ClassificationResult result = 1; }
message Regression { float value = 1; }
message RegressionResult { repeated Regression regressions = 1; }
message RegressionRequest { ModelSpec model_spec = 1; Input input = 2; }
message RegressionResponse { ModelSpec model_spec = 2; RegressionResult result = 1; }
message InferenceTask { ModelSpec model_spec = 1; string method_name = 2; }
message InferenceResult {
  ModelSpec model_spec = 1; oneof result ClassificationResult classification_result = 2;
  oneof result RegressionResult regression_result = 3;
}
message MultiInferenceRequest { repeated InferenceTask tasks = 1; Input input = 2; }
message MultiInferenceResponse { repeated InferenceResult results = 1; }
message SignatureDefMap { map<string, tensorflow.SignatureDef> signature_def = 1; }
message GetModelMetadataRequest { ModelSpec model_spec = 1; repeated string metadata_field = 2; }
message GetModelMetadataResponse { ModelSpec model_spec = 1; map<string, google.protobuf.Any> metadata = 2; }
message StatusProto { tensorflow.error.Code error_code = 1; string error_message = 2; }
message ModelVersionStatus { int64 version = 1; State state = 2; StatusProto status = 3; }
enum ModelVersionStatus.State { UNKNOWN = 0; START = 10; LOADING = 20; AVAILABLE = 30; UNLOADING = 40; END = 50; }
message GetModelStatusRequest { ModelSpec model_spec = 1; }
message GetModelStatusResponse { repeated ModelVersionStatus model_version_status = 1; }
message LogCollectorConfig { string type = 1; string filename_prefix = 2; }
message SamplingConfig { double sampling_rate = 1; }
message LoggingConfig { LogCollectorConfig log_collector_config = 1; SamplingConfig sampling_config = 2; }
message FileSystemStoragePathSourceConfig {}
message FileSystemStoragePathSourceConfig.ServableVersionPolicy {
  oneof policy_choice Latest latest = 100; oneof policy_choice All all = 101;
  oneof policy_choice Specific specific = 102;
}
message FileSystemStoragePathSourceConfig.ServableVersionPolicy.Latest { uint32 num_versions = 1; }
message FileSystemStoragePathSourceConfig.ServableVersionPolicy.All {}
message FileSystemStoragePathSourceConfig.ServableVersionPolicy.Specific { repeated int64 versions = 1; }
message ModelConfig {
  string name = 1; string base_path = 2; ModelType model_type = 3; string model_platform = 4;
  FileSystemStoragePathSourceConfig.ServableVersionPolicy model_version_policy = 7;
  map<string, int64> version_labels = 8; LoggingConfig logging_config = 6;
}
message ModelConfigList { repeated ModelConfig config = 1; }
message ModelServerConfig {
  oneof config ModelConfigList model_config_list = 1; oneof config google.protobuf.Any custom_model_config = 2;
}
message BatchingParameters {
  google.protobuf.Int64Value max_batch_size = 1; google.protobuf.Int64Value batch_timeout_micros = 2;
  google.protobuf.Int64Value max_enqueued_batches = 3; google.protobuf.Int64Value num_batch_threads = 4;
  google.protobuf.StringValue thread_pool_name = 5; repeated int64 allowed_batch_sizes = 6;
  bool pad_variable_length_inputs = 7; google.protobuf.BoolValue enable_large_batch_splitting = 8;
  google.protobuf.Int64Value max_execution_batch_size = 9;
}
message SSLConfig { string server_key = 1; string server_cert = 2; string custom_ca = 3; bool client_verify = 4; }
message PrometheusConfig { bool enable = 1; string path = 2; }
message MonitoringConfig { PrometheusConfig prometheus_config = 1; }
message Metric { string name = 1; oneof value_increase int64 int64_value_increase = 2; }
message ReloadConfigRequest { ModelServerConfig config = 1; repeated string metric_names = 2; }
message ReloadConfigResponse { StatusProto status = 1; repeated Metric metric = 2; }
message ClassifyLog { ClassificationRequest request = 1; ClassificationResponse response = 2; }
message RegressLog { RegressionRequest request = 1; RegressionResponse response = 2; }
message PredictLog { PredictRequest request = 1; PredictResponse response = 2; }
message PredictStreamedLog {}
message MultiInferenceLog { MultiInferenceRequest request = 1; MultiInferenceResponse response = 2; }
message SessionRunLog {}
message PredictionLog {
  oneof log_type ClassifyLog classify_log = 2; oneof log_type RegressLog regress_log = 3;
  oneof log_type PredictLog predict_log = 6; oneof log_type PredictStreamedLog predict_streamed_log = 7;
  oneof log_type MultiInferenceLog multi_inference_log = 4; oneof log_type SessionRunLog session_run_log = 5;
}
"""

ERROR = """
enum Code {
  OK = 0; CANCELLED = 1; UNKNOWN = 2; INVALID_ARGUMENT = 3; DEADLINE_EXCEEDED = 4; NOT_FOUND = 5; ALREADY_EXISTS = 6;
  PERMISSION_DENIED = 7; RESOURCE_EXHAUSTED = 8; FAILED_PRECONDITION = 9; ABORTED = 10; OUT_OF_RANGE = 11;
  UNIMPLEMENTED = 12; INTERNAL = 13; UNAVAILABLE = 14; DATA_LOSS = 15; UNAUTHENTICATED = 16;
}
"""

SERVICES = {
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
