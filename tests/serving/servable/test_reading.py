"""Inputs are read as TensorFlow reads them, within the memory that a request may take."""

import contextlib
import re

import numpy as np
import pytest
from c2al_serving.protocol.errors import RequestError
from c2al_serving.servable.reading import Reader, read_inputs
from google.protobuf.message import DecodeError
from hypothesis import given, settings, strategies as st

from c2al_tf.protocol.messages import PredictRequest, TensorProto, WirePredictRequest
from c2al_tf.protocol.tensors import fill_proto, from_proto

DTYPES = ["float32", "float64", "int32", "int64", "bool", "float16", "uint8", "S"]


def read(**tensors):
    """Tensors as a server reads them from a request's bytes."""
    request = PredictRequest()
    for name, tensor in tensors.items():
        if isinstance(tensor, np.ndarray):
            fill_proto(request.inputs[name], tensor)
        else:
            request.inputs[name].CopyFrom(tensor)
    return read_inputs(WirePredictRequest.FromString(request.SerializeToString()).inputs)


def short(dtype, shape, field, values):
    """A tensor with fewer values than places."""
    return TensorProto(dtype=dtype, tensor_shape={"dim": [{"size": size} for size in shape]}, **{field: values})


@st.composite
def tensors(draw):
    """Tensors of few shapes, so that they are alike, some with fewer values or too many."""
    dtype, size = draw(st.sampled_from(DTYPES)), draw(st.integers(0, 4))
    values = draw(st.lists(st.integers(0, 1), min_size=size, max_size=size))
    array = np.array([str(value).encode() for value in values], object) if dtype == "S" else np.array(values, dtype)
    tensor = TensorProto()
    fill_proto(tensor, array.reshape(-1, draw(st.sampled_from([1, size or 1]))), draw(st.booleans()))
    if draw(st.booleans()):
        tensor.tensor_shape.dim[0].size = draw(st.integers(-1, 6))
    if draw(st.booleans()):
        tensor.tensor_shape.unknown_rank = draw(st.booleans())
    return tensor


@settings(max_examples=300)
@given(tensors())
def test_a_request_is_read_as_its_tensors_are(tensor):
    try:
        expected = from_proto(tensor)
    except ValueError as error:
        with pytest.raises(RequestError, match=f"tensor parsing error: x: {re.escape(str(error))}"):
            read(x=tensor)
        return
    found = read(x=tensor)["x"]
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


ROWS = np.zeros(2**17, np.bool_)
"""Rows that are sent."""


@pytest.mark.parametrize(
    ("dtype", "field", "value", "most"),
    [(9, "int64_val", 7, 2**17), (10, "bool_val", True, 2**17), (7, "string_val", b"a" * 1000, 2**14)],
)
def test_values_that_are_not_sent_are_bounded(dtype, field, value, most):
    assert read(rows=ROWS, x=short(dtype, (most,), field, [value]))["x"].shape == (most,)
    with pytest.raises(RequestError, match="Values that are not sent may be 131072 in all|at most 131072 values"):
        read(rows=ROWS, x=short(dtype, (2 * most,), field, [value]))


def test_values_of_all_inputs_are_counted_together():
    one = short(7, (2**15,), "string_val", [b""])
    assert len(read(rows=ROWS, **{f"x{i}": one for i in range(4)})) == 5
    with pytest.raises(RequestError, match=r"Received: 163\d+ values"):
        read(rows=ROWS, **{f"x{i}": one for i in range(5)})


def test_rows_that_no_input_sends_are_few():
    assert read(x=short(9, (1000,), "int64_val", [7]))["x"].shape == (1000,)
    assert read(x=short(9, (2**14,), "int64_val", [7]), rows=ROWS)["x"].shape == (2**14,)
    with pytest.raises(RequestError, match=r"rows of which none is sent 1024. Received: 1099 values, 1100 rows"):
        read(x=short(9, (1100,), "int64_val", [7]))


def test_a_shape_is_short():
    for rank, allowed in ((64, True), (65, False), (2000, False)):
        tensor = short(1, [1] * rank, "float_val", [1.0])
        if allowed:
            assert read(x=tensor)["x"].ndim == rank
        else:
            with pytest.raises(RequestError, match="known shape of at most 64 sizes|shape may take 4096 bytes"):
                read(x=tensor)


def test_the_last_of_two_inputs_with_one_name_wins():
    first, second = PredictRequest(), PredictRequest()
    fill_proto(first.inputs["x"], np.array([1]))
    fill_proto(second.inputs["x"], np.array([2]))
    both = WirePredictRequest.FromString(first.SerializeToString() + second.SerializeToString())
    assert read_inputs(both.inputs)["x"].tolist() == [2]


def request(**tensors):
    """A request's bytes; its inputs in a fixed order."""
    made = PredictRequest(output_filter=["logits"])
    made.model_spec.name = "ads"
    for name, tensor in tensors.items():
        made.inputs[name].CopyFrom(tensor)
    return made.SerializeToString(deterministic=True)


def read_by(reader, data):
    """What a reader makes of a request: its inputs, or its refusal."""
    try:
        asked, inputs = reader.read(data)
    except (RequestError, DecodeError) as error:
        return str(error)
    asked = {"model": asked.model_spec.SerializeToString(), "outputs": list(asked.output_filter)}
    return asked | {name: (array.dtype, array.shape, array.tolist()) for name, array in sorted(inputs.items())}


@st.composite
def requests(draw):
    """Requests that are alike, some with broken bytes."""
    count = draw(st.integers(1, 2))
    data = bytearray(request(**{name: draw(tensors()) for name in ("a", "b")[:count]}))
    kind = draw(st.sampled_from(["whole", "whole", "whole", "flip", "twice"]))
    if kind == "flip":
        # Not of the first bytes, which name the model.
        data[draw(st.integers(16, len(data) - 1))] ^= 1 << draw(st.integers(0, 7))
    elif kind == "twice":
        more = PredictRequest()
        more.inputs["a"].CopyFrom(draw(tensors()))
        data += more.SerializeToString()
    return bytes(data)


@settings(max_examples=400, deadline=None)
@given(st.lists(requests(), min_size=2, max_size=10))
def test_a_reader_that_has_seen_others_reads_the_same(data):
    reader = Reader()
    for one in (*data, *data):
        assert repr(read_by(reader, one)) == repr(read_by(Reader(), one))


def numbers(array, as_fields=False):
    tensor = TensorProto()
    fill_proto(tensor, np.array(array), as_fields)
    return tensor


def test_requests_that_differ_in_their_numbers_are_not_parsed(monkeypatch):
    reader = Reader()
    reader.read(request(a=numbers([1, 2]), b=numbers(np.float32([0.5, 1.5]), as_fields=True)))
    with monkeypatch.context() as patch:
        patch.setattr("c2al_serving.servable.reading.read_inputs", None)
        found = read_by(reader, request(a=numbers([3, -4]), b=numbers(np.float32([2.5, np.inf]), as_fields=True)))
    assert found["a"][2] == [3, -4]
    assert found["b"][2] == [2.5, np.inf]
    assert read_by(reader, request(a=numbers([3, -4]), b=numbers([[1, 2]])))["b"][1] == (1, 2)


@pytest.mark.parametrize(
    "odd",
    [
        # Numbers in a field that is not the one that counts, of the same length as those that do.
        {"dtype": 3, "int_val": [1], "float_val": [1.0]},
        {"dtype": 1, "float_val": [1.0], "tensor_content": b"\0\0\0\0"},
        {"dtype": 1, "float_val": [1.0], "version_number": 7},
        {"dtype": 7, "string_val": [b"12345678"]},
    ],
)
def test_what_is_sent_in_an_odd_form_is_read_each_time(odd):
    reader = Reader()
    tensor = TensorProto(tensor_shape={"dim": [{"size": 1}]}, **odd)
    data = request(x=tensor)
    expected = from_proto(tensor).tolist()
    for _ in range(2):
        assert read_by(reader, data)["x"][2] == expected
    for place in range(len(data)):
        changed = bytes([*data[:place], data[place] ^ 1, *data[place + 1 :]])
        if place > 20:
            assert repr(read_by(reader, changed)) == repr(read_by(Reader(), changed))


@pytest.mark.parametrize(
    "odd",
    [
        b"\x12\x07\x08\xff\x01\x12\x02\x08\x01",  # a name that is a number
        b"\x12\x05\x0a\x01x\x10\x01",  # a tensor that is a number
        b"\x0b\x0c",  # a group
    ],
)
def test_fields_of_another_kind_are_passed_over_as_protobuf_does(odd):
    data = request(a=numbers([1, 2])) + odd
    WirePredictRequest.FromString(data)  # protobuf takes it
    reader = Reader()
    for _ in range(2):
        with contextlib.suppress(RequestError):  # an input without a tensor is refused, with a status of its own
            assert read(a=np.array([1, 2]))["a"].tolist() == reader.read(data)[1]["a"].tolist()
