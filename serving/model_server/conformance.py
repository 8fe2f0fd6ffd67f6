"""Replays a corpus of requests against one model server or two, over gRPC and REST; prints where answers differ."""

import argparse
import base64
import contextlib
import gzip
import http.client
import json
import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import yaml
from c2al_serving.requests.model_client import open_channel
from google.protobuf import json_format
from grpc_health.v1 import health_pb2

from c2al_tf.protocol import messages
from c2al_tf.protocol.tensors import DTYPES, STRING, dtype_name, fill_proto, from_proto

HELP = """\
conformance.yaml asks about a model of its own. Write it, serve it by both servers, and compare them:
  python serving/model_server/conformance_model.py /tmp/conformance
  c2al serve --model-config-file /tmp/conformance/models.config --allow-version-labels-for-unavailable-models \\
      --grpc-port 8500 --rest-port 8501 &
  docker run --rm -d -p 8510:8500 -p 8511:8501 -v /tmp/conformance:/tmp/conformance \\
      -v $PWD/serving/model_server/monitoring.config:/monitoring.config tensorflow/serving:2.21.0 \\
      --model_config_file=/tmp/conformance/models.config --allow_version_labels_for_unavailable_models \\
      --enable_grpc_healthcheck_service --monitoring_config_file=/monitoring.config
  python serving/model_server/conformance.py --ours localhost:8500,localhost:8501 --theirs localhost:8510,localhost:8511

Codes, outputs and JSON must be alike, floats within 1e-5: else the exit status is 1. An error's text that differs is a
note. After "real:" stands what the sources of tensorflow_model_server say.

After a change of the server write its answers anew, and see with `git diff` which have changed:
  python serving/model_server/conformance.py --ours localhost:8500,localhost:8501 \\
      --write serving/model_server/conformance_answers.jsonl
"""
CORPUS, TOLERANCE, SECONDS = Path(__file__).with_suffix(".yaml"), 1e-5, 60.0
METHODS = {
    method: (f"/tensorflow.serving.{service}/{method}", *(getattr(messages, kind) for kind in kinds))
    for service, methods in messages.SERVICES.items()
    for method, kinds in methods.items()
}
METHODS["Check"] = ("/grpc.health.v1.Health/Check", health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse)
_DTYPES = {dtype_name(dtype): dtype for dtype in DTYPES.values()}
_KINDS = {float: "float_list", int: "int64_list", str: "bytes_list", bytes: "bytes_list"}


def read_corpus(path: Path) -> list[dict[str, Any]]:
    """The requests of a file of groups: each has what its group says, unless it says it itself."""
    groups = yaml.safe_load(path.read_text())["groups"]
    return [{**group, **each} for group in groups for each in group.pop("requests")]


def ask(server: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    """What a server, `host:port` of gRPC and of REST with a comma between, answers to a request of the corpus."""
    grpc_target, rest_target = server.split(",")
    return _ask_grpc(grpc_target, asked) if "rpc" in asked else _ask_rest(rest_target, asked)


def _ask_grpc(target: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    path, kind, answer_kind = METHODS.get(asked["rpc"], (asked["rpc"], messages.ModelSpec, messages.ModelSpec))
    data, compression = asked.get("request", {}), grpc.Compression.Gzip if asked.get("gzip") else None
    if not isinstance(data, bytes):
        data = json_format.ParseDict(_expanded(data), kind(), descriptor_pool=messages.POOL).SerializeToString()
    with open_channel(grpc, target, None, {}, 0, SECONDS) as channel:
        call = channel.unary_unary(path, None, answer_kind.FromString)
        try:
            response = call(data, timeout=SECONDS, compression=compression)
        except grpc.RpcError as error:
            return {"code": error.code().name, "text": error.details()}
    found = json_format.MessageToDict(response, preserving_proto_field_name=True, descriptor_pool=messages.POOL)
    if answer_kind is messages.PredictResponse:
        found["outputs"] = {name: _output(tensor) for name, tensor in response.outputs.items()}
    return {"code": "OK", "response": found}


def _expanded(given: Any, key: str = "") -> Any:
    """A request with its short forms written out: `{float32: [1, 2]}` is a tensor, `{price: 1.5}` a tf.Example."""
    if isinstance(given, dict) and len(given) == 1 and given.keys() <= _DTYPES.keys():
        ((name, values),), tensor = given.items(), messages.TensorProto()
        array = np.array(_encoded(values) if name == "string" else values, _DTYPES[name])
        fill_proto(tensor, array, as_fields=True)
        return json_format.MessageToDict(tensor)
    if isinstance(given, list):
        return [_expanded(each, key) for each in given]
    if key in ("examples", "context"):
        return base64.b64encode(_encoded(given)).decode()
    return {name: _expanded(each, name) for name, each in given.items()} if isinstance(given, dict) else given


def _encoded(values: Any) -> Any:
    """Strings, alone or in lists, as bytes, and the features of an example as a serialized tf.Example."""
    if isinstance(values, list):
        return [_encoded(each) for each in values]
    if not isinstance(values, dict):
        return values.encode() if isinstance(values, str) else values
    example = messages.Example()
    for name, content in values.items():
        listed = content if isinstance(content, list) else [content]
        getattr(example.features.feature[name], _KINDS[type(listed[0])]).value.extend(_encoded(listed))
    return example.SerializeToString()


def _output(tensor: Any) -> dict[str, Any]:
    array = from_proto(tensor)
    as_text = np.frompyfunc(lambda value: value.decode(errors="backslashreplace"), 1, 1)
    return {dtype_name(array.dtype): np.asarray(as_text(array) if array.dtype == STRING else array).tolist()}


def _ask_rest(target: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    method, _, path = asked["rest"].partition(" ")
    body, headers = asked.get("body"), dict(asked.get("headers", {}))
    if body is not None and not isinstance(body, bytes):
        body = (body if isinstance(body, str) else json.dumps(body)).encode()
    if asked.get("gzip"):
        body, headers = gzip.compress(body or b""), headers | {"Content-Encoding": "gzip"}
    sent: Any = iter([body]) if asked.get("chunked") else body  # http.client sends what has no length in chunks
    with contextlib.closing(http.client.HTTPConnection(target, timeout=SECONDS)) as connection:
        try:
            connection.request(method, path, sent, headers)
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            return {"failed": type(error).__name__}
    answer = {"status": response.status, "type": response.headers.get("Content-Type", ""), "form": "JSON"}
    try:
        value = json.loads(content)  # both servers write NaN and Infinity, which Python takes for JSON, too
    except ValueError:
        return answer | {"form": "other" if content else "empty"}
    is_error = isinstance(value, dict) and value.keys() == {"error"}
    return answer | ({"text": value["error"]} if is_error else {"body": value})


def differences(ours: Any, theirs: Any, place: str = "") -> Iterator[str]:
    """Where two answers differ, and how; floats may by `TOLERANCE`, relative where they are above 1."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in sorted(ours.keys() | theirs.keys()):
            yield from differences(ours.get(key, "(absent)"), theirs.get(key, "(absent)"), f"{place}.{key}")
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for number, pair in enumerate(zip(ours, theirs, strict=True)):
            yield from differences(*pair, f"{place}[{number}]")
    elif type(ours) is float and type(theirs) is float:
        is_close = math.isclose(ours, theirs, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
        if not is_close and not (math.isnan(ours) and math.isnan(theirs)):
            yield f"{place}: {ours} | {theirs}"
    elif type(ours) is not type(theirs) or ours != theirs:
        yield f"{place}: {ours!r:.500} | {theirs!r:.500}"


def _read_answers(path: Path) -> dict[str, Any]:
    lines = map(json.loads, path.read_text().splitlines() if path.is_file() else [])
    return {line["name"]: line["ours"] for line in lines}


def main() -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, epilog=HELP)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("corpus", nargs="?", type=Path, default=CORPUS, help="requests, by default conformance.yaml")
    parser.add_argument("--ours", required=True, metavar="GRPC,REST", help="HOST:PORT,HOST:PORT of a server")
    parser.add_argument("--theirs", metavar="GRPC,REST", help="the same of another one, or a file that --write wrote")
    parser.add_argument("--write", type=Path, metavar="FILE", help="file for the answers of --ours, one in a line")
    values = parser.parse_args()
    corpus = read_corpus(values.corpus)
    answers = [ask(values.ours, asked) for asked in corpus]
    if values.write is not None:
        pairs = zip(corpus, answers, strict=True)
        lines = [{"name": asked["name"], "ours": answer, "real": asked["real"]} for asked, answer in pairs]
        values.write.write_text("".join(json.dumps(line, ensure_ascii=False, sort_keys=True) + "\n" for line in lines))
    if values.theirs is None:
        return 0
    known, counts = _read_answers(Path(values.theirs)), {"DIFFERENT": 0, "note": 0}
    for asked, ours in zip(corpus, answers, strict=True):
        theirs = known.get(asked["name"], {}) if known else ask(values.theirs, asked)
        if found := list(differences(ours, theirs)):
            kind = "note" if all(line.startswith(".text: ") for line in found) else "DIFFERENT"
            counts[kind] += 1
            print(f"{kind}: {asked['name']} (real: {asked['real']})", *found, sep="\n    ")
    print(f"{len(corpus)} requests: {counts['DIFFERENT']} answers differ, {counts['note']} in an error's text alone")
    return int(counts["DIFFERENT"] > 0)


if __name__ == "__main__":
    sys.exit(main())
