import numpy as np
import pytest
import tensorflow as tf

from c2al_tf.protocol.messages import TensorProto
from c2al_tf.protocol.tensors import encode_strings, fill_proto, from_proto

DTYPES = [
    "float16",
    "float32",
    "float64",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "bool",
]


def to_proto(array: np.ndarray, as_fields: bool = False):
    proto = TensorProto()
    fill_proto(proto, array, as_fields)
    return proto


@pytest.mark.parametrize("as_fields", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_numbers_are_tensorflows_both_ways(dtype, as_fields):
    array = np.array([[0, 1, 2], [1, 5, 7]]).astype(dtype)
    theirs = tf.make_tensor_proto(array)
    ours = to_proto(array, as_fields)
    np.testing.assert_array_equal(tf.make_ndarray(type(theirs).FromString(ours.SerializeToString())), array)
    decoded = from_proto(TensorProto.FromString(theirs.SerializeToString()))
    assert decoded.dtype == array.dtype
    np.testing.assert_array_equal(decoded, array)
    np.testing.assert_array_equal(from_proto(ours), array)


BYTES = [b"a", "é".encode()]


@pytest.mark.parametrize("array", [np.array(["a", "é"]), np.array(BYTES), np.array(["a", BYTES[1]], object)])
def test_strings_of_any_form(array):
    theirs = tf.make_tensor_proto(np.array(BYTES, object))
    assert to_proto(array).SerializeToString() == theirs.SerializeToString()
    assert from_proto(to_proto(array)).tolist() == BYTES


@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (2, 0)])
def test_shapes_without_rows_or_without_axes(shape):
    for dtype in (np.float32, object):
        array = np.full(shape, "x" if dtype is object else 1.5, dtype)
        assert from_proto(to_proto(array)).shape == shape


def test_few_values_stand_for_the_last_one_again():
    theirs = tf.make_tensor_proto(2.5, shape=[3])
    theirs.ClearField("tensor_content")
    theirs.float_val[:] = [1.5, 2.5]
    assert from_proto(TensorProto.FromString(theirs.SerializeToString())).tolist() == [1.5, 2.5, 2.5]


@pytest.mark.parametrize(
    ("dtype", "field", "value"),
    [
        ("int8", "int_val", 300),
        ("uint8", "int_val", -1),
        ("uint16", "int_val", 2**31 - 1),
        ("half", "half_val", 80_000),
    ],
)
def test_integers_too_large_for_their_dtype_are_read_as_tensorflow_does(dtype, field, value):
    theirs = tf.make_tensor_proto([1], tf.as_dtype(dtype))
    theirs.ClearField("tensor_content")
    getattr(theirs, field)[:] = [value]
    (expected,) = tf.io.parse_tensor(theirs.SerializeToString(), dtype).numpy()
    assert from_proto(TensorProto.FromString(theirs.SerializeToString())).tolist() == [expected]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dtype": 20}, "dtype must be one of float32, .*Received: DataType 20"),
        ({"float_val": [1.0] * 4}, "must hold 3 values. Received: 4"),
        ({"float_val": []}, "must hold 3 values. Received: 0"),
        ({"tensor_content": b"12345"}, r"must hold 3 values. Received: 1\.25"),
        ({"tensor_shape": {"dim": [{"size": -1}]}}, "known shape"),
        ({"tensor_shape": {"dim": [{"size": 2**40}, {"size": 2**40}]}}, "at most"),
        ({"tensor_shape": {"dim": [{"size": 2**24}]}}, "at most 131072 values that are not sent"),
        ({"tensor_shape": {"dim": [{"size": 2**40}, {"size": 0}]}}, "at most 131072 values that are not sent"),
    ],
)
def test_broken_tensors_are_refused(change, message):
    parts = {"dtype": 1, "tensor_shape": {"dim": [{"size": 3}]}, "float_val": [1.0]} | change
    with pytest.raises(ValueError, match=message):
        from_proto(TensorProto(**parts))


def test_what_a_tensor_cannot_hold():
    with pytest.raises(ValueError, match="cannot hold datetime64"):
        to_proto(np.array(["2020-01-01"], "datetime64[D]"))
    with pytest.raises(ValueError, match=r"row 1: must be a string .*Received: None"):
        encode_strings(np.array(["a", None], object))
