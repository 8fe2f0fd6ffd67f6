"""Sends mutated requests to a server over gRPC and REST, and good requests between them.

Hypothesis draws them: messages with fields changed, cleared, repeated; bytes of messages flipped, cut and spliced; JSON
with parts replaced; HTTP with wrong lines, headers and lengths. Some connections stay open half-way through a request.
The server must stay alive, answer each request with a proper status in time, answer every good request correctly, and
take no more memory for a request than 64 MB beyond the request's size.
"""

import contextlib
import functools
import itertools
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
from c2al_pipelines.benchmarks.serving_load.load import PREDICT
from c2al_pipelines.benchmarks.serving_load.questions import Marker, Question
from c2al_pipelines.benchmarks.serving_load.server_process import ServerProcess
from c2al_serving.requests.model_client import EXAMPLES_INPUT
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, Phase, given, seed, settings, strategies as st

from c2al_tf.protocol import messages

from . import mutations, rest_calls
from .attacks import HEALTH, Attack, Inputs, attacks

SECONDS = 20.0
"""A request that takes longer hangs."""
MAX_MB = (64 << 20) / 1e6
"""Memory that a request may take beyond its size."""

_ROW_BYTES = 2048
"""What the small model and the answer take for a row, at most."""

Act = Callable[[str, bytes], str]
"""Makes a request with a method and bytes; returns the status."""

_ABSENT = "/absent/folder/of/no/model"
_IMPROPER = {"UNKNOWN", "INTERNAL", "CANCELLED", "DEADLINE_EXCEEDED", "UNAVAILABLE", "DATA_LOSS"}
_GOOD_EVERY = 10
_LOITERERS = 20


@dataclass
class Fuzz:
    """Mutated requests to one server, and the answers to them.

    Attributes:
        server: The server.
        questions: Requests whose right answers are known.
        statuses: Answers by interface and status.
        findings: Answers that are not allowed, each with the first request that led to it.
        right: Right answers to good requests.
        most_mb: The most memory that a request took beyond its size.
    """

    server: ServerProcess
    questions: Sequence[Question]
    statuses: Counter[str] = field(default_factory=Counter)
    findings: dict[str, str] = field(default_factory=dict)
    right: int = 0
    most_mb: float = 0.0
    _sent: set[tuple[str, bytes]] = field(default_factory=set)

    def run(self, count: int, number: int = 0) -> None:
        """Sends `count` mutated requests, which `number` chooses."""
        with contextlib.ExitStack() as stack:
            self._channel = stack.enter_context(grpc.insecure_channel(f"127.0.0.1:{self.server.grpc_port}"))
            self._marker = Marker(self.questions)
            for line in itertools.islice(itertools.cycle(rest_calls.HALF_SENT), _LOITERERS):
                stack.enter_context(rest_calls.connect(self.server.rest_port, SECONDS)).sendall(line)
            self._ask_messages(count * 4 // 10, number)
            self._ask_bytes(count * 3 // 10, number)
            self._ask_rest(count - count * 4 // 10 - count * 3 // 10, number)

    def attack(self, inputs: Inputs, sizes: Sequence[int], every: int = 1) -> None:
        """Sends attacks on a model of these inputs: all, or every n-th.

        Those whose size can be chosen have each of these sizes.
        """
        options = [("grpc.max_send_message_length", -1)]
        with grpc.insecure_channel(f"127.0.0.1:{self.server.grpc_port}", options) as self._channel:
            for attack in itertools.islice(attacks(inputs, sizes), 0, None, every):
                act = self._post if attack.method.startswith("POST ") else self._call
                act = functools.partial(act, is_compressed=True) if attack.compressed else act
                self._measure(act, attack.method, attack.data, attack)

    def _measure(self, act: Act, method: str, request: bytes, attack: Attack | None = None) -> None:
        """Makes a request and measures the peak of the server's memory, which is the request's: there is no other."""
        before = self.server.reset_peak()
        status = act(method, request)
        size = len(request) if attack is None else attack.size
        rows = attack.rows if attack is not None and status in ("OK", "200") else 0
        peak = self.server.memory_mb("VmHWM") - before - (size + rows * _ROW_BYTES) / 1e6
        self.most_mb = max(self.most_mb, peak)
        if peak > MAX_MB:
            self._find(f"{attack.name if attack else method}: {size} bytes take {peak:.0f} MB", request)

    def _ask_messages(self, count: int, number: int) -> None:
        methods = self._methods()
        drawn = st.sampled_from([PREDICT] * 5 + list(methods)).flatmap(
            lambda method: mutations.messages(methods[method]).map(
                lambda message: (method, message.SerializeToString(deterministic=True))
            )
        )
        self._each(drawn, count, number, self._call)

    def _ask_bytes(self, count: int, number: int) -> None:
        methods = {
            method: [original.SerializeToString(deterministic=True) for original in originals]
            for method, originals in self._methods().items()
        }
        drawn = st.sampled_from([PREDICT] * 5 + list(methods)).flatmap(
            lambda method: mutations.bytes_of(methods[method]).map(lambda request: (method, request))
        )
        self._each(drawn, count, number, self._call)

    def _ask_rest(self, count: int, number: int) -> None:
        bodies = [rest_calls.to_json(question, rows=rows) for question in self.questions for rows in (True, False)]
        drawn = mutations.http_requests(rest_calls.PATHS, bodies).map(lambda request: ("REST", request))
        self._each(drawn, count, number, self._send)

    def _each(self, drawn: st.SearchStrategy[Any], count: int, number: int, act: Act) -> None:
        """Sends `count` requests that differ from all sent before: Hypothesis repeats itself."""
        goal = len(self._sent) + count

        def ask(request: tuple[str, bytes]) -> None:
            if request in self._sent or len(self._sent) == goal or not _is_harmless(*request):
                return
            self._sent.add(request)
            self._measure(act, *request)
            if len(self._sent) % _GOOD_EVERY == 0:
                self._ask_good(len(self._sent) // _GOOD_EVERY)

        while (left := goal - len(self._sent)) > 0:
            more = settings(
                max_examples=left + 10,
                phases=[Phase.generate],
                database=None,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            )
            seed(f"{number} {left}")(more(given(drawn)(ask)))()

    def _call(self, method: str, request: bytes, is_compressed: bool = False) -> str:
        """Makes one call, whose bytes may not be a message; returns the status."""
        compression = grpc.Compression.Gzip if is_compressed else None
        future = self._channel.unary_unary(method).future(request, timeout=SECONDS, compression=compression)
        code, details = future.code().name, future.details()
        name = method.rpartition("/")[2]
        self.statuses[f"gRPC {name} {code}"] += 1
        may_fail = method == HEALTH or (code == "INTERNAL" and _parse(method, request) is None)
        if code in _IMPROPER and not may_fail:
            self._find(f"gRPC {name}: {code}: {details[:80]}", request)
        return code

    def _post(self, method: str, body: bytes, is_compressed: bool = False) -> str:
        """Sends a body to the path of a method `POST /...`."""
        return self._send(method, rest_calls.post(method.removeprefix("POST "), body, is_compressed))

    def _send(self, _: str, request: bytes) -> str:
        """Sends bytes that may not be an HTTP request; returns the status."""
        status, problem = rest_calls.exchange(self.server.rest_port, request, SECONDS)
        self.statuses[f"REST {status}"] += 1
        if problem:
            self._find(f"REST: {problem}", request)
        return status

    def _ask_good(self, turn: int) -> None:
        number = turn // 2 % len(self.questions)
        question = self.questions[number]
        if turn % 2:
            problem = rest_calls.ask(self.server.rest_port, question, SECONDS)
        else:
            future = self._channel.unary_unary(PREDICT).future(question.serialized(), timeout=SECONDS)
            code = future.code()
            problem = self._marker.problem(number, future.result()) if code is grpc.StatusCode.OK else code.name
        if problem:
            self._find(f"a good request: {problem}", b"")
        else:
            self.right += 1

    def _find(self, what: str, request: bytes) -> None:
        self.findings.setdefault(what, repr(request[:2000]))

    def _methods(self) -> dict[str, list[Any]]:
        """Valid messages by method, from which mutated ones are made."""
        predict = [question.request() for question in self.questions]
        metadata = messages.GetModelMetadataRequest(metadata_field=["signature_def"])
        status, reload = messages.GetModelStatusRequest(), messages.ReloadConfigRequest()
        for request in (metadata, status):
            request.model_spec.name = "default"
            request.model_spec.version.value = 1
        absent = reload.config.model_config_list.config.add(
            name="other", base_path=_ABSENT, model_platform="tensorflow"
        )
        absent.model_version_policy.specific.versions.append(1)
        absent.version_labels["stable"] = 1
        examples = [x for q in self.questions for x in q.inputs.get(EXAMPLES_INPUT, ())]
        classify, regress = messages.ClassificationRequest(), messages.RegressionRequest()
        both, context = messages.MultiInferenceRequest(), messages.ClassificationRequest()
        for request, signature in ((classify, "classify"), (context, "classify"), (regress, "regress")):
            request.model_spec.name, request.model_spec.signature_name = "default", signature
        for name in ("classify", "regress"):
            task = both.tasks.add(method_name=f"tensorflow/serving/{name}")
            task.model_spec.name, task.model_spec.signature_name = "default", name
        for request in (classify, regress, both):
            request.input.example_list.examples.extend(examples)
        context.input.example_list_with_context.context = examples[0]
        context.input.example_list_with_context.examples.extend(examples)
        originals = [predict, [classify, context], [regress], [both], [metadata], [status], [reload]]
        return dict(zip(_KINDS, originals, strict=True))


_KINDS = {
    PREDICT: messages.PredictRequest,
    f"/{messages.PREDICTION_SERVICE}/Classify": messages.ClassificationRequest,
    f"/{messages.PREDICTION_SERVICE}/Regress": messages.RegressionRequest,
    f"/{messages.PREDICTION_SERVICE}/MultiInference": messages.MultiInferenceRequest,
    f"/{messages.PREDICTION_SERVICE}/GetModelMetadata": messages.GetModelMetadataRequest,
    f"/{messages.MODEL_SERVICE}/GetModelStatus": messages.GetModelStatusRequest,
    f"/{messages.MODEL_SERVICE}/HandleReloadConfigRequest": messages.ReloadConfigRequest,
}


def _parse(method: str, request: bytes) -> Any:
    """The message; None if the bytes are not one."""
    try:
        return _KINDS[method].FromString(request)
    except DecodeError:
        return None


def _is_harmless(method: str, request: bytes) -> bool:
    """Whether a request cannot change what the server serves; a config that is accepted would."""
    if _KINDS.get(method) is not messages.ReloadConfigRequest:
        return True
    config = getattr(_parse(method, request), "config", None)
    if config is None or config.WhichOneof("config") != "model_config_list":
        return True
    return any(not os.path.isdir(model.base_path) for model in config.model_config_list.config)
