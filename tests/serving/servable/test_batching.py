"""Requests that are merged: each gets its own answer, whatever the others are."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
import tensorflow as tf
from c2al_serving.client import PredictClient, PredictError
from c2al_serving.config.batching_parameters import BatchingParameters
from c2al_serving.protocol.errors import RequestError
from c2al_serving.servable.batching import Batcher, deadline
from c2al_serving.servable.decoding import Inputs
from c2al_serving.server import Server

from c2al_tf.saved_model import SavedModel, SavedModelError

LONG = 300_000_000
"""Microseconds that no test waits for: a batch that goes before is full."""


class Watched(SavedModel):
    """Remembers how many rows each call had."""

    sizes: list[int]

    def call(self, inputs, names, signature):
        self.sizes = [*getattr(self, "sizes", []), next(iter(inputs.values())).shape[0]]
        return super().call(inputs, names, signature)


@pytest.fixture
def batched(export):
    """`batched(**parameters)`: a batcher over a model, and the sizes of its calls."""
    with Watched(export.latest) as model:
        made = []

        def make(**parameters):
            made.append(Batcher(model, BatchingParameters(**parameters)))
            return made[-1], model

        yield make
        for batcher in made:
            batcher.close()


def piece(columns, start, stop):
    return {name: values[start:stop] for name, values in columns.items()}


def ask_all(batcher, requests):
    """All at once; a request's outputs, or its error."""

    async def ask():
        calls = [batcher.run(Inputs.of(inputs), *rest) for inputs, *rest in requests]
        return await asyncio.gather(*calls, return_exceptions=True)

    return asyncio.run(ask())


def ask_one(batcher, inputs, *rest):
    return asyncio.run(batcher.run(Inputs.of(inputs), *rest))


def test_requests_become_one_call(batched, export) -> None:
    batcher, model = batched(max_batch_size=64, batch_timeout_micros=LONG)
    answers = ask_all(batcher, [(piece(export.columns, i, i + 8), "serving_default") for i in range(0, 64, 8)])
    assert model.sizes == [64]
    np.testing.assert_allclose(np.concatenate([a["logits"] for a in answers]), export.logits, rtol=1e-6)


def test_no_more_rows_are_merged_than_allowed(batched, export) -> None:
    batcher, model = batched(max_batch_size=20, batch_timeout_micros=1000, num_batch_threads=1)
    answers = ask_all(batcher, [(piece(export.columns, i, i + 8), "serving_default") for i in range(0, 64, 8)])
    assert sum(model.sizes) == 64
    assert max(model.sizes) <= 16
    np.testing.assert_allclose(np.concatenate([a["logits"] for a in answers]), export.logits, rtol=1e-6)


def test_batches_are_filled_up_to_allowed_sizes(batched, export) -> None:
    batcher, model = batched(max_batch_size=64, allowed_batch_sizes=(16, 64))
    for rows in (10, 16, 17):
        outputs = ask_one(batcher, piece(export.columns, 0, rows), "serving_default", ["logits"])
        assert list(outputs) == ["logits"]
        np.testing.assert_allclose(outputs["logits"], export.logits[:rows], rtol=1e-6)
    assert model.sizes == [16, 16, 64]


def test_rows_that_fill_a_batch_take_little_memory(batched, export) -> None:
    batcher, _ = batched(max_batch_size=64, allowed_batch_sizes=(64,))
    wide = piece(export.columns, 0, 2) | {"tags": np.full((2, 2**14), "", object)}
    with pytest.raises(RequestError, match="fill a batch up to one of `allowed_batch_sizes` may take 33554432 bytes"):
        ask_one(batcher, wide, "serving_default", ["logits"])


def test_what_cannot_be_merged_is_answered_by_itself(batched, export) -> None:
    """Lists of another length, another signature, more rows than a batch, none."""
    batcher, model = batched(max_batch_size=40, batch_timeout_micros=10_000)
    longer = {**export.columns, "tags": np.concatenate([export.columns["tags"], np.full((64, 2), "", object)], axis=1)}
    examples = {"examples": np.array(export.examples, object)}
    requests = [
        (piece(export.columns, 0, 8), "serving_default"),
        (piece(longer, 0, 8), "serving_default"),
        (piece(examples, 0, 8), "serialized_examples"),
        (export.columns, "serving_default"),
        (piece(export.columns, 0, 0), "serving_default"),
    ]
    answers = ask_all(batcher, requests)
    for answer, rows in zip(answers, (8, 8, 8, 64, 0), strict=True):
        np.testing.assert_allclose(answer["logits"], export.logits[:rows], rtol=1e-6)
    assert sorted(model.sizes) == [0, 8, 8, 8, 64]


def test_what_is_declared_for_a_number_of_rows_is_called_with_that_many(tmp_path) -> None:
    module = tf.Module()
    module.double = tf.function(lambda x: {"y": 2 * x}, input_signature=[tf.TensorSpec([2], tf.float32, "x")])
    tf.saved_model.save(module, tmp_path, signatures={"pairs": module.double})
    with Watched(tmp_path) as model:
        batcher = Batcher(model, BatchingParameters())
        pairs = [np.float32([number, -number]) for number in range(3)]
        answers = ask_all(batcher, [({"x": pair}, "pairs") for pair in pairs])
        batcher.close()
    assert [answer["y"].tolist() for answer in answers] == [(2 * pair).tolist() for pair in pairs]
    assert model.sizes == [2, 2, 2]


def test_a_bad_request_spoils_no_other(batched, export) -> None:
    batcher, model = batched(max_batch_size=24, batch_timeout_micros=LONG)
    good = [({"examples": np.array(export.examples[i : i + 8], object)}, "serialized_examples") for i in (0, 8)]
    bad = ({"examples": np.array([b"no example"] * 8, object)}, "serialized_examples")
    first, error, second = ask_all(batcher, [good[0], bad, good[1]])
    assert isinstance(error, SavedModelError)
    assert "Could not parse example" in str(error)
    np.testing.assert_allclose(np.concatenate([first["logits"], second["logits"]]), export.logits[:16], rtol=1e-6)
    assert model.sizes == [24, 8, 16, 8, 8]  # halves, as one bad request among many must not cost a call for each


def test_wrong_inputs_are_refused_before_they_wait(batched, export) -> None:
    batcher, _ = batched(batch_timeout_micros=LONG)
    with pytest.raises(SavedModelError, match="Missing but required: {city}"):
        ask_one(batcher, {name: v for name, v in export.columns.items() if name != "city"}, "serving_default")
    with pytest.raises(SavedModelError, match="Output 'score' not found"):
        ask_one(batcher, export.columns, "serving_default", ["score"])


def test_a_full_queue(batched, export) -> None:
    batcher, _ = batched(max_batch_size=10, max_enqueued_batches=1, batch_timeout_micros=LONG)

    async def ask():
        first = asyncio.create_task(batcher.run(Inputs.of(piece(export.columns, 0, 6)), "serving_default"))
        await asyncio.sleep(0)
        with pytest.raises(RequestError, match="queue to which this task was submitted is full") as no:
            await batcher.run(Inputs.of(piece(export.columns, 0, 6)), "serving_default")
        assert no.value.code == grpc.StatusCode.UNAVAILABLE.value[0]
        second = await batcher.run(Inputs.of(piece(export.columns, 6, 10)), "serving_default")  # fills the batch
        return await first, second

    answers = asyncio.run(ask())
    np.testing.assert_allclose(np.concatenate([a["logits"] for a in answers]), export.logits[:10], rtol=1e-6)


def test_what_would_be_too_late_is_refused_at_once(batched, export) -> None:
    batcher, model = batched(max_batch_size=1, max_enqueued_batches=1000, num_batch_threads=1)
    rows = Inputs.of({name: np.repeat(values, 30, axis=0) for name, values in export.columns.items()})

    async def ask(seconds):
        deadline.set(asyncio.get_running_loop().time() + seconds)
        return await batcher.run(rows, "serving_default")

    async def ask_all():
        for _ in range(5):
            await ask(3600)  # it learns how long one takes
        return await asyncio.gather(
            *(ask(3600) for _ in range(40)), *(ask(1e-4) for _ in range(5)), return_exceptions=True
        )

    answers = asyncio.run(ask_all())
    assert len(model.sizes) == 45
    for answer in answers[:40]:
        np.testing.assert_allclose(answer["logits"], np.repeat(export.logits, 30, axis=0), rtol=1e-6)
    for refusal in answers[40:]:
        assert isinstance(refusal, RequestError)
        assert refusal.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
        assert "beyond the deadline" in str(refusal)


def test_many_short_calls_wait_for_a_long_one(batched, export) -> None:
    batcher, _ = batched(max_batch_size=2, max_enqueued_batches=2000, num_batch_threads=1)
    long = Inputs.of({name: np.repeat(values, 300, axis=0) for name, values in export.columns.items()})
    short = Inputs.of(piece(export.columns, 5, 6))

    async def ask():
        for _ in range(5):
            await batcher.run(short, "serving_default")  # it learns that this takes no time
        calls = [batcher.run(inputs, "serving_default") for inputs in (long, *[short] * 3000)]
        return await asyncio.wait_for(asyncio.gather(*calls), 300)

    answers = asyncio.run(ask())
    assert len(answers[0]["logits"]) == 64 * 300
    np.testing.assert_allclose([a["logits"][0] for a in answers[1:]], [export.logits[5]] * 3000, rtol=1e-6)


def test_a_request_that_is_given_up_is_not_begun(batched, export) -> None:
    batcher, model = batched(max_batch_size=16, batch_timeout_micros=LONG)

    async def ask():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(batcher.run(Inputs.of(piece(export.columns, 0, 12)), "serving_default"), 0.01)
        return await asyncio.gather(
            *(batcher.run(Inputs.of(piece(export.columns, i, i + 8)), "serving_default") for i in (0, 8))
        )

    answers = asyncio.run(ask())
    assert model.sizes == [16]
    np.testing.assert_allclose(np.concatenate([a["logits"] for a in answers]), export.logits[:16], rtol=1e-6)


def test_a_server_that_batches(export) -> None:
    parameters = BatchingParameters(max_batch_size=32, batch_timeout_micros=2000)
    with Server(export.base_path, batching=parameters) as server:

        def ask(row):
            with PredictClient(f"127.0.0.1:{server.grpc_port}", cast=False) as client:
                return client.predict(piece(export.columns, row, row + 1))["logits"]

        with ThreadPoolExecutor(16) as pool:
            logits = np.concatenate(list(pool.map(ask, range(64))))
        np.testing.assert_allclose(logits, export.logits, rtol=1e-6)
        with PredictClient(f"127.0.0.1:{server.grpc_port}", cast=False) as client, pytest.raises(PredictError) as no:
            client.predict({"city": export.columns["city"]})
        assert no.value.code == grpc.StatusCode.INVALID_ARGUMENT
