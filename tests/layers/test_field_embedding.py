import keras
import numpy as np
import pytest

from c2al_tf.layers import FieldEmbedding

INPUTS = {
    "user": np.array([0, 3, 1], np.int32),
    "age": np.array([1, 0, 2], np.int32),
    "age_value": np.array([0.5, 0.0, -2.0], np.float32),
    "genres": np.array([[1, 2, 0], [2, 0, 0], [0, 0, 0]], np.int32),
}


def build(combiner: str = "mean", **kwargs) -> FieldEmbedding:
    return FieldEmbedding({"user": 4, "genres": 3, "age": 3}, 2, {"age": "age_value"}, {"genres": combiner}, **kwargs)


def test_fields_by_hand() -> None:
    layer = build()
    layer(INPUTS)
    table, directions = (np.asarray(weight) for weight in (layer.table, layer.directions))
    user, genres, age = table[:4], table[4:7], table[7:10]
    expected = {
        "age": age[[1, 0, 2]] + np.array([[0.5], [0.0], [-2.0]]) * directions[0],
        "user": user[[0, 3, 1]],
        "genres": np.stack([(genres[1] + genres[2]) / 2, genres[2], np.zeros(2)]),
    }
    assert layer.field_names == ["age", "user", "genres"]
    for index, name in enumerate(layer.field_names):
        np.testing.assert_allclose(np.asarray(layer(INPUTS))[:, index], expected[name], rtol=1e-5, atol=1e-7)


def test_sum_combiner() -> None:
    layer = build("sum")
    output = np.asarray(layer(INPUTS))
    genres = np.asarray(layer.table)[4:7]
    np.testing.assert_allclose(output[0, 2], genres[1] + genres[2], rtol=1e-5)


def test_padding_learns_nothing_and_a_missing_single_value_does() -> None:
    import tensorflow as tf

    layer = build()
    layer(INPUTS)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(INPUTS))
    gradient = np.asarray(tf.convert_to_tensor(tape.gradient(loss, layer.table.value)))
    assert (gradient[4] == 0).all()  # genres, id 0
    assert (gradient[0] != 0).all()  # user, id 0
    assert (gradient[2] == 0).all()  # user 2 is in no row


def test_layer(check_layer) -> None:
    check_layer(build, INPUTS)


def test_one_field() -> None:
    layer = FieldEmbedding({"user": 4}, 2)
    assert layer({"user": np.array([1, 2], np.int32)}).shape == (2, 1, 2)


def test_the_table_stays_float32_under_mixed_precision() -> None:
    layer = build(dtype="mixed_bfloat16")
    assert keras.backend.standardize_dtype(layer(INPUTS).dtype) == "bfloat16"
    assert layer.table.dtype == "float32"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dim": 0}, "`dim` must be at least 1. Received: dim=0"),
        ({"values": {"b": "b_value"}}, r"must name fields of `num_ids`. Received: \['b'\]"),
        ({"combiners": {"a": "max"}}, "`combiners` must be 'sum' or 'mean'. Received: {'a': 'max'}"),
        ({"combiners": {"a": "sum"}, "values": {"a": "v"}}, r"no scaled value. Received both for: \['a'\]"),
    ],
)
def test_bad_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FieldEmbedding(**{"num_ids": {"a": 3}, "dim": 2} | arguments)
