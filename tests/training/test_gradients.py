"""What a step assigns, against a float64 derivative of each task's loss apart."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from c2al_tf.losses import weighted_sum_of_tasks
from c2al_tf.objectives import ProjectedTasks
from c2al_tf.training import compile_step
from c2al_tf.types import Array

ROWS, IDS, DIM, UNITS = 16, 7, 3, 5
LAMBDAS = {"young": 0.7, "old": 0.4}
TASKS = ("primary", *LAMBDAS)
REGULARIZER = 0.02
HEAD_REGULARIZER = 0.03


def make_model(rate: float = 1.0) -> keras.Model:
    """Two lookups in one table, a hidden layer, a head for each task; one shared and one head's kernel regularized."""
    keras.utils.set_random_seed(0)
    inputs = {name: keras.Input((2,), dtype="int32", name=name) for name in ("first", "second")}
    table = keras.layers.Embedding(IDS, DIM, name="table")
    h = keras.layers.Flatten()(keras.layers.Concatenate(axis=1)([table(inputs["first"]), table(inputs["second"])]))
    l2 = keras.regularizers.L2
    h = keras.layers.Dense(UNITS, "tanh", name="hidden", kernel_regularizer=l2(REGULARIZER))(h)
    outputs = {}
    for task in TASKS:
        regularizer = l2(HEAD_REGULARIZER) if task == "young" else None
        outputs[task] = keras.layers.Dense(1, name=task, kernel_regularizer=regularizer)(h)
    model = keras.Model(inputs, outputs)
    model.compile(keras.optimizers.SGD(rate))
    for weight in model.weights:  # so that gradients are not small
        weight.assign(np.random.default_rng(1).normal(0, 0.5, weight.shape))
    return model


def batch() -> tuple[dict[str, Array], dict[str, Array], Array]:
    rng = np.random.default_rng(0)
    x = {name: rng.integers(0, IDS, (ROWS, 2)).astype("int32") for name in ("first", "second")}
    y = {task: rng.integers(0, 2, (ROWS, 1)).astype("float32") for task in TASKS}
    return x, y, rng.random(ROWS).astype("float32")


def reference(model: keras.Model) -> dict[str, list[Array | None]]:
    """By task the gradient of lambda_t L_t, with NumPy's float64 weights and TensorFlow's derivative."""
    x, y, weight = batch()
    table, *dense = [tf.Variable(value.astype("float64")) for value in model.get_weights()]
    names = [weight.path.split("/")[0] for weight in model.weights[3::2]]  # Keras sorts the heads
    hidden, heads = dense[:2], dict(zip(names, zip(dense[2::2], dense[3::2], strict=True), strict=True))
    found: dict[str, list[Array | None]] = {}
    for task in TASKS:
        with tf.GradientTape() as tape:
            looked_up = tf.concat([tf.gather(table, x["first"]), tf.gather(table, x["second"])], axis=1)
            h = tf.tanh(tf.reshape(looked_up, (ROWS, -1)) @ hidden[0] + hidden[1])
            logits = (h @ heads[task][0] + heads[task][1])[:, 0]
            losses = tf.nn.sigmoid_cross_entropy_with_logits(y[task][:, 0].astype("float64"), logits)
            w = weight.astype("float64")
            loss = LAMBDAS.get(task, 1.0) * tf.reduce_sum(w * losses) / w.sum()
            if task == TASKS[0]:
                loss += REGULARIZER * tf.reduce_sum(hidden[0] ** 2)
        gradients = tape.gradient(loss, [table, *dense])
        found[task] = [None if g is None else tf.convert_to_tensor(g).numpy() for g in gradients]
    return found


def step_of(objective, jit_compile: bool, model: keras.Model | None = None) -> tuple[list[Array], float]:
    """What one step of SGD with rate 1 subtracts from each weight, and the loss."""
    model = model or make_model()
    before = model.get_weights()
    loss, _ = compile_step(model, objective, jit_compile)(*tf.nest.map_structure(tf.constant, batch()))
    return [old - new for old, new in zip(before, model.get_weights(), strict=True)], float(loss)


def combined(part: str) -> list[Array]:
    """The gradient by the formula: in the shared weights along g_pri or orthogonal to it, the heads' own elsewhere."""
    by_task = reference(make_model())
    primary = by_task["primary"]
    dense = slice(1, 3)  # the hidden layer's kernel and bias
    flat = {task: np.concatenate([g.ravel() for g in gradients[dense]]) for task, gradients in by_task.items()}
    result = []
    for index, own in enumerate(zip(*by_task.values(), strict=True)):
        gradient = sum(g for g in own if g is not None) if index > 2 else primary[index].copy()
        for task in LAMBDAS if index <= 2 else ():
            along = flat[task] @ flat["primary"] / (flat["primary"] @ flat["primary"])
            g_par = along * primary[index]
            gradient += g_par if part == "parallel" else by_task[task][index] - g_par
        result.append(gradient)
    young = make_model().get_layer("young").kernel
    (index,) = (i for i, weight in enumerate(make_model().weights) if weight.path == young.path)
    result[index] += 2 * HEAD_REGULARIZER * np.array(young)
    return result


def assert_close(ours: list[Array], expected: list[Array]) -> None:
    assert len(ours) == len(expected)
    for g, e in zip(ours, expected, strict=True):
        assert np.linalg.norm(g - e) <= 1e-5 * np.linalg.norm(e)


@pytest.mark.parametrize(("part", "jit_compile"), [("parallel", False), ("orthogonal", True)])
def test_a_part_of_the_auxiliary_gradients(part: str, jit_compile: bool) -> None:
    gradients, loss = step_of(ProjectedTasks(LAMBDAS, part), jit_compile)
    assert_close(gradients, combined(part))
    assert loss == pytest.approx(step_of(weighted_sum_of_tasks(LAMBDAS), False)[1], rel=1e-6)


def test_the_parts_add_up_to_the_whole() -> None:
    parallel, orthogonal = (step_of(ProjectedTasks(LAMBDAS, part), False)[0] for part in ("parallel", "orthogonal"))
    whole, _ = step_of(weighted_sum_of_tasks(LAMBDAS), False)
    primary = reference(make_model())["primary"]
    shared = slice(0, 3)
    sums = [a + b for a, b in zip(parallel[shared], orthogonal[shared], strict=True)]
    assert_close(sums, [w + p for w, p in zip(whole[shared], primary[shared], strict=True)])


class Recorded(keras.optimizers.SGD):
    """Keeps the gradients that it is given."""

    def apply(self, grads, trainable_variables=None):
        self.given = list(grads)
        super().apply(grads, trainable_variables)


def test_a_table_gets_one_slice_an_occurrence_as_without_combining() -> None:
    """Rules that square each occurrence, as Adagrad's of a table, need it."""
    sizes = {}
    for objective in (weighted_sum_of_tasks(LAMBDAS), ProjectedTasks(LAMBDAS, "orthogonal")):
        model = make_model()
        model.compile(Recorded(1.0))
        step_of(objective, False, model)
        assert isinstance(model.optimizer.given[0], tf.IndexedSlices)
        sizes[type(objective)] = model.optimizer.given[0].values.shape
    assert set(map(tuple, sizes.values())) == {(4 * ROWS, DIM)}


class Sum:
    """The plain sum as a combination, which knows the inner products that it was given."""

    def __init__(self, lambdas) -> None:
        self.whole = weighted_sum_of_tasks(lambdas)
        self.terms, self.gram = self.whole.terms, None

    def __call__(self, labels, logits, weights):
        return self.whole(labels, logits, weights)

    def combine(self, gram):
        self.gram = gram
        return tf.ones(gram.shape[0])


def test_tasks_that_look_other_rows_up() -> None:
    """`left` reaches one lookup, `both` two: their slices stand apart, and the sum is right."""
    inputs = {name: keras.Input((2,), dtype="int32", name=name) for name in ("first", "second")}
    table = keras.layers.Embedding(IDS, DIM)
    one, other = (keras.layers.Flatten()(table(each)) for each in inputs.values())
    outputs = {"left": keras.layers.Dense(1)(one), "both": keras.layers.Dense(1)(keras.layers.Add()([one, other]))}
    model = keras.Model(inputs, outputs)
    x, y, weight = batch()
    y = {"left": y["primary"], "both": y["young"]}
    start = model.get_weights()
    results = []
    for objective in (weighted_sum_of_tasks({"both": 0.5}), Sum({"both": 0.5})):
        model.compile(keras.optimizers.SGD(1.0))
        model.set_weights(start)
        compile_step(model, objective, jit_compile=False)(*tf.nest.map_structure(tf.constant, (x, y, weight)))
        results.append(model.get_weights())
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_the_scale_of_the_loss_does_not_matter() -> None:
    """The inner products are of the gradients without it."""
    model = make_model()
    model.compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(1.0), initial_scale=2.0**10))

    class Bounded(Sum):
        def combine(self, gram):
            return tf.concat([1 / gram[:1, 0], tf.zeros(gram.shape[0] - 1)], axis=0)

    scaled, _ = step_of(Bounded(LAMBDAS), False, model)
    plain, _ = step_of(Bounded(LAMBDAS), False)
    assert_close(scaled[:3], plain[:3])


def test_a_primary_gradient_of_zero_has_no_part_along_it() -> None:
    gram = np.array([[0.0, 0.0], [0.0, 4.0]], "float32")
    np.testing.assert_array_equal(ProjectedTasks({}, "orthogonal").combine(gram), [1, 1])
    np.testing.assert_array_equal(ProjectedTasks({}, "parallel").combine(gram), [1, 0])
