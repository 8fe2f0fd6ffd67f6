"""Messages are measured before they are parsed, and large PredictRequests read in place."""

import numpy as np
import pytest
from c2al_serving.protocol.envelope import read_envelope
from c2al_serving.protocol.errors import RequestError
from c2al_serving.protocol.memory import MAX_MEMORY, parsed_bytes
from c2al_serving.protocol.messages import ClassificationRequest, NamedTensor, PredictEnvelope, PredictRequest
from c2al_serving.protocol.tensors import fill_proto
from google.protobuf.message import DecodeError


def request(*sizes):
    made = PredictRequest(output_filter=["b", "a"])
    made.model_spec.name, made.model_spec.version.value, made.model_spec.signature_name = "m", 3, "s"
    for number, size in enumerate(sizes):
        fill_proto(made.inputs[str(number)], np.arange(size, dtype=np.float64))
    return made.SerializeToString()


def test_a_small_message_needs_no_measure():
    assert parsed_bytes(PredictEnvelope, b"\x12\x00" * 100, "it") == 64 * 200


def field(number, content):
    """A length-delimited field as it is serialized."""
    head, size = bytes([number << 3 | 2]), len(content)
    while size > 127:
        head, size = head + bytes([size & 127 | 128]), size >> 7
    return head + bytes([size]) + content


@pytest.mark.parametrize(("size", "count"), [(0, 800_000), (5, 800_000), (200, 200_000), (20_000, 1_000)])
def test_entries_cost_a_view_and_their_bytes(size, count):
    given = field(2, field(1, field(1, b"x" * size) * count))
    assert count * (48 + size) <= parsed_bytes(ClassificationRequest, given, "it") <= count * (52 + size) + 2000
    with pytest.raises(RequestError, match="it takes too much memory: a request may cost 67108864 bytes beyond"):
        parsed_bytes(ClassificationRequest, given, "it", count * (48 + size) - 1)


@pytest.mark.parametrize(
    "tensor",
    [
        field(2, b"\x12\x00" * 2**18),  # dimensions
        field(10, b"\x01" * 2**22),
        b"\x50\x01" * 2**20,  # not packed
        field(8, b"") * 2**21,
    ],
)
def test_what_is_small_on_the_wire_only_is_refused(tensor):
    with pytest.raises(RequestError, match="takes too much memory"):
        parsed_bytes(NamedTensor, field(1, b"x") + field(2, tensor), "it")


def test_a_long_text_may_become_four_bytes_for_each():
    with pytest.raises(RequestError, match="takes too much memory"):
        parsed_bytes(NamedTensor, field(1, b"x" * 2**21), "it")


@pytest.mark.parametrize("end", [b"\x0b\x0c", b"\x12\xff\xff\x7f", b"\x12", b"\xff" * 11])
def test_large_bytes_that_are_no_message(end):
    with pytest.raises(DecodeError):
        parsed_bytes(NamedTensor, field(2, field(4, bytes(2**20))) + end, "it")
    with pytest.raises(DecodeError):
        read_envelope(request(2**17) + end)


@pytest.mark.parametrize("sizes", [(), (5, 6), (2**17,), (2**15, 3, 2**16)])
def test_an_envelope_is_the_message_whatever_its_size(sizes):
    data = request(*sizes)
    envelope, room = read_envelope(data)
    expected = PredictEnvelope.FromString(data)
    assert list(envelope.inputs) == list(expected.inputs)
    assert len(envelope.inputs) == len(sizes)
    assert (envelope.model_spec, list(envelope.output_filter)) == (expected.model_spec, ["b", "a"])
    assert envelope.HasField("model_spec")
    assert MAX_MEMORY - room in (2 * len(data), 3 * len(data))


def test_an_envelope_has_few_fields():
    with pytest.raises(RequestError, match="may have 65536 inputs and names"):
        read_envelope(b"\x12\x00" * 2**18)
