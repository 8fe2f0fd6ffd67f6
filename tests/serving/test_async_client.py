"""The asyncio client; what it shares with the blocking one is tested there."""

import asyncio
import contextlib
import socket

import grpc
import numpy as np
import pandas as pd
import pytest
from c2al_serving.async_client import AsyncPredictClient, PredictError

from c2al_tf.protocol import messages
from c2al_tf.protocol.tensors import fill_proto


def with_client(server, call, **keywords):
    """`call(client)`, awaited."""

    async def run():
        async with AsyncPredictClient(f"127.0.0.1:{server.grpc_port}", **keywords) as client:
            return await call(client)

    return asyncio.run(run())


@pytest.mark.parametrize("max_rows", [7, 64])
def test_predictions_are_the_models(server, export, max_rows):
    frame = pd.DataFrame(export.columns | {"tags": export.columns["tags"].tolist()})

    async def ask(client):
        examples = client.predict_examples(export.examples, outputs=["logits"])
        return await asyncio.gather(client.predict(export.columns), client.predict(frame), examples)

    columns, rows, examples = with_client(server, ask, max_rows=max_rows)
    assert (columns.keys(), examples.keys()) == ({"logits", "probabilities"}, {"logits"})
    for outputs in (columns, rows, examples):
        np.testing.assert_allclose(outputs["logits"], export.logits, rtol=1e-6)


def test_metadata_status_and_version(server, export):
    async def ask(client):
        signatures, status, version = await client.metadata(), await client.status(), await client.pin()
        return list(signatures), [(status.version, status.state) for status in status], version, client.version

    signatures, status, *versions = with_client(server, ask)
    assert signatures == ["serialized_examples", "serving_default"]
    assert (status, versions) == ([(2, "AVAILABLE")], [2, 2])


@pytest.mark.parametrize("max_rows", [2, 5])
def test_classify_and_regress(scores_server, score_examples, max_rows):
    async def ask(client):
        return *await client.classify(score_examples), await client.regress(score_examples, "regress")

    labels, scores, values = with_client(scores_server, ask, max_rows=max_rows)
    assert labels.tolist() == [["no", "yés"]] * 5
    np.testing.assert_array_equal(scores, [[-x, x] for x in range(5)])
    np.testing.assert_array_equal(values, [0, 2, 4, 6, 8])


def test_no_rows(server, export):
    empty = {name: column[:0] for name, column in export.columns.items()}
    assert with_client(server, lambda client: client.predict(empty))["logits"].shape == (0, 1)


def test_without_casting_the_server_decides(server, export):
    wrong = export.columns | {"user": np.zeros(64, np.int32)}
    with pytest.raises(PredictError, match=r"dtype int64. Received: int32") as caught:
        with_client(server, lambda client: client.predict(wrong), cast=False)
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(("keywords", "code"), [({"model_name": "other"}, "NOT_FOUND"), ({"version": 7}, "NOT_FOUND")])
def test_unknown_model_and_version(server, export, keywords, code):
    with pytest.raises(PredictError, match=f"127.0.0.1:{server.grpc_port}: {code}"):
        with_client(server, lambda client: client.predict(export.columns), **keywords)


def test_a_late_answer_is_an_error():
    async def ask(target):
        async with AsyncPredictClient(target, timeout=0.2) as client:
            await client.status()

    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(PredictError, match="DEADLINE_EXCEEDED"):
        asyncio.run(ask(f"127.0.0.1:{silent.getsockname()[1]}"))


def test_a_server_that_is_away_for_a_moment(door):
    async def ask(retries):
        door.refusals = 1
        async with AsyncPredictClient(door.address, retries=retries) as client:
            return (await client.status())[0].state

    with pytest.raises(PredictError, match="UNAVAILABLE"):
        asyncio.run(ask(retries=0))
    assert asyncio.run(ask(retries=4)) == "AVAILABLE"
    assert door.refusals == 0


class Held:
    """A gRPC server whose Predict answers once `enough` requests are there; the request of row `bad` is refused."""

    def __init__(self, enough, bad=None):
        self.enough, self.bad = enough, bad
        self.under_way = self.most = self.cancelled = 0
        self.full = asyncio.Event()

    async def predict(self, request, context):
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        if self.under_way == self.enough:
            self.full.set()
        try:
            await self.full.wait()
            row = request.inputs["x"].tensor_content
            if self.bad is not None:
                if row == np.int64(self.bad).tobytes():
                    await context.abort(grpc.StatusCode.INTERNAL, "bad row")
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.under_way -= 1
        response = messages.PredictResponse()
        fill_proto(response.outputs["y"], 2 * np.frombuffer(row, np.int64))
        return response

    @contextlib.asynccontextmanager
    async def client(self):
        method = grpc.unary_unary_rpc_method_handler(
            self.predict, messages.PredictRequest.FromString, lambda response: response.SerializeToString()
        )
        service = messages.PREDICTION_SERVICE
        server = grpc.aio.server()
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, {"Predict": method})])
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            async with AsyncPredictClient(f"127.0.0.1:{port}", cast=False, max_rows=1) as client:
                yield client
        finally:
            await server.stop(None)

    async def until(self, condition):
        async with asyncio.timeout(300):
            while not condition():
                await asyncio.sleep(0.01)


def test_four_pieces_are_under_way_at_a_time():
    async def run():
        held = Held(enough=4)
        async with held.client() as client:
            outputs = await client.predict({"x": np.arange(20)})
        return held.most, outputs["y"]

    most, outputs = asyncio.run(run())
    assert most == 4
    np.testing.assert_array_equal(outputs, 2 * np.arange(20))


def test_who_cancels_a_call_cancels_its_requests():
    async def run():
        held = Held(enough=5)
        async with held.client() as client:
            call = asyncio.create_task(client.predict({"x": np.arange(20)}))
            await held.until(lambda: held.under_way == 4)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await held.until(lambda: held.under_way == 0)
        return held.cancelled, held.most

    assert asyncio.run(run()) == (4, 4)


def test_a_piece_that_is_refused_ends_the_others():
    async def run():
        held = Held(enough=4, bad=2)
        async with held.client() as client:
            with pytest.raises(PredictError, match="INTERNAL: bad row"):
                await client.predict({"x": np.arange(20)})
            await held.until(lambda: held.under_way == 0)
        return held.cancelled, held.most

    assert asyncio.run(run()) == (3, 4)


def test_it_is_made_where_a_loop_runs():
    with pytest.raises(RuntimeError, match="no running event loop"):
        AsyncPredictClient("127.0.0.1:1")
