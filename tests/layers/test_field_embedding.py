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


@pytest.mark.tensorflow
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
        ({"combiners": {"a": "max"}}, "`combiners` must be 'sum', 'mean' or a layer. Received: {'a': 'max'}"),
        ({"combiners": {"a": "sum"}, "values": {"a": "v"}}, r"no scaled value. Received both for: \['a'\]"),
    ],
)
def test_bad_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FieldEmbedding(**{"num_ids": {"a": 3}, "dim": 2} | arguments)


SHARED = {
    "item": np.array([0, 3, 1], np.int32),
    "clicked": np.array([[3, 1, 0], [0, 0, 0], [2, 0, 0]], np.int32),
}


def shared() -> FieldEmbedding:
    return FieldEmbedding({"item": 4, "clicked": 4}, 2, combiners={"clicked": "sum"}, shares={"clicked": "item"})


def test_fields_that_share_rows() -> None:
    layer = shared()
    output = np.asarray(layer(SHARED))
    table = np.asarray(layer.table)
    assert table.shape == (5, 2)  # one row beyond the ids: 0 is a value of `item`, and the padding of `clicked`
    np.testing.assert_array_equal(output[:, 0], table[[0, 3, 1]])
    np.testing.assert_allclose(output[:, 1], [table[3] + table[1], np.zeros(2), table[2]], rtol=1e-6)


def test_fields_of_one_kind_share_rows_without_one_more() -> None:
    fields = {"a": 4, "b": 4, "c": 3}
    assert FieldEmbedding(fields, 2, shares={"b": "a"}).offsets == [0, 0, 4]
    assert FieldEmbedding(fields, 2, combiners={"a": "sum", "b": "sum"}, shares={"b": "a"}).num_rows == 7


def test_shared_layer(check_layer) -> None:
    check_layer(
        lambda **kwargs: FieldEmbedding(
            {"item": 4, "clicked": 4}, 2, combiners={"clicked": "sum"}, shares={"clicked": "item"}, **kwargs
        ),
        SHARED,
    )


@pytest.mark.tensorflow
@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("optimizer", ["RowWiseAdagrad", "SparseAdagrad", "LazyAdam", "Adam"])
def test_padding_learns_nothing_under_any_optimizer(optimizer: str, jit_compile: bool) -> None:
    """Bit for bit, also where another field has just trained the row of id 0."""
    import tensorflow as tf

    import c2al_tf.optimizers

    layer = shared()
    layer(SHARED)
    kind = getattr(c2al_tf.optimizers, optimizer, None) or getattr(keras.optimizers, optimizer)
    tuned = kind(learning_rate=0.1)
    tuned.build(layer.trainable_variables)

    @tf.function(jit_compile=jit_compile)
    def step(item: tf.Tensor, clicked: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(layer({"item": item, "clicked": clicked}) - 1.0))
        tuned.apply(tape.gradient(loss, layer.trainable_variables), layer.trainable_variables)

    before = np.array(layer.table)
    step(*map(tf.constant, SHARED.values()))
    trained = np.array(layer.table)
    np.testing.assert_array_equal(trained[4], before[4])
    assert (trained[0] != before[0]).all()  # `item` 0 is a value
    if optimizer == "Adam":  # it moves every row along its momentum
        return
    step(tf.constant([1, 1, 1]), tf.zeros((3, 3), tf.int32))
    np.testing.assert_array_equal(np.array(layer.table)[[0, 4]], trained[[0, 4]])


@pytest.mark.tensorflow
@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_the_gradient_of_the_table_is_float32_rows(dtype: str, jit_compile: bool) -> None:
    import tensorflow as tf

    layer = build(dtype=dtype)
    layer(INPUTS)
    seen = []

    @tf.function(jit_compile=jit_compile)
    def gradient() -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.cast(layer(INPUTS), tf.float32))
        slices = tape.gradient(loss, layer.table.value)
        seen.append(slices)
        return slices.values

    gradient()
    assert isinstance(seen[0], tf.IndexedSlices)
    assert seen[0].values.dtype == tf.float32


@pytest.mark.parametrize(
    ("num_ids", "shares", "message"),
    [
        ({"a": 3}, {"a": "b"}, "must map fields of `num_ids` to other fields that have rows of their own"),
        ({"a": 3}, {"a": "a"}, "Received: 'a' shares 'a'"),
        ({"a": 3, "b": 4}, {"a": "b"}, "must have as many ids. Received: a=3, b=4"),
        ({"a": 2**31}, {}, "must add up to at most 2147483647 rows of a table. Received: 2147483648"),
    ],
)
def test_bad_rows(num_ids: dict, shares: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FieldEmbedding(num_ids, 2, shares=shares)
