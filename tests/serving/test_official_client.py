"""A server in its own process, under the official stubs: what it refuses when it has too much to do."""

import contextlib

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

WAIT = {"max_batch_size": 10, "max_enqueued_batches": 1, "batch_timeout_micros": 60_000_000}
"""Requests of fewer than ten rows wait for others, for longer than the test lasts."""


@pytest.fixture
def stub(serving_process, export):
    with (
        serving_process(export.base_path, max_requests=3, batching=WAIT) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel,
    ):
        yield prediction_service_pb2_grpc.PredictionServiceStub(channel)


def request(columns, start, stop):
    made = predict_pb2.PredictRequest()
    made.model_spec.name = "default"
    for name, column in columns.items():
        made.inputs[name].CopyFrom(tf.make_tensor_proto(column[start:stop]))
    return made


def refusal(stub, asked, timeout):
    with pytest.raises(grpc.RpcError) as refused:
        stub.Predict(asked, timeout=timeout)
    return refused.value.code(), refused.value.details()


def test_more_than_it_can_do(stub, export):
    code, _ = refusal(stub, request(export.columns, 0, 6), timeout=0.3)
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED
    with contextlib.ExitStack() as waiting:

        def wait(start, stop):
            future = stub.Predict.future(request(export.columns, start, stop), timeout=60)
            waiting.callback(future.cancel)
            return future

        first = wait(0, 6)
        code, details = refusal(stub, request(export.columns, 0, 6), timeout=60)
        assert (code, details) == (
            grpc.StatusCode.UNAVAILABLE,
            "The batch scheduling queue to which this task was submitted is full",
        )
        others = [wait(6, 7), wait(7, 8)]
        while (refused := refusal(stub, request(export.columns, 0, 1), timeout=0.3))[0] is not (
            grpc.StatusCode.RESOURCE_EXHAUSTED
        ):
            assert refused[0] is grpc.StatusCode.DEADLINE_EXCEEDED  # one of the others was not there yet
        others.pop().cancel()
        while (answer := stub.Predict.future(request(export.columns, 8, 11), timeout=60)).code() is not (
            grpc.StatusCode.OK
        ):
            # What was cancelled has not gone yet.
            assert answer.code() in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE)
        answers = [first.result(), others[0].result(), answer.result()]
    logits = np.concatenate([tf.make_ndarray(given.outputs["logits"]) for given in answers])
    np.testing.assert_allclose(logits, export.logits[[*range(7), 8, 9, 10]], rtol=1e-6)
