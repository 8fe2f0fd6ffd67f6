"""Cohort heads beside models of TFRS. `test_tfrs.py` runs these in a process of Keras 2."""

import dataclasses
import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras

import c2al_tf
from c2al_tf import Cohort, Interval
from c2al_tf.integrations.tfrs import CohortTask, FMAttention, RowWiseAdagrad, add_cohort_labels, with_cohort_heads

from ..untuned import UNTUNED

ROWS, BATCH = 200, 40
COHORTS = [Cohort("young", (Interval("age", high=0.0),)), Cohort("old", (Interval("age", low=0.0),))]
NAMES = ["young", "old"]
BCE = tf_keras.losses.BinaryCrossentropy(from_logits=True)


class Tower(tf_keras.layers.Layer):
    """A team's own layer."""

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.dense = tf_keras.layers.Dense(6, "relu", kernel_regularizer="l2")
        self.dropout = tf_keras.layers.Dropout(0.2)

    def call(self, x, training=False):
        return self.dropout(self.dense(x), training=training)


class Rewritten(Tower):
    """Its condition is one that TensorFlow must rewrite."""

    def call(self, x, training=False):
        if tf.reduce_sum(x) > 1e9:
            x = x / 2.0
        return super().call(x, training)


class Ranker(tfrs.Model):
    """As in the tutorials: batches are a dict, from which it takes the label out."""

    def __init__(self) -> None:
        super().__init__()
        self.city = tf_keras.Sequential(
            [tf_keras.layers.StringLookup(vocabulary=["a", "b"], mask_token=None), tf_keras.layers.Embedding(3, 4)]
        )
        self.tower = Tower(name="tower")
        self.score = tf_keras.layers.Dense(1, name="score")
        self.task = tfrs.tasks.Ranking(loss=BCE, metrics=[tf_keras.metrics.BinaryAccuracy(threshold=0.0)])
        self.seen = []

    def call(self, x, training=False):
        return self.score(self.tower(tf.concat([self.city(x["city"]), x["age"][:, None]], axis=1), training=training))

    def compute_loss(self, inputs, training=False):
        self.note(inputs)
        label = inputs.pop("clicked")
        return self.task(label, self(inputs, training=training))

    def note(self, inputs):
        self.seen.append(tf.nest.map_structure(lambda x: (x.dtype.name, *x.shape[1:]), inputs))


class Pairs(Ranker):
    """Its batches are (features, labels, weights)."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = Rewritten(name="tower")

    def compute_loss(self, inputs, training=False):
        self.note(inputs)
        x, y, weight = inputs
        return self.task(y[:, None], self(x, training=training), sample_weight=weight)


class Several(Ranker):
    """Its labels are a dict."""

    def compute_loss(self, inputs, training=False):
        self.note(inputs)
        x, y = inputs
        return self.task(y["clicked"][:, None], self(x, training=training)) + tf.reduce_mean(
            tf.cast(y["seconds"], tf.float32)
        )


class Weighted(Ranker):
    """Its labels and its weights are dicts."""

    def compute_loss(self, inputs, training=False):
        self.note(inputs)
        x, y, weight = inputs
        return self.task(y["clicked"][:, None], self(x, training=training), sample_weight=weight["clicked"])


KEY = {Ranker: "clicked", Pairs: None, Several: None, Weighted: None}


def columns() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    age = rng.normal(size=ROWS).astype("float32")
    return {
        "age": age,
        "city": rng.choice(np.array(["a", "b", "c"]), ROWS),
        "clicked": (rng.random(ROWS) < 1 / (1 + np.exp(-2 * age))).astype("int64"),
        "weight": rng.integers(0, 3, ROWS).astype("float32"),
    }


@functools.cache
def rows(kind) -> tf.data.Dataset:
    x = columns()
    y, weight = x["clicked"], x.pop("weight")
    if kind is not Ranker:
        x.pop("clicked")
    whole = {
        Ranker: x,
        Pairs: (x, y, weight),
        Several: (x, {"clicked": y, "seconds": 9 * y}),
        Weighted: (x, {"clicked": y}, {"clicked": weight}),
    }[kind]
    return tf.data.Dataset.from_tensor_slices(whole).batch(BATCH).with_options(UNTUNED)


@functools.cache
def labelled(kind) -> tf.data.Dataset:
    return add_cohort_labels(rows(kind), COHORTS, label_key=KEY[kind], primary="clicked" if kind is Several else None)


@functools.cache
def trained(kind, weight=None, at="tower"):
    """A model trained as today, or with heads whose losses have a weight; and what was said of the epochs."""
    tf_keras.utils.set_random_seed(1)
    model = fitted = kind()
    if weight is not None:
        fitted = with_cohort_heads(model, at, NAMES, label_key=KEY[kind], weight=weight)
    if kind is Pairs:  # a graph takes longer to trace than these few steps take without
        fitted.compile(optimizer=tf_keras.optimizers.Adagrad(0.1))
    else:
        fitted.compile(optimizer=tf_keras.optimizers.Adam(0.1), run_eagerly=True)
    history = fitted.fit(rows(kind) if weight is None else labelled(kind), epochs=2, verbose=0).history
    return model, fitted, history


def values(model) -> list[np.ndarray]:
    return [variable.numpy() for variable in model.variables]


def equal(a, b) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("kind", [Ranker, Pairs])
def test_weight_0_changes_no_bit(kind) -> None:
    plain, _, expected = trained(kind)
    model, _, history = trained(kind, 0.0)
    assert equal(values(plain), values(model))
    assert {name: history[name] for name in expected} == expected


def test_heads_train_the_model() -> None:
    model, beside, history = trained(Ranker, 0.1)
    assert beside.base is model
    assert not equal(values(trained(Ranker)[0]), values(model))
    assert history["young_loss"][-1] < history["young_loss"][0]
    assert equal(values(trained(Ranker, 0.1, at=None)[0]), values(model)), "the last hidden layer is found"


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("kind", KEY)
def test_the_model_reads_the_batches_that_it_had(kind, training) -> None:
    model = kind()
    beside = with_cohort_heads(model, "tower", NAMES, label_key=KEY[kind])
    model.note(next(iter(rows(kind))))
    beside.compute_loss(next(iter(labelled(kind))), training=training)
    before, now = model.seen
    assert before == now


def test_weights_by_task_are_the_cohorts_own() -> None:
    x, labels, weights = next(iter(labelled(Weighted)))
    beside = with_cohort_heads(Weighted(), "tower", NAMES)
    beside.compute_loss((x, labels, {**weights, "young": tf.zeros(BATCH)}), training=True)
    young, old = (float(metric.result()) for metric in beside.cohort_task.cohort_losses.values())
    assert young == 0 < old
    with pytest.raises(ValueError, match=r"weights of training rows .* Received: weights without \['old', 'young'\]"):
        beside.compute_loss((x, labels, {"clicked": weights["clicked"]}), training=True)


def test_what_the_model_would_not_get_back_is_refused() -> None:
    x, y, weight = next(iter(rows(Pairs)))
    for parts in (({"primary": y},), (y, {"primary": weight})):
        with pytest.raises(ValueError, match="whose only key is 'primary'"):
            add_cohort_labels(tf.data.Dataset.from_tensors((x, *parts)), COHORTS)
    data = add_cohort_labels(tf.data.Dataset.from_tensors((x, y, weight)), COHORTS, design="masked")
    model = Pairs()
    with_cohort_heads(model, "tower", NAMES).compute_loss(next(iter(data)), training=True)
    model.note((x, y, weight))
    assert model.seen[0] == model.seen[1]


def test_evaluation_and_predictions_are_those_of_the_model() -> None:
    model, beside, history = trained(Ranker, 0.1)
    model.compile(run_eagerly=True)
    expected = model.evaluate(rows(Ranker), return_dict=True, verbose=0)
    assert {*expected} == {*history} - {"young_loss", "old_loss"}
    for dataset in (rows(Ranker), labelled(Ranker)):
        assert beside.evaluate(dataset, return_dict=True, verbose=0) == expected
    x = {name: columns()[name] for name in ("age", "city")}
    np.testing.assert_array_equal(beside.predict(x, verbose=0), model.predict(x, verbose=0))


def test_what_came_for_the_cohorts_is_no_input_of_the_export(tmp_path) -> None:
    """The tutorial's form: the label of the cohorts and their columns are items beside those that the model reads."""

    class Tutorial(Ranker):
        def compute_loss(self, x, training=False):
            y = x.pop("clicked")  # the model's own label
            return self.task(y[:, None], self(x, training=training))

    more = rows(Ranker).map(lambda x: {**x, "liked": x["clicked"], "region": x["age"]})
    cohorts = [Cohort(cohort.name, (dataclasses.replace(cohort.conditions[0], column="region"),)) for cohort in COHORTS]
    model = Tutorial()
    beside = with_cohort_heads(model, "tower", NAMES, label_key="liked", without=["liked", "region"])
    beside.compile(optimizer=tf_keras.optimizers.Adagrad(0.1), run_eagerly=True)
    beside.fit(add_cohort_labels(more, cohorts, label_key="liked"), verbose=0)
    beside.evaluate(rows(Ranker), verbose=0)  # today's rows, which have no such label
    tf.saved_model.save(model, str(tmp_path))
    signature = tf.saved_model.load(str(tmp_path)).signatures["serving_default"].structured_input_signature[1]
    assert {*signature} == {"age", "city"}


def test_a_compiled_model_needs_no_second_compile() -> None:
    model = Ranker()
    model.compile(optimizer=tf_keras.optimizers.Adagrad(0.25), run_eagerly=True)
    beside = with_cohort_heads(model, "tower", NAMES, label_key="clicked")
    assert beside.optimizer is not model.optimizer
    assert float(beside.optimizer.learning_rate) == 0.25
    assert beside.run_eagerly
    beside.fit(labelled(Ranker).take(1), verbose=0)


def test_the_export_has_nothing_of_the_cohorts(tmp_path) -> None:
    model, beside, _ = trained(Ranker, 0.1)
    assert not any("call" in vars(layer) for layer in model._flatten_layers()), "recorded calls"
    assert len(beside.variables) == len(model.variables) + len(beside.cohort_task.variables)
    tf.saved_model.save(beside.base, str(tmp_path / "1"))
    stored = tf.train.list_variables(str(tmp_path / "1" / "variables" / "variables"))
    others = ("keras_api/metrics", "optimizer", "save_counter", "_CHECKPOINTABLE")
    sizes = [np.prod(shape, dtype=int) for name, shape in stored if not name.startswith(others)]
    assert sum(sizes) == model.count_params()
    loaded = tf.saved_model.load(str(tmp_path / "1"))
    x = {name: tf.constant(values) for name, values in columns().items() if name in ("age", "city")}
    np.testing.assert_allclose(loaded(x), model(x), rtol=1e-6)


class WithTask(Ranker):
    """A team calls the task in its own `compute_loss`."""

    def __init__(self) -> None:
        super().__init__()
        self.cohorts = CohortTask(NAMES, weight=0.1, name="cohort_task")

    def compute_loss(self, inputs, training=False):
        labels = {name: inputs.pop(name) for name in NAMES}
        label = inputs.pop("clicked")
        h = self.tower(tf.concat([self.city(inputs["city"]), inputs["age"][:, None]], axis=1), training=training)
        loss = self.task(label, self.score(h))
        return loss + self.cohorts(h, labels) if training else loss


def test_the_task_within_a_model_trains_as_beside_it(tmp_path) -> None:
    beside, _, expected = trained(Ranker, 0.1)
    tf_keras.utils.set_random_seed(1)
    model = WithTask()
    model.compile(optimizer=tf_keras.optimizers.Adam(0.1), run_eagerly=True)
    history = model.fit(labelled(Ranker), epochs=2, verbose=0).history
    assert history["young_loss"] == expected["young_loss"]
    del model.cohorts
    assert equal(values(model), values(beside))


@pytest.mark.parametrize("hidden_units", [(), (5,), (5, 2)])
def test_the_loss_of_the_task(hidden_units) -> None:
    """By hand: log(1 + exp(-z)) of positives, log(1 + exp(z)) of negatives, under the rows' weights; its gradient."""
    priors = {"young": 0.2}
    task = CohortTask(NAMES, {"young": 0.5, "old": 2.0}, hidden_units, priors)
    h, y = tf.random.stateless_normal((4, 3), (0, 0)), {"young": [1.0, 0, 0, 1], "old": [[0.0], [1], [0], [1]]}
    np.testing.assert_allclose(task.logits(0 * h)[0], [np.log(0.2 / 0.8), 0], rtol=1e-6)
    weight = tf.constant([1.0, 0, 2, 1])
    labels = {name: tf.constant(values) for name, values in y.items()}

    def by_hand(weight):
        signs = tf.stack([2 * tf.reshape(labels[name], (-1,)) - 1 for name in NAMES], axis=1)
        means = tf.reduce_sum(weight[:, None] * tf.math.softplus(-signs * task.logits(h)), 0) / tf.reduce_sum(weight)
        return 0.5 * means[0] + 2.0 * means[1]

    for given, weights in ((None, tf.ones(4)), (weight, weight), ({"young": weight, "old": weight[:, None]}, weight)):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(h)
            found, expected = task(h, labels, given), by_hand(weights)
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        variables = [h, *task.trainable_variables]
        for a, b in zip(tape.gradient(found, variables), tape.gradient(expected, variables), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    assert CohortTask.from_config(task.get_config()).get_config() == task.get_config()
    with pytest.raises(ValueError, match=r"must name every cohort.*labels without \['old'\]"):
        task(h, {"young": labels["young"]})


def test_a_head_reads_no_other() -> None:
    """The logits of a cohort depend on its own layers, whose initial values depend on its name and the seed alone."""
    h = tf.random.stateless_normal((4, 3), (0, 0))
    for hidden_units in ((), (5,), (5, 2)):
        tf_keras.utils.set_random_seed(1)
        both, one = CohortTask(NAMES, hidden_units=hidden_units), CohortTask(["old"], hidden_units=hidden_units)
        np.testing.assert_allclose(both.logits(h)[:, 1:], one.logits(h), rtol=1e-6)


def test_logits_are_float32_in_mixed_precision() -> None:
    for hidden_units in ((), (5,)):
        task = CohortTask(NAMES, hidden_units=hidden_units, dtype="mixed_bfloat16")
        h = tf.ones((4, 3), tf.bfloat16)
        loss = task(h, dict.fromkeys(NAMES, tf.ones(4)))
        assert (loss.dtype, task.logits(h).dtype) == (tf.float32, tf.float32)
        assert task.first(h).dtype == (tf.bfloat16 if hidden_units else tf.float32)
        assert {variable.dtype for variable in task.trainable_variables} == {tf.float32}


def test_heads_of_another_seed_start_elsewhere() -> None:
    def logits(seed):
        tf_keras.utils.set_random_seed(seed)
        return CohortTask(NAMES).logits(tf.ones((1, 3)))[0].numpy().tolist()

    assert logits(1) == logits(1)
    assert len({*logits(1), *logits(2)}) == 4


def test_interactions_of_fields() -> None:
    """The layer of Keras 3 with the same weights gives the same numbers; the file of a model gives them again."""
    X = np.random.default_rng(0).normal(size=(5, 4, 3)).astype("float32")
    ours, keras_3 = FMAttention(2, hidden_units=6), c2al_tf.FMAttention(2, hidden_units=6)
    keras_3(X)
    ours.build(X.shape)
    ours.set_weights([np.array(weight) for weight in keras_3.weights])
    np.testing.assert_allclose(ours(X), keras_3(X), rtol=1e-5, atol=1e-6)
    assert ours.compute_output_shape(X.shape) == (5, 4, 2)
    assert FMAttention.from_config(ours.get_config()).get_config() == ours.get_config()
    x = tf_keras.Input((4, 3))
    symbolic = tf_keras.Model(x, FMAttention(2, name="fm")(x))
    assert symbolic.output_shape == (None, 4, 2)
    with pytest.raises(ValueError, match="must be at least 1. Received: num_outputs=0"):
        FMAttention(0)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_rows_are_updated_as_in_keras_3(jit_compile) -> None:
    """A table that is summed as a whole, one of which occurrences are, and a bias."""
    rng = np.random.default_rng(0)
    starts = [rng.normal(size=shape).astype("float32") for shape in [(6, 3), (50, 3), (3,)]]
    ours, keras_3 = [tf.Variable(x) for x in starts], [keras.Variable(x) for x in starts]
    optimizer, reference = RowWiseAdagrad(0.5), c2al_tf.RowWiseAdagrad(0.5)
    optimizer.build(ours)
    reference.build(keras_3)

    @tf.function(jit_compile=jit_compile)
    def step(ids, gradients):
        slices = [tf.IndexedSlices(g, i) for g, i in zip(gradients[:2], ids, strict=True)]
        optimizer.apply_gradients(zip([*slices, gradients[2]], ours, strict=True))
        reference.apply([*slices, gradients[2]], keras_3)

    for _ in range(5):
        ids = [2 * rng.integers(0, rows // 2, 20).astype("int32") for rows in (6, 50)]
        arguments = (ids, [rng.normal(size=(20, 3)).astype("float32") for _ in ids] + [np.ones(3, "float32")])
        step(*arguments)
    operations = step.get_concrete_function(*arguments).graph.get_operations()
    assert not any(operation.type.startswith("Unique") for operation in operations), "Keras's own way"
    for found, expected, start in zip(ours, keras_3, starts, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        assert not np.array_equal(found, start)
    np.testing.assert_array_equal(ours[1][1::2], starts[1][1::2])
    assert [variable.shape for variable in optimizer.variables if "accumulator" in variable.name] == [
        (6, 1),
        (50, 1),
        3,
    ]


def test_the_optimizer_trains_and_says_its_arguments() -> None:
    model = Ranker()
    model.compile(optimizer=RowWiseAdagrad(0.1, clipnorm=1.0), run_eagerly=True)
    history = model.fit(rows(Ranker), epochs=3, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    config = model.optimizer.get_config()
    assert RowWiseAdagrad.from_config(config).get_config() == config
    for wrong in ({"weight_decay": 0.1}, {"use_ema": True}):
        with pytest.raises(ValueError, match="may change rows that no batch touched"):
            RowWiseAdagrad(**wrong)
    with pytest.raises(ValueError, match="`initial_accumulator_value` must be at least 0"):
        RowWiseAdagrad(initial_accumulator_value=-1.0)


class TwoScores(Ranker):
    def __init__(self) -> None:
        super().__init__()
        self.gate = tf_keras.layers.Dense(1, name="gate")

    def call(self, x, training=False):
        return super().call(x, training) + self.gate(x["age"][:, None])


class Compiled(Ranker):
    @tf.function
    def call(self, x, training=False):
        return super().call(x, training)


class OwnStep(Ranker):
    def train_step(self, data):
        return super().train_step(data)


@pytest.mark.parametrize(
    ("kind", "at", "message"),
    [
        (TwoScores, None, r"None needs .* one Dense layer of its shape. Received: .* 2 calls: \['score', 'gate'\]"),
        (Ranker, "city", "of 0 layers; there are .*'tower'"),
        (Ranker, "task", "of 0 layers"),
        (Compiled, "tower", "outside of a `tf.function`"),
        (OwnStep, "tower", "`CohortTask` in its `compute_loss`.* OwnStep with its own train_step"),
    ],
)
def test_a_place_that_is_none(kind, at, message) -> None:
    with pytest.raises(ValueError, match=message):
        beside = with_cohort_heads(kind(), at, NAMES, label_key="clicked")
        beside.compute_loss(next(iter(labelled(Ranker))), training=True)


def test_what_is_no_model_of_tfrs() -> None:
    with pytest.raises(ValueError, match="`model` must be a `tfrs.Model`. Received: .*Sequential"):
        with_cohort_heads(tf_keras.Sequential(), None, NAMES)
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        model = Ranker()
    model._distribution_strategy = type("Two", (), {"num_replicas_in_sync": 2})()
    with pytest.raises(ValueError, match="on one device. Received: a model of 2 devices"):
        with_cohort_heads(model, "tower", NAMES)
    with pytest.raises(ValueError, match="taken: .*clicked"):
        with_cohort_heads(Ranker(), "tower", ["clicked"], label_key="clicked")


def test_batches_of_another_form() -> None:
    with pytest.raises(ValueError, match=r"a dict alone with `label_key`.* Received: label_key=None"):
        add_cohort_labels(rows(Ranker), COHORTS)
    with pytest.raises(ValueError, match=r"`click`|'click'"):
        add_cohort_labels(rows(Ranker), COHORTS, label_key="click")
    with pytest.raises(ValueError, match="Every task needs a name of its own"):
        add_cohort_labels(rows(Ranker), [Cohort("age", COHORTS[0].conditions)], label_key="clicked")
    beside = with_cohort_heads(Ranker(), "tower", NAMES, label_key="clicked")
    with pytest.raises(ValueError, match="must be one dict with the label 'clicked'. Received: tuple"):
        beside.compute_loss(next(iter(labelled(Pairs))), training=True)
    with pytest.raises(ValueError, match=r"labels without \['old', 'young'\]"):
        beside.compute_loss(next(iter(rows(Ranker))), training=True)
