import numpy as np
import pytest
from c2al_serving.requests.casting import cast_columns

from c2al_tf.protocol.tensors import TensorSpec


def cast(column, dtype):
    return cast_columns({"x": column}, {"x": TensorSpec(np.dtype(dtype), (None,))})["x"]


def object_array(*values):
    array = np.empty(len(values), object)
    array[:] = values
    return array


@pytest.mark.parametrize(
    ("column", "dtype", "expected"),
    [
        ([1, 2], np.int64, [1, 2]),
        (np.array([1, 2], np.uint8), np.int64, [1, 2]),
        (np.array([2**40], np.int64), np.int64, [2**40]),
        ([1.5, float("nan")], np.float32, [1.5, float("nan")]),
        ([1, 2], np.float32, [1.0, 2.0]),
        ([float("inf")], np.float32, [float("inf")]),
        (["a", "é"], object, [b"a", "é".encode()]),
        (np.array([b"a"]), object, [b"a"]),
        ([True], np.bool_, [True]),
        ([], np.int64, []),
        ([], object, []),
        (["a\0"], object, [b"a\0"]),
        ([["a", "b"], ("c", b"d\0")], object, [[b"a", b"b"], [b"c", b"d\0"]]),
        (object_array([1, 2], (3, 4)), np.int64, [[1, 2], [3, 4]]),
        (object_array(np.array(["a"]), ["b"]), object, [[b"a"], [b"b"]]),
        ([[], []], object, [[], []]),
    ],
)
def test_casts_that_keep_the_values(column, dtype, expected):
    result = cast(column, dtype)
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, np.array(expected, dtype))


@pytest.mark.parametrize(
    ("column", "dtype", "message"),
    [
        ([1.0], np.int64, "column 'x' must hold int64. Received: float64, first 1.0"),
        ([True], np.int64, "column 'x' must hold int64. Received: bool"),
        (["1"], np.float32, "column 'x' must hold float32. Received: string, first b'1'"),
        ([1], object, "column 'x' must hold string. Received: int64"),
        (["a", None], object, "column 'x': row 1: must be a string"),
        ([2**31], np.int32, "column 'x' has a value beyond the range of int32. Received: 2147483648"),
        (np.array([2**63], np.uint64), np.int64, "beyond the range of int64"),
        ([-1], np.uint8, "beyond the range of uint8"),
        ([1e39], np.float32, r"beyond the range of float32. Received: 1e\+39"),
        ([[1], [1, 2]], np.int64, r"column 'x': row 1: must have 1 values, as row 0 has.* Received: \[1, 2\]"),
        ([["a"], "b"], object, "column 'x': row 1: must have 1 values, as row 0 has.* Received: b"),
        ([["a", "b"], ["c", None]], object, "column 'x': row 1: must be a string"),
        ([[[1], [2]], [[1], [2, 3]]], np.int64, "column 'x'"),
        (["a", 1], object, "column 'x': row 1: must be a string.* Received: 1"),
    ],
)
def test_casts_that_would_not(column, dtype, message):
    with pytest.raises(ValueError, match=message):
        cast(column, dtype)


def test_names_must_be_the_inputs():
    with pytest.raises(ValueError, match=r"Unknown: y\. Missing: x\. Inputs: x"):
        cast_columns({"y": [1]}, {"x": TensorSpec(np.dtype(np.int64), (None,))})
