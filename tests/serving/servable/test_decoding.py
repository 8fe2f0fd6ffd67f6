"""What a decoder and an encoder remember changes nothing of what they read and write."""

import numpy as np
import pytest
from c2al_serving.protocol.errors import RequestError
from c2al_serving.protocol.memory import MAX_MEMORY
from c2al_serving.protocol.messages import NamedTensor, PredictResponse, TensorProto
from c2al_serving.protocol.tensors import fill_proto, from_proto
from c2al_serving.servable.decoding import Decoder, Inputs
from c2al_serving.servable.encoding import Encoder
from hypothesis import given, settings, strategies as st

DTYPES = ["float32", "float64", "int32", "int64", "bool", "float16", "uint8", "S"]


def entry(name, array, as_fields=False):
    named = NamedTensor(key=name)
    fill_proto(named.value, array, as_fields)
    return named.SerializeToString()


def read(decoder, data):
    """A tensor as the decoder reads it, or its refusal."""
    try:
        inputs = decoder.decode([data])
    except RequestError as error:
        return str(error)
    (form,), (content,) = inputs.forms, inputs.contents
    return form.name, form.dtype, form.shape, content


@st.composite
def entries(draw):
    """Tensors of few names and shapes, so that they are alike, some of them with fewer values or with broken bytes."""
    dtype, size = draw(st.sampled_from(DTYPES)), draw(st.integers(0, 4))
    raw = draw(st.binary(min_size=8 * size, max_size=8 * size))
    if dtype == "S":
        array = np.array([raw[place : place + draw(st.integers(0, 8))] for place in range(0, len(raw), 8)], object)
    else:
        array = np.frombuffer(raw, np.uint8)[: size * np.dtype(dtype).itemsize]
        array = (array % 2).astype(bool)[:size] if dtype == "bool" else array.view(dtype)
    named = NamedTensor(key=draw(st.sampled_from(["a", "b", "price"])))
    fill_proto(named.value, array, draw(st.booleans()))
    if draw(st.booleans()):
        named.value.tensor_shape.dim[0].size = draw(st.integers(0, 6))
    data = bytearray(named.SerializeToString())
    kind = draw(st.sampled_from(["whole", "whole", "cut", "flip", "more"]))
    place = draw(st.integers(0, len(data) - 1))
    if kind == "cut":
        del data[place : place + draw(st.integers(1, 8))]
    elif kind == "flip":
        data[place] ^= 1 << draw(st.integers(0, 7))
    elif kind == "more":
        data += draw(st.binary(max_size=8))
    return bytes(data)


@settings(max_examples=300)
@given(st.lists(entries(), min_size=2, max_size=12))
def test_a_decoder_that_has_seen_others_reads_the_same(data):
    decoder = Decoder()
    for one in (*data, *data):
        assert read(decoder, one) == read(Decoder(), one)


def test_what_looks_like_another_form_but_is_shorter_is_refused():
    decoder = Decoder()
    four, two = np.arange(4, dtype=np.float32), np.arange(2, dtype=np.float32)
    whole = entry("a", four)
    decoder.decode([whole, entry("b", two)])
    assert read(decoder, whole[:-16] + whole[-8:]) == read(Decoder(), whole[:-16] + whole[-8:])
    assert isinstance(read(decoder, whole[:-8]), str)


@pytest.mark.parametrize(
    "tensor",
    [
        {"dtype": 2, "tensor_shape": {"dim": [{"size": 0}]}, "float_val": [1.0]},
        {
            "dtype": 1,
            "tensor_shape": {"dim": [{"size": 2}]},
            "float_val": [np.frombuffer(b"\x08\x02\x2a\x04", "<f4")[0]],
        },
    ],
)
def test_values_that_are_not_sent_teach_nothing(tensor):
    decoder = Decoder()
    odd = NamedTensor(key="x", value=TensorProto(**tensor)).SerializeToString()
    read(decoder, odd)
    for size in (1, 2):
        honest = entry("x", np.full(size, 3.5, np.float32), as_fields=True)
        assert read(decoder, honest) == read(Decoder(), honest)


def short(name, dtype, shape, field, values):
    """An entry whose tensor has fewer values than places."""
    tensor = TensorProto(dtype=dtype, tensor_shape={"dim": [{"size": size} for size in shape]}, **{field: values})
    return NamedTensor(key=name, value=tensor).SerializeToString()


ROWS = entry("rows", np.zeros(2**17, np.bool_))
"""Rows that are sent."""


@pytest.mark.parametrize(
    ("dtype", "field", "values", "most"),
    [
        (9, "int64_val", [7], 2**17),  # 2 * 8 bytes and the model's 256 for each place
        (10, "bool_val", [True], 2**17),
        (7, "string_val", [b""], 2**17),  # 64 and 256
        (7, "string_val", [b"a" * 1000], 2**14),  # 64, 256 and 2 * 1000
    ],
)
def test_places_that_are_not_sent_cost_what_they_take_in_memory(dtype, field, values, most):
    few, many = (short("x", dtype, (size,), field, values) for size in (most, 2 * most))
    assert Decoder().decode([ROWS, few]).forms[1].shape == (most,)
    with pytest.raises(RequestError, match=r"Input 'x': a tensor of shape .* takes too much memory: .* 67108864 bytes"):
        Decoder().decode([ROWS, many])


def test_places_of_all_inputs_are_counted_together():
    one = short("x", 7, (2**15,), "string_val", [b""])
    assert len(Decoder().decode([ROWS, *[one] * 6]).forms) == 7
    with pytest.raises(RequestError, match="takes too much memory"):
        Decoder().decode([ROWS, *[one] * 7])


def test_rows_that_no_input_sends_are_few():
    one = short("x", 9, (1000,), "int64_val", [7])
    assert Decoder().decode([one]).forms[0].shape == (1000,)
    assert Decoder().decode([short("x", 9, (2**14,), "int64_val", [7]), ROWS]).forms[0].shape == (2**14,)
    message = r"Input 'x' may have at most \d+ rows more than are sent. Received: shape=\(1100,\), 1 rows sent"
    with pytest.raises(RequestError, match=message):
        Decoder().decode([short("x", 9, (1100,), "int64_val", [7])])


def test_strings_cost_their_places_although_they_are_sent():
    many = entry("x", np.full(2**19, b"", object))
    with pytest.raises(RequestError, match="Input 'x': a tensor of shape"):
        Decoder().decode([many])
    assert Decoder().decode([entry("x", np.full(2**18, b"a town", object))]).forms[0].shape == (2**18,)
    with pytest.raises(RequestError, match="Input 'x' takes too much memory"):  # before it is parsed
        Decoder().decode([entry("x", np.full(2**21, b"", object))])


def test_small_numbers_cost_their_width():
    rows = entry("x", np.ones(2**16, np.int64), as_fields=True)
    assert len(rows) < 66_000
    assert len(Decoder().decode([rows] * 39).forms) == 39  # 65,536 rows of 39 columns
    with pytest.raises(RequestError, match="Input 'x'"):
        Decoder().decode([entry("x", np.ones(2**22, np.int64), as_fields=True)])


@pytest.mark.parametrize("as_fields", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "int64", "S8"])
def test_ordinary_requests_have_room(dtype, as_fields):
    array = np.random.default_rng(0).integers(0, 10**6, 4096).astype(dtype)
    assert len(Decoder().decode([entry("x", array, as_fields)] * 39, MAX_MEMORY - 3 * 5_000_000).forms) == 39


def test_a_tensor_has_no_more_dimensions_than_tensorflow_can_take():
    for rank, allowed in ((254, True), (255, False)):
        tensor = TensorProto(dtype=1, tensor_shape={"dim": [{"size": 1}] * rank}, float_val=[1.0])
        answer = read(Decoder(), NamedTensor(key="x", value=tensor).SerializeToString())
        assert isinstance(answer, tuple) == allowed
    assert answer == "Input 'x': a tensor may have at most 254 dimensions. Received: 255"


def test_arrays_there_and_back():
    arrays = {"a": np.array([[1, 2]], np.int64), "b": np.array(["x", b"y"], object), "c": np.float32(2.5).reshape(())}
    back = Inputs.of(arrays).arrays()
    assert list(back) == ["a", "b", "c"]
    np.testing.assert_array_equal(back["a"], arrays["a"])
    assert back["b"].tolist() == [b"x", b"y"]
    assert back["c"] == np.float32(2.5)
    np.testing.assert_array_equal(Inputs.of({"d": np.array([1, -2], ">i4")}).arrays()["d"], [1, -2])


@pytest.mark.parametrize("dtype", [*DTYPES, object])
def test_an_encoder_writes_what_the_message_would(dtype):
    encoder = Encoder()
    for seed, shape in enumerate([(3, 1), (3, 1), (1, 3), (0, 1), (), (3, 1)]):
        array = np.random.default_rng(seed).normal(size=shape).astype(np.float64)
        array = np.array(array).astype(str).astype(object) if dtype is object else np.array(array).astype(dtype)
        response = PredictResponse.FromString(encoder.encode("score", array) + encoder.encode("other", array))
        expected = PredictResponse()
        for name in ("score", "other"):
            fill_proto(expected.outputs[name], array, as_fields=True)
            np.testing.assert_array_equal(from_proto(response.outputs[name]), from_proto(expected.outputs[name]))
        assert response == expected or dtype == "float16"
