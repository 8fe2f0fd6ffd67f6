"""Messages are measured before they are parsed."""

import numpy as np
import pytest
from c2al_serving.protocol.errors import RequestError
from c2al_serving.protocol.memory import check_memory
from google.protobuf.message import DecodeError

from c2al_tf.protocol.messages import ClassificationRequest, PredictRequest, WirePredictRequest
from c2al_tf.protocol.tensors import fill_proto


def field(number, content):
    """A length-delimited field as it is serialized."""
    head, size = bytes([number << 3 | 2]), len(content)
    while size > 127:
        head, size = head + bytes([size & 127 | 128]), size >> 7
    return head + bytes([size]) + content


def entry(tensor, name=b"x"):
    """An input of a request."""
    return field(2, field(1, name) + field(2, tensor))


@pytest.mark.parametrize(("size", "most"), [(0, 349_000), (5, 316_000), (200, 67_000), (20_000, 836)])
def test_strings_cost_their_copies_and_more(size, most):
    check_memory(ClassificationRequest, field(2, field(1, field(1, b"x" * size) * int(0.95 * most))))
    with pytest.raises(RequestError, match="takes too much memory: a request may cost 67108864 bytes beyond"):
        check_memory(ClassificationRequest, field(2, field(1, field(1, b"x" * size) * int(1.05 * most))))


@pytest.mark.parametrize(
    "tensor",
    [
        field(10, b"\x01" * 2**21),
        b"\x50\x01" * 2**20,  # not packed
        field(8, b"") * 2**20,
        field(4, bytes(17 << 20)),
    ],
)
def test_what_is_small_on_the_wire_only_is_refused(tensor):
    with pytest.raises(RequestError, match="takes too much memory"):
        check_memory(WirePredictRequest, entry(tensor))


def test_a_long_text_may_become_four_bytes_for_each():
    with pytest.raises(RequestError, match="takes too much memory"):
        check_memory(WirePredictRequest, entry(b"", b"x" * 2**21))


@pytest.mark.parametrize("end", [b"\x0b\x0c", b"\x12\xff\xff\x7f", b"\x12", b"\xff" * 11])
def test_large_bytes_that_are_no_message(end):
    with pytest.raises(DecodeError):
        check_memory(WirePredictRequest, entry(field(4, bytes(2**20))) + end)


@pytest.mark.parametrize("as_fields", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "int64", "S8"])
def test_ordinary_requests_have_room(dtype, as_fields):
    """4,096 rows of 39 columns."""
    request = PredictRequest()
    array = np.random.default_rng(0).integers(0, 10**6, 4096).astype(dtype)
    for number in range(39):
        fill_proto(request.inputs[str(number)], array, as_fields)
    check_memory(WirePredictRequest, request.SerializeToString())
