import keras
import numpy as np
import pytest
from keras import ops

from c2al_tf.layers import DHENBlock, FMAttention, attention_sparsity, fm_attention, freeze_attention


def explicit_loop(X: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """Each pair of fields by itself: G[b, i] = sum over j of <X[b, i], X[b, j]> Y[b, j]."""
    G = np.zeros(Y.shape)
    for row in range(X.shape[0]):
        for i in range(X.shape[1]):
            for j in range(X.shape[1]):
                G[row, i] += (X[row, i] @ X[row, j]) * Y[row, j]
    return G


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def test_fm_attention_equals_the_explicit_double_loop_over_fields() -> None:
    """Property 1."""
    X, Y = random(4, 5, 3), random(4, 5, 2)[:, ::-1]
    np.testing.assert_allclose(fm_attention(X, Y), explicit_loop(X, Y), rtol=1e-4, atol=1e-5)


def test_x_xt_y_is_associative() -> None:
    """Property 1: X (X^T Y) = (X X^T) Y."""
    X, Y = random(4, 5, 3), random(4, 5, 2) + 1
    full = np.einsum("bnm,bmk->bnk", np.einsum("bnd,bmd->bnm", X, X), Y)
    np.testing.assert_allclose(fm_attention(X, Y), full, rtol=1e-4, atol=1e-5)


def test_a_static_attention_is_the_same_for_every_row() -> None:
    X, Y = random(4, 5, 3), random(5, 2)
    np.testing.assert_allclose(fm_attention(X, Y), fm_attention(X, np.tile(Y, (4, 1, 1))), rtol=1e-5, atol=1e-6)


def test_by_hand() -> None:
    X = np.array([[[1.0, 2.0], [3.0, 4.0]]], np.float32)
    Y = np.array([[[1.0], [10.0]]], np.float32)
    # <x1,x1> = 5, <x1,x2> = 11, <x2,x2> = 25
    np.testing.assert_allclose(fm_attention(X, Y), [[[5 + 110], [11 + 250]]])


@pytest.mark.parametrize("mode", ["attentive", "static"])
@pytest.mark.parametrize("options", [{}, {"density_penalty": 0.5, "stop_gradient": True}])
def test_layer(check_layer, mode: str, options: dict) -> None:
    check_layer(lambda **kwargs: FMAttention(2, mode, hidden_units=4, **options, **kwargs), random(3, 5, 4))


@pytest.mark.parametrize("mode", ["attentive", "static"])
def test_the_layer_weights_the_pairs_by_its_attention(mode: str) -> None:
    layer, X = FMAttention(2, mode), random(3, 5, 4)
    output = layer(X)
    Y = np.broadcast_to(layer.attention(ops.convert_to_tensor(X)), (3, 5, 2))
    np.testing.assert_allclose(output, explicit_loop(X, Y), rtol=1e-4, atol=1e-5)


def test_attentive_weights_depend_on_the_row_and_static_ones_do_not() -> None:
    X = random(2, 5, 4)
    attentive, static = FMAttention(2), FMAttention(2, "static")
    attentive(X), static(X)
    assert np.abs(np.diff(attentive.attention(ops.convert_to_tensor(X)), axis=0)).max() > 1e-3
    assert static.attention(ops.convert_to_tensor(X)).shape == (5, 2)


@pytest.mark.tensorflow
def test_the_gradient_reaches_the_attention() -> None:
    """dL/dY = (X X^T) dL/dG."""
    import tensorflow as tf

    X, Y, weight = random(2, 5, 3), tf.Variable(random(2, 5, 2)), random(2, 5, 2) + 2
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(fm_attention(tf.constant(X), Y) * weight)
    expected = np.einsum("bnm,bmk->bnk", np.einsum("bnd,bmd->bnm", X, X), weight)
    np.testing.assert_allclose(tape.gradient(loss, Y), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.tensorflow
@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_gradients_are_those_of_the_equation(static: bool, jit_compile: bool) -> None:
    """X (X^T Y) and (X X^T) Y have the same gradients."""
    import tensorflow as tf

    X, Y, weight = random(3, 5, 4), random(5, 2) if static else random(3, 5, 2) + 1, random(3, 5, 2) - 1

    def gradients(interaction) -> list:
        @tf.function(jit_compile=jit_compile)
        def run(X, Y):
            with tf.GradientTape() as tape:
                tape.watch([X, Y])
                loss = tf.reduce_sum(interaction(X, Y) * weight)
            return tape.gradient(loss, [X, Y])

        return run(tf.constant(X), tf.constant(Y))

    full = "bnd,bmd,mk->bnk" if static else "bnd,bmd,bmk->bnk"
    expected = gradients(lambda X, Y: tf.einsum(full, X, X, Y))
    for ours, theirs in zip(gradients(fm_attention), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_bfloat16() -> None:
    X, Y = random(4, 5, 3), random(4, 5, 2) + 1
    G = fm_attention(ops.cast(X, "bfloat16"), ops.cast(Y, "bfloat16"))
    assert keras.backend.standardize_dtype(G.dtype) == "bfloat16"
    np.testing.assert_allclose(ops.cast(G, "float32"), explicit_loop(X, Y), rtol=0.05, atol=0.15)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_outputs": 0}, r"`num_outputs` must be at least 1. Received: num_outputs=0"),
        ({"num_outputs": 1, "mode": "soft"}, r"`mode` must be 'attentive' or 'static'. Received: mode='soft'"),
        ({"num_outputs": 1, "hidden_units": 0}, r"`hidden_units` must be at least 1. Received: hidden_units=0"),
        (
            {"num_outputs": 1, "density_penalty": -1.0},
            r"`density_penalty` must be finite and at least 0. Received: density_penalty=-1.0",
        ),
    ],
)
def test_bad_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FMAttention(**arguments)


def test_bad_shape() -> None:
    with pytest.raises(ValueError, match=r"must have shape \(batch, num_fields, dim\)"):
        FMAttention(2)(keras.Input((4,)))


def test_sparsity_by_hand() -> None:
    Y = np.array([[[1, 1], [-1, 1]], [[0, 3], [0, 0]], [[3, -1], [0, 0]], [[0, 0], [0, 0]]], np.float32)
    expected = [0, 3 / 4, 1 - 16 / (4 * 10), 1]
    np.testing.assert_allclose(attention_sparsity(Y), expected, rtol=1e-6)
    np.testing.assert_allclose(attention_sparsity(1e-12 * Y), expected, rtol=1e-5)
    np.testing.assert_allclose(attention_sparsity(Y[2]), expected[2], rtol=1e-6)
    half = attention_sparsity(ops.cast(Y, "bfloat16"))
    assert keras.backend.standardize_dtype(half.dtype) == "float32"
    np.testing.assert_allclose(half, expected, rtol=1e-6)


@pytest.mark.tensorflow
def test_the_gradient_of_sparsity_is_finite_where_the_attention_is_0() -> None:
    import tensorflow as tf

    Y = tf.constant([[[0.0, 0.0]], [[0.0, 2.0]], [[1e-20, 0.0]]])
    with tf.GradientTape() as tape:
        tape.watch(Y)
        total = tf.reduce_sum(attention_sparsity(Y))
    gradient = tape.gradient(total, Y)
    assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(gradient[:2], np.zeros((2, 1, 2)))


def in_a_model(**options) -> keras.Model:
    """Three attentions: within a block, within a model within the model, and static at the surface."""
    keras.utils.set_random_seed(0)
    dtype = options.pop("dtype", None)
    names = iter("abc")

    def attention(mode: str = "attentive") -> FMAttention:
        return FMAttention(2, mode, 4, name=f"fm_{next(names)}", dtype=dtype, **options)

    x = keras.Input((5, 3))
    X = DHENBlock([attention()], name="block", dtype=dtype)(x)
    inner = keras.Model(x, attention()(x), name="inner")
    Z = keras.layers.Concatenate(dtype=dtype)([inner(X), attention("static")(X)])
    z = keras.layers.Flatten(dtype=dtype)(Z)
    return keras.Model(x, {"primary": keras.layers.Dense(1, dtype="float32", name="logit")(z)})


def attentions_of(model: keras.Model) -> list[FMAttention]:
    found = [layer for layer in model._flatten_layers() if isinstance(layer, FMAttention)]
    return sorted(found, key=lambda layer: layer.name)


ROWS = random(16, 5, 3), (random(16, 1) > 0).astype(np.float32)


@pytest.mark.parametrize("dtype", [None, "mixed_bfloat16"])
def test_the_penalty_is_added_in_training(dtype: str | None) -> None:
    model = in_a_model(density_penalty=0.5, dtype=dtype)
    collected = []

    def collecting(attention):
        def collect(X):
            Y = attention(X)
            collected.append(np.asarray(ops.cast(Y, "float32")))
            return Y

        return collect

    for layer in attentions_of(model):
        layer.attention = collecting(layer.attention)
    model(ROWS[0], training=False)
    assert model.losses == []
    collected.clear()
    model(ROWS[0], training=True)
    assert {keras.backend.standardize_dtype(loss.dtype) for loss in model.losses} == {"float32"}
    expected = [0.5 * np.mean(attention_sparsity(Y)) for Y in collected]
    assert len(expected) == 3
    np.testing.assert_allclose(sorted(map(float, model.losses)), sorted(expected), rtol=1e-6)


@pytest.mark.tensorflow
@pytest.mark.parametrize("jit_compile", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_train_and_fit_take_the_penalty(jit_compile: bool) -> None:
    import tensorflow as tf

    from c2al_tf.losses import weighted_sum_of_tasks
    from c2al_tf.training import train

    rows = tf.data.Dataset.from_tensors(ROWS)
    losses, weights = {}, {}
    for penalty in (0.0, 10.0):
        for way in ("train", "fit") if penalty else ("fit",):  # tests/training have the two alike without one
            model = in_a_model(density_penalty=penalty)
            bce = keras.losses.BinaryCrossentropy(from_logits=True)
            model.compile(keras.optimizers.SGD(0.1), {"primary": bce}, jit_compile=jit_compile)
            if way == "fit":
                losses[way, penalty] = model.fit(rows, shuffle=False, verbose=0).history["loss"][0]
            else:
                history = train(model, rows, weighted_sum_of_tasks({}), jit_compile=jit_compile)
                losses[way, penalty] = history.epochs[0]["loss"]
            weights[way, penalty] = model.get_weights()
    model = in_a_model(density_penalty=10.0)
    model(ROWS[0], training=True)
    assert losses["fit", 10.0] - losses["fit", 0.0] == pytest.approx(float(sum(model.losses)), rel=1e-5)
    assert losses["train", 10.0] == pytest.approx(losses["fit", 10.0], rel=1e-6)
    for ours, theirs in zip(weights["train", 10.0], weights["fit", 10.0], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    assert any(np.abs(a - b).max() > 1e-3 for a, b in zip(weights["fit", 0.0], weights["fit", 10.0], strict=True))


def test_the_penalty_makes_attention_dense() -> None:
    x = keras.Input((5, 3))
    layer = FMAttention(2, "static", density_penalty=1.0)
    model = keras.Model(x, layer(x))
    before = float(attention_sparsity(layer.static_attention))
    model.compile(keras.optimizers.Adam(0.05), loss=lambda y, G: 0.0 * G, jit_compile=False)
    rows = np.tile(ROWS[0], (50, 1, 1))  # 50 steps, each on all rows
    model.fit(rows, rows[..., :2], batch_size=len(ROWS[0]), shuffle=False, verbose=0)
    assert float(attention_sparsity(layer.static_attention)) < 0.05 < before


def operations(model: keras.Model, training: bool) -> list[str]:
    import tensorflow as tf

    traced = tf.function(lambda x: model(x, training=training))
    graph = traced.get_concrete_function(tf.TensorSpec((None, 5, 3), tf.float32)).graph
    return [operation.type for operation in graph.get_operations()]


@pytest.mark.tensorflow
def test_no_operation_is_added_without_the_options_nor_in_serving() -> None:
    plain, changed = in_a_model(), in_a_model(density_penalty=1.0, stop_gradient=True)
    assert operations(plain, training=False) == operations(changed, training=False) == operations(plain, training=True)
    assert "StopGradient" in operations(changed, training=True)


def gradient_of_rows(model: keras.Model) -> np.ndarray:
    import tensorflow as tf

    X = tf.constant(ROWS[0])
    with tf.GradientTape() as tape:
        tape.watch(X)
        loss = tf.reduce_sum(model(X, training=True) * random(16, 5, 2))
    return np.asarray(tape.gradient(loss, X))


@pytest.mark.tensorflow
def test_what_passes_through_a_frozen_attention() -> None:
    """With frozen activations dL/dX is that of G = X (X^T Y) with Y given; with frozen weights it is unchanged."""
    import tensorflow as tf

    x = keras.Input((5, 3))
    layer = FMAttention(2, hidden_units=4)
    model = keras.Model(x, layer(x))
    free = gradient_of_rows(model)
    freeze_attention(model, "weights")
    np.testing.assert_array_equal(gradient_of_rows(model), free)
    freeze_attention(model, "activations")
    X = tf.constant(ROWS[0])
    Y = layer.attention(X)
    with tf.GradientTape() as tape:
        tape.watch(X)
        loss = tf.reduce_sum(fm_attention(X, Y) * random(16, 5, 2))
        given = tape.gradient(loss, X)
    np.testing.assert_allclose(gradient_of_rows(model), given, rtol=1e-5, atol=1e-5)
    assert np.abs(free - given).max() > 1e-2


@pytest.mark.tensorflow
@pytest.mark.parametrize(("what", "optimizer"), [("weights", "AdamW"), ("activations", "FlatAdam")])
def test_no_optimizer_touches_a_frozen_attention(what: str, optimizer: str, tmp_path) -> None:
    import tensorflow as tf

    from c2al_tf.losses import weighted_sum_of_tasks
    from c2al_tf.optimizers import FlatAdam
    from c2al_tf.training import train

    model = in_a_model()
    freeze_attention(model, what)
    for _ in range(2):  # and once more as it is loaded
        frozen = [weight for layer in attentions_of(model) for weight in layer.weights]
        others = [weight for weight in model.weights if not any(weight is each for each in frozen)]
        assert {weight.path for weight in model.trainable_weights} == {weight.path for weight in others}
        before = [np.array(weight) for weight in (*frozen, *others)]
        model.compile(FlatAdam(0.1) if optimizer == "FlatAdam" else keras.optimizers.AdamW(0.1))
        train(model, tf.data.Dataset.from_tensors(ROWS).repeat(2), weighted_sum_of_tasks({}), jit_compile=False)
        same = [np.array_equal(a, b) for a, b in zip(before, (*frozen, *others), strict=True)]
        assert all(same[: len(frozen)])
        assert not any(same[len(frozen) :])
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False)
        assert [layer.stop_gradient for layer in attentions_of(loaded)] == [what == "activations"] * 3
        np.testing.assert_array_equal(loaded(ROWS[0])["primary"], model(ROWS[0])["primary"])
        model = loaded


def test_what_cannot_be_frozen() -> None:
    with pytest.raises(ValueError, match=r"`what` must be 'weights' or 'activations'. Received: what='mlp'"):
        freeze_attention(in_a_model(), "mlp")
    x = keras.Input((2,))
    with pytest.raises(ValueError, match=r"`model` must have an FMAttention. Received: a model of \['Dense', 'Input"):
        freeze_attention(keras.Model(x, keras.layers.Dense(1)(x)), "weights")
