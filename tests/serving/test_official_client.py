"""A server under the official stubs: what it refuses when it has too much to do."""

import contextlib

import grpc
import numpy as np
import pytest
import tensorflow as tf
from c2al_serving.config.batching_parameters import BatchingParameters
from c2al_serving.server import Server
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

WAIT = BatchingParameters(max_batch_size=10, max_enqueued_batches=1, batch_timeout_micros=300_000_000)
"""Requests of fewer than ten rows wait for others, for longer than the test lasts."""


@pytest.fixture
def server(export):
    with Server(export.base_path, max_requests=3, batching=WAIT) as server:
        yield server


@pytest.fixture
def stub(server):
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        yield prediction_service_pb2_grpc.PredictionServiceStub(channel)


@contextlib.contextmanager
def asking(stub, asked):
    future = stub.Predict.future(asked, timeout=300)
    try:
        yield future
    finally:
        future.cancel()


def request(columns, start, stop):
    made = predict_pb2.PredictRequest()
    made.model_spec.name = "default"
    for name, column in columns.items():
        made.inputs[name].CopyFrom(tf.make_tensor_proto(column[start:stop]))
    return made


def refusal(stub, asked):
    with pytest.raises(grpc.RpcError) as refused:
        stub.Predict(asked, timeout=300)
    return refused.value.code(), refused.value.details()


def test_more_than_it_can_do(server, stub, export, batcher_of, until):
    waiting, room = batcher_of(server)._waiting, server._room

    def wait(start, stop):
        """Asks, and returns when the request waits in the server."""
        there = len(waiting)
        future = asked.enter_context(asking(stub, request(export.columns, start, stop)))
        until(lambda: len(waiting) > there)
        return future

    with contextlib.ExitStack() as asked:
        given_up = wait(0, 6)
        given_up.cancel()
        until(lambda: room._count == 0)
        first = wait(0, 6)
        code, details = refusal(stub, request(export.columns, 0, 6))
        assert code is grpc.StatusCode.UNAVAILABLE
        assert details.startswith("The batch scheduling queue to which this task was submitted is full; ")
        second, third = wait(6, 7), wait(7, 8)
        assert refusal(stub, request(export.columns, 0, 1))[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
        third.cancel()
        until(lambda: room._count == 2)
        last = stub.Predict(request(export.columns, 8, 11), timeout=300)  # ten rows are there
        answers = [first.result(), second.result(), last]
    logits = np.concatenate([tf.make_ndarray(given.outputs["logits"]) for given in answers])
    np.testing.assert_allclose(logits, export.logits[[*range(7), 8, 9, 10]], rtol=1e-6)
