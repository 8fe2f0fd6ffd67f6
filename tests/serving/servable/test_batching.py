"""Requests that are merged: each gets its own answer, whatever the others are."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from c2al_serving.client import PredictClient, PredictError
from c2al_serving.config.batching_parameters import BatchingParameters
from c2al_serving.metrics import Metrics
from c2al_serving.protocol.errors import RequestError
from c2al_serving.servable.batching import Batcher, deadline
from c2al_serving.server import Server

from c2al_tf.saved_model import SavedModel, SavedModelError

LONG = 300_000_000
"""Microseconds that no test waits for: a batch that goes before is full."""


class Watched(SavedModel):
    """Remembers how many rows each call had."""

    sizes: list[int]

    def call(self, inputs, names, signature, seconds=None):
        self.seconds = seconds
        self.sizes = [*getattr(self, "sizes", []), next(iter(inputs.values())).shape[0]]
        return super().call(inputs, names, signature, seconds)


@pytest.fixture
def batched(export):
    """`batched(**parameters)`: a batcher over a model, and the sizes of its calls."""
    with Watched(export.latest) as model:
        made = []

        def make(**parameters):
            made.append(Batcher(model, BatchingParameters(**parameters), Metrics()))
            return made[-1], model

        yield make
        for batcher in made:
            batcher.close()


def piece(columns, start, stop):
    return {name: values[start:stop] for name, values in columns.items()}


def ask_all(batcher, requests):
    """All at once; a request's outputs, or its error."""

    async def ask():
        calls = [batcher.run(inputs, *rest) for inputs, *rest in requests]
        return await asyncio.gather(*calls, return_exceptions=True)

    return asyncio.run(ask())


def ask_one(batcher, inputs, *rest):
    return asyncio.run(batcher.run(inputs, *rest))


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


def test_padding_takes_little_memory(batched, export) -> None:
    batcher, _ = batched(max_batch_size=4096, allowed_batch_sizes=(4096,))
    wide = piece(export.columns, 0, 2) | {"tags": np.full((2, 2**10), "", object)}
    with pytest.raises(RequestError, match="Padding of input 'tags' may take 16777216 bytes in a batch"):
        ask_one(batcher, wide, "serving_default", ["logits"])


def test_what_cannot_be_merged_is_called_by_itself(batched, export) -> None:
    """Another signature; no rows."""
    batcher, model = batched(max_batch_size=40, batch_timeout_micros=10_000)
    examples = {"examples": np.array(export.examples, object)}
    requests = [
        (piece(export.columns, 0, 8), "serving_default"),
        (piece(examples, 0, 8), "serialized_examples"),
        (piece(examples, 0, 0), "serialized_examples"),
    ]
    answers = ask_all(batcher, requests)
    for answer, rows in zip(answers, (8, 8, 0), strict=True):
        np.testing.assert_allclose(answer["logits"], export.logits[:rows], rtol=1e-6)
    assert sorted(model.sizes) == [8, 8]


def longer(columns):
    return columns | {"tags": np.concatenate([columns["tags"], np.full((len(columns["tags"]), 2), "", object)], axis=1)}


def test_rows_of_several_lengths_fail_their_batch(batched, export) -> None:
    batcher, _ = batched(max_batch_size=16, batch_timeout_micros=LONG)
    short, long = piece(export.columns, 0, 8), longer(piece(export.columns, 0, 8))
    answers = ask_all(batcher, [(short, "serving_default"), (long, "serving_default")])
    assert [answer.code for answer in answers] == [9, 9]  # FAILED_PRECONDITION
    assert all("'tags' from different tasks have different shapes and padding is turned off" in str(a) for a in answers)


def test_rows_of_several_lengths_are_padded_with_their_first_value(batched, export) -> None:
    batcher, model = batched(max_batch_size=16, batch_timeout_micros=LONG, pad_variable_length_inputs=True)
    short, long = piece(export.columns, 0, 8), longer(piece(export.columns, 8, 16))
    first, second = ask_all(batcher, [(short, "serving_default"), (long, "serving_default")])
    assert model.sizes == [16]
    np.testing.assert_allclose(second["logits"], export.logits[8:16], rtol=1e-6)
    filler = np.full((8, 2), short["tags"].flat[0], object)
    filled = short | {"tags": np.concatenate([short["tags"], filler], axis=1)}
    np.testing.assert_allclose(first["logits"], model.run(filled)["logits"], rtol=1e-6)


def test_more_rows_than_a_batch_may_have_are_refused(batched, export) -> None:
    for split in ({}, {"max_execution_batch_size": 10}):
        batcher, _ = batched(max_batch_size=40, **split)
        with pytest.raises(RequestError, match="Task size 64 is larger than maximum input batch size 40") as no:
            ask_one(batcher, export.columns, "serving_default")
        assert no.value.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]


def test_large_requests_are_split_where_the_file_says_so(batched, export) -> None:
    batcher, model = batched(max_batch_size=64, max_execution_batch_size=24, num_batch_threads=1)
    outputs = ask_one(batcher, export.columns, "serving_default", ["logits"])
    np.testing.assert_allclose(outputs["logits"], export.logits, rtol=1e-6)
    assert model.sizes == [24, 24, 16]


def test_a_batch_that_is_full_goes_at_once_where_requests_are_split(batched, export) -> None:
    batcher, model = batched(max_batch_size=64, max_execution_batch_size=16, batch_timeout_micros=LONG)
    answers = ask_all(batcher, [(piece(export.columns, i, i + 8), "serving_default") for i in (0, 8)])
    np.testing.assert_allclose(np.concatenate([a["logits"] for a in answers]), export.logits[:16], rtol=1e-6)
    assert model.sizes == [16]


def test_a_bad_request_fails_its_batch(batched, export) -> None:
    batcher, model = batched(max_batch_size=24, batch_timeout_micros=LONG)
    good = [({"examples": np.array(export.examples[i : i + 8], object)}, "serialized_examples") for i in (0, 8)]
    bad = ({"examples": np.array([b"no example"] * 8, object)}, "serialized_examples")
    answers = ask_all(batcher, [good[0], bad, good[1]])
    for error in answers:
        assert isinstance(error, SavedModelError)
        assert "Could not parse example" in str(error)
    assert model.sizes == [24]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"price": np.zeros(7, np.float32)}, "input tensors must have equal 0th-dimension size"),
        ({"price": np.float32(1).reshape(())}, r"Input 'price' must have shape \(\?\). Received: \(\)"),
    ],
)
def test_rows_that_are_none(batched, export, change, message) -> None:
    batcher, _ = batched(max_batch_size=40)
    with pytest.raises(ValueError, match=message):
        ask_one(batcher, piece(export.columns, 0, 8) | change, "serving_default")


def test_wrong_inputs_are_refused_before_they_wait(batched, export) -> None:
    batcher, _ = batched(batch_timeout_micros=LONG)
    with pytest.raises(SavedModelError, match="Missing but required: {city}"):
        ask_one(batcher, {name: v for name, v in export.columns.items() if name != "city"}, "serving_default")
    with pytest.raises(SavedModelError, match="output tensor alias not found in signature: score"):
        ask_one(batcher, export.columns, "serving_default", ["score"])


def test_a_full_queue(batched, export) -> None:
    batcher, _ = batched(max_batch_size=10, max_enqueued_batches=1, batch_timeout_micros=LONG)

    async def ask():
        first = asyncio.create_task(batcher.run(piece(export.columns, 0, 6), "serving_default"))
        await asyncio.sleep(0)
        with pytest.raises(RequestError, match="queue to which this task was submitted is full") as no:
            await batcher.run(piece(export.columns, 0, 6), "serving_default")
        assert no.value.code == grpc.StatusCode.UNAVAILABLE.value[0]
        second = await batcher.run(piece(export.columns, 6, 10), "serving_default")  # fills the batch
        return await first, second

    answers = asyncio.run(ask())
    np.testing.assert_allclose(np.concatenate([a["logits"] for a in answers]), export.logits[:10], rtol=1e-6)


def test_a_batch_whose_deadlines_have_all_passed_is_not_run(batched, export) -> None:
    batcher, model = batched(max_batch_size=16, batch_timeout_micros=LONG)
    late, later = piece(export.columns, 0, 8), piece(export.columns, 8, 16)

    async def ask(inputs, seconds):
        deadline.set(time.monotonic() + seconds)
        return await batcher.run(inputs, "serving_default")

    async def ask_both(*seconds):
        calls = [ask(inputs, left) for inputs, left in zip((late, later), seconds, strict=True)]
        return await asyncio.gather(*calls, return_exceptions=True)

    for refusal in asyncio.run(ask_both(-1, -2)):
        assert isinstance(refusal, RequestError)
        assert refusal.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
        assert "Run() timeout exceeded while waiting in batching queue" in str(refusal)
    assert not hasattr(model, "sizes")
    for answer, rows in zip(asyncio.run(ask_both(-1, 3600)), (slice(0, 8), slice(8, 16)), strict=True):
        np.testing.assert_allclose(answer["logits"], export.logits[rows], rtol=1e-6)
    assert 3500 < model.seconds <= 3600  # the latest deadline bounds the call


def test_a_request_that_is_given_up_is_not_begun(batched, export) -> None:
    batcher, model = batched(max_batch_size=16, batch_timeout_micros=LONG)

    async def ask():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(batcher.run(piece(export.columns, 0, 12), "serving_default"), 0.01)
        return await asyncio.gather(*(batcher.run(piece(export.columns, i, i + 8), "serving_default") for i in (0, 8)))

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
