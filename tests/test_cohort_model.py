"""Heads around models of every form: they train, and the model is what it was but for its weights."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from c2al_tf import Cohort, Interval, add_cohort_heads, add_cohort_labels, with_cohort_heads

from .untuned import UNTUNED

ROWS, BATCH = 240, 24
COHORTS = [Cohort("young", (Interval("age", high=0.0),)), Cohort("old", (Interval("age", low=0.0),))]
NAMES = ["young", "old"]
BCE = keras.losses.BinaryCrossentropy(from_logits=True, reduction="mean_with_sample_weight")


@keras.saving.register_keras_serializable(package="tests")
class Tower(keras.layers.Layer):
    """A team's own layer, which holds layers."""

    def __init__(self, units: int, **kwargs) -> None:
        super().__init__(**kwargs)
        self.units = units
        self.inner = keras.layers.Dense(units, "relu", name="inner")

    def build(self, shape) -> None:
        self.inner.build(shape)

    def call(self, x):
        return self.inner(x)


@keras.saving.register_keras_serializable(package="tests")
class Ranker(keras.Model):
    """A team's own class: strings are looked up within, layers are called in Python."""

    def __init__(self, units: int = 6, **kwargs) -> None:
        super().__init__(**kwargs)
        self.units = units
        self.lookup = keras.layers.StringLookup(vocabulary=["a", "b", "c"])
        self.table = keras.layers.Embedding(4, 3)
        self.tower = Tower(units, name="tower")
        self.dropout = keras.layers.Dropout(0.2, seed=1)
        self.score = keras.layers.Dense(1, name="score")

    def call(self, inputs, training=False):
        city = self.table(self.lookup(inputs["city"]))
        h = self.tower(keras.ops.concatenate([city, inputs["age"][:, None], inputs["weeks"][:, None]], axis=1))
        return self.score(self.dropout(h, training=training))

    def get_config(self):
        return super().get_config() | {"units": self.units}


@keras.saving.register_keras_serializable(package="tests")
class OwnLoss(Ranker):
    """Its loss is its own, and so is what it counts."""

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.seen = keras.metrics.Mean(name="seen")

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return 2.0 * BCE(y, y_pred, sample_weight)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        self.seen.update_state(y)
        return {"seen": self.seen.result()}


def inputs(*names: str) -> dict:
    return {name: keras.Input((), name=name, dtype="string" if name == "city" else "float32") for name in names}


def functional() -> keras.Model:
    x = inputs("age", "weeks")
    h = keras.layers.Dense(6, "relu", name="tower")(keras.ops.stack(list(x.values()), axis=1))
    return keras.Model(x, keras.layers.Dense(1, name="score")(keras.layers.Dropout(0.0)(h)))


def nested() -> keras.Model:
    within = keras.Sequential([keras.Input((2,)), keras.layers.Dense(6, "relu", name="tower")], name="within")
    x = inputs("age", "weeks")
    return keras.Model(x, keras.layers.Dense(1, name="score")(within(keras.ops.stack(list(x.values()), axis=1))))


def with_lookup() -> keras.Model:
    x = inputs("age", "city")
    city = keras.layers.Embedding(4, 3)(keras.layers.StringLookup(vocabulary=["a", "b", "c"])(x["city"]))
    h = keras.layers.Dense(6, "relu", name="tower")(keras.layers.Concatenate()([city, x["age"][:, None]]))
    return keras.Model(x, keras.layers.Dense(1, name="score")(h))


MODELS = {"functional": functional, "nested": nested, "lookup": with_lookup, "subclass": Ranker, "own loss": OwnLoss}


def rows(*names: str) -> tf.data.Dataset:
    rng = np.random.default_rng(0)
    x = {name: rng.normal(size=ROWS).astype("float32") for name in ("age", "weeks")}
    x["city"] = rng.choice(np.array(["a", "b", "d"]), ROWS)
    y = (rng.random(ROWS) < 1 / (1 + np.exp(-2 * x["age"]))).astype("float32")[:, None]
    weight = rng.integers(0, 3, ROWS).astype("float32")
    dataset = tf.data.Dataset.from_tensor_slices(({name: x[name] for name in names}, y, weight))
    return dataset.batch(BATCH).with_options(UNTUNED)


def columns_of(name: str) -> tuple[str, ...]:
    return {"functional": ("age", "weeks"), "nested": ("age", "weeks"), "lookup": ("age", "city")}.get(
        name, ("age", "city", "weeks")
    )


def made(name: str, eagerly: bool = False) -> tuple[keras.Model, tf.data.Dataset]:
    """Eagerly, and of three batches, where a graph shows nothing more: it takes as long to trace as many steps."""
    keras.utils.set_random_seed(0)
    model, dataset = MODELS[name](), rows(*columns_of(name)).take(3 if eagerly else -1)
    model(next(iter(dataset))[0])
    auc = keras.metrics.AUC(from_logits=True, name="auc")
    own = name == "own loss"  # Keras itself cannot have compiled metrics that the class does not update
    options = {"jit_compile": False, "run_eagerly": eagerly}
    model.compile(keras.optimizers.SGD(0.5), None if own else BCE, metrics=None if own else [auc], **options)
    return model, dataset


def without_dropout(model: keras.Model) -> None:
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0


def values(model: keras.Model) -> list[np.ndarray]:
    return [np.array(weight) for weight in model.weights]


@pytest.mark.parametrize("name", MODELS)
def test_heads_train_the_model_and_leave_its_form(name, tmp_path) -> None:
    model, dataset = made(name)
    config, shapes = model.get_config(), [(w.path, tuple(w.shape)) for w in model.weights]
    before = model.predict(dataset, verbose=0)
    with_heads = with_cohort_heads(model, "tower", NAMES, weight={"young": 0.3, "old": 0.2})
    np.testing.assert_array_equal(with_heads.predict(dataset, verbose=0), before)
    history = with_heads.fit(add_cohort_labels(dataset, COHORTS), epochs=3, shuffle=False, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    assert history["young_loss"][-1] < history["young_loss"][0]
    assert with_heads.base is model
    assert model.get_config() == config
    assert [(w.path, tuple(w.shape)) for w in model.weights] == shapes
    assert not any("call" in vars(layer) for layer in model._flatten_layers())
    model.save(tmp_path / "today.keras")
    loaded = keras.saving.load_model(tmp_path / "today.keras")
    assert type(loaded) is type(model)
    after = model.predict(dataset, verbose=0)
    assert np.abs(after - before).max() > 0.01
    np.testing.assert_allclose(loaded.predict(dataset, verbose=0), after, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["functional", "subclass", "own loss"])
def test_with_weight_0_the_model_trains_as_without_heads_to_the_bit(name) -> None:
    model, dataset = made(name)
    expected = model.fit(dataset, epochs=2, shuffle=False, verbose=0).history
    plain, (model, dataset) = values(model), made(name)
    with_heads = with_cohort_heads(model, "tower", NAMES, weight=0.0)
    history = with_heads.fit(add_cohort_labels(dataset, COHORTS), epochs=2, shuffle=False, verbose=0).history
    for key in set(expected) - {"loss"}:
        assert history[key] == expected[key], key
    for ours, theirs in zip(values(model), plain, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("name", ["functional", "subclass", "own loss"])
def test_with_a_weight_above_0_the_model_trains_otherwise(name) -> None:
    trained = []
    for weight in (0.0, 0.5):
        model, dataset = made(name, eagerly=True)
        with_heads = with_cohort_heads(model, "tower", NAMES, weight=weight)
        with_heads.fit(add_cohort_labels(dataset, COHORTS), shuffle=False, verbose=0)
        trained.append(values(model))
    assert any(not np.array_equal(a, b) for a, b in zip(*trained, strict=True))


def alike(model: keras.Model, beside: keras.Model, one_graph: keras.Model, labelled: tf.data.Dataset, **losses) -> None:
    """Asserts that both forms, from the same initial values, train a model alike, to the rounding of sums."""
    beside(next(iter(labelled))[0])
    for name in NAMES:
        beside.heads[name].set_weights(one_graph.get_layer(f"task_{name}").get_weights())
    tasks = [*losses, *NAMES]
    weights = losses | dict.fromkeys(NAMES, 0.3)
    options = {"jit_compile": False, "run_eagerly": beside.run_eagerly}
    one_graph.compile(keras.optimizers.SGD(0.5), loss=dict.fromkeys(tasks, BCE), loss_weights=weights, **options)
    initial = values(model)
    beside.fit(labelled, epochs=2, shuffle=False, verbose=0)
    ours = values(model)
    model.set_weights(initial)
    one_graph.fit(labelled, epochs=2, shuffle=False, verbose=0)
    for a, b in zip(ours, values(model), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("design", ["conflict", "masked"])
def test_the_functional_form_trains_alike(design) -> None:
    model, dataset = made("functional", eagerly=True)
    beside, one_graph = with_cohort_heads(model, "tower", NAMES, weight=0.3), add_cohort_heads(model, "tower", NAMES)
    alike(model, beside, one_graph, add_cohort_labels(dataset, COHORTS, design=design), primary=1.0)


@pytest.mark.parametrize("name", ["functional", "subclass"])
def test_evaluation_is_the_models_own_with_and_without_labels_of_cohorts(name) -> None:
    model, dataset = made(name, eagerly=name == "subclass")
    with_heads = with_cohort_heads(model, "tower", NAMES)
    with_heads.fit(add_cohort_labels(dataset, COHORTS), validation_data=dataset, epochs=1, shuffle=False, verbose=0)
    model.compile("sgd", loss=BCE, metrics=[keras.metrics.AUC(from_logits=True, name="auc")], jit_compile=False)
    expected = model.evaluate(dataset, verbose=0, return_dict=True)
    for given in (dataset, add_cohort_labels(dataset, COHORTS)):
        assert with_heads.evaluate(given, verbose=0, return_dict=True) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", ["functional", "subclass"])
def test_it_goes_on_from_a_file_as_one_that_was_not_saved(name, tmp_path) -> None:
    model, dataset = made(name, eagerly=True)
    labelled = add_cohort_labels(dataset, COHORTS)
    with_heads = with_cohort_heads(model, "tower", NAMES, weight=0.3, priors={"young": 0.2})
    with_heads.compile(keras.optimizers.Adam(0.1), loss=BCE, jit_compile=False, run_eagerly=True)
    without_dropout(model)  # whose generator is another after loading
    with_heads.fit(labelled, shuffle=False, verbose=0)
    with_heads.save(tmp_path / "training.keras")
    loaded = keras.saving.load_model(tmp_path / "training.keras")
    without_dropout(loaded.base)
    for each in (with_heads, loaded):
        each.fit(labelled, shuffle=False, verbose=0)
    for ours, theirs in zip(values(loaded), values(with_heads), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_with_xla() -> None:
    model, dataset = made("functional")
    with_heads = with_cohort_heads(model, "tower", NAMES)
    with_heads.compile("sgd", loss=BCE, jit_compile=True)
    history = with_heads.fit(add_cohort_labels(dataset, COHORTS), epochs=2, shuffle=False, verbose=0).history
    assert history["loss"][1] < history["loss"][0]


@pytest.mark.parametrize("outputs", ["list", "dict"])
def test_several_outputs(outputs) -> None:
    keras.utils.set_random_seed(0)
    x = inputs("age", "weeks")
    h = keras.layers.Dense(6, "relu", name="tower")(keras.ops.stack(list(x.values()), axis=1))
    heads = {name: keras.layers.Dense(1, name=name)(h) for name in ("click", "buy")}
    model = keras.Model(x, heads if outputs == "dict" else list(heads.values()))
    losses = {"click": BCE, "buy": BCE} if outputs == "dict" else [BCE, BCE]
    model.compile(keras.optimizers.SGD(0.5), loss=losses, jit_compile=False, run_eagerly=True)
    labelled = rows("age", "weeks").take(3).map(lambda x, y, w: (x, {"click": y, "buy": tf.cast(w > 0, tf.float32)}))
    labelled = add_cohort_labels(labelled, COHORTS, primary="click")
    with pytest.raises(ValueError, match="None needs a model of one output"):
        with_cohort_heads(model, None, NAMES)(next(iter(labelled))[0], training=True)
    beside, one_graph = with_cohort_heads(model, "tower", NAMES, weight=0.3), add_cohort_heads(model, "tower", NAMES)
    alike(model, beside, one_graph, labelled, click=1.0, buy=1.0)


@pytest.mark.parametrize("name", ["functional", "subclass"])
def test_a_layer_its_name_and_none_are_the_same_place(name) -> None:
    losses = []
    for at in ("tower", "layer", None):
        model, dataset = made(name, eagerly=True)
        layer = next(layer for layer in model._flatten_layers() if layer.name == "tower")
        with_heads = with_cohort_heads(model, layer if at == "layer" else at, NAMES)
        without_dropout(model)  # what the last Dense reads is behind it
        with_heads(next(iter(dataset))[0])
        for head in with_heads.heads.values():
            head.set_weights([np.full(weight.shape, 0.1) for weight in head.get_weights()])
        losses.append(with_heads.fit(add_cohort_labels(dataset, COHORTS), verbose=0, shuffle=False).history)
    assert losses[0] == losses[1]
    assert losses[0]["old_loss"] == pytest.approx(losses[2]["old_loss"], rel=1e-5)


def test_a_tensor_of_a_functional_model() -> None:
    model, dataset = made("functional", eagerly=True)
    assert with_cohort_heads(model, model.get_layer("tower").output, NAMES).at == "tower"
    with_heads = with_cohort_heads(model, model.get_layer("tower").input, NAMES)  # an operation gives it, no layer
    assert with_heads.at.startswith("stack")
    with_heads.fit(add_cohort_labels(dataset, COHORTS), shuffle=False, verbose=0)


def test_a_subclass_that_was_never_called_trains_as_without_heads() -> None:
    """Its `call` knows nothing of training: then Keras trains without dropout. Its weights have the paths of today."""

    class Untold(keras.Model):
        def __init__(self) -> None:
            super().__init__(name="untold")
            self.tower, self.score = Tower(6, name="tower"), keras.layers.Dense(1, name="score")
            self.dropout = keras.layers.Dropout(0.2, seed=1)

        def call(self, inputs):
            return self.score(self.dropout(self.tower(inputs["age"][:, None])))

    trained = []
    for heads in (False, True):
        keras.utils.set_random_seed(0)
        model, dataset = Untold(), rows("age")
        model.compile(keras.optimizers.SGD(0.5), BCE, jit_compile=False)
        if heads:
            with_cohort_heads(model, "tower", NAMES, weight=0.0).fit(
                add_cohort_labels(dataset, COHORTS), shuffle=False, verbose=0
            )
        else:
            model.fit(dataset, shuffle=False, verbose=0)
        trained.append(({weight.path for weight in model.weights}, values(model)))
    assert trained[0][0] == trained[1][0]
    for plain, zero in zip(trained[0][1], trained[1][1], strict=True):
        np.testing.assert_array_equal(plain, zero)


def test_outputs_by_name_of_a_label_without_one() -> None:
    """The shared layer is not called where a column is missing: inference takes another way, before training too."""

    class Two(OwnLoss):
        def call(self, inputs, training=False):
            logit = {"score": super().call(inputs, training=training)} if "weeks" in inputs else {}
            return logit | {"city": self.table(self.lookup(inputs["city"]))}

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            return BCE(y, y_pred["score"], sample_weight)

    model, dataset = Two(), rows("age", "city", "weeks")
    model(next(iter(dataset))[0])
    model.compile(keras.optimizers.SGD(0.5), jit_compile=False)
    with_heads = with_cohort_heads(model, "tower", NAMES)
    assert [*with_heads.predict({"city": tf.constant(["a", "b"])}, verbose=0)] == ["city"]
    history = with_heads.fit(add_cohort_labels(dataset, COHORTS), epochs=2, shuffle=False, verbose=0).history
    assert history["loss"][1] < history["loss"][0]


def test_compiled_as_it_was() -> None:
    """With what Keras cannot read from a config: nothing here is registered."""

    class Rate(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            return 0.5

        def get_config(self):
            return {}

    def loss(y, logits):
        return keras.ops.mean(keras.ops.softplus(logits) - y * logits, axis=-1)

    class Positives(keras.metrics.Sum):
        def update_state(self, y, y_pred, sample_weight=None):
            super().update_state(y)

    model, dataset = made("functional")
    model.compile(keras.optimizers.SGD(Rate()), loss, metrics=[Positives(name="positives")], jit_compile=True)
    with_heads = with_cohort_heads(model, "tower", NAMES)
    assert with_heads.optimizer is not model.optimizer
    assert (with_heads.optimizer.learning_rate, with_heads.jit_compile) == (0.5, True)
    with_heads.jit_compile = False
    history = with_heads.fit(add_cohort_labels(dataset, COHORTS), epochs=2, shuffle=False, verbose=0).history
    assert history["loss"][1] < history["loss"][0]
    assert history["positives"] == [sum(float(tf.reduce_sum(y)) for _, y, _ in dataset)] * 2


def test_row_weights_by_task_are_those_of_a_list_of_outputs() -> None:
    """As `fit` without heads has them by place."""
    trained = []
    for heads in (False, True):
        keras.utils.set_random_seed(0)
        x = inputs("age", "weeks")
        h = keras.layers.Dense(6, "relu", name="tower")(keras.ops.stack(list(x.values()), axis=1))
        model = keras.Model(x, [keras.layers.Dense(1, name=name)(h) for name in ("click", "buy")])
        losses = {"click": BCE, "buy": "mse"}
        model.compile(keras.optimizers.SGD(0.5), losses, jit_compile=False, run_eagerly=True)
        if heads:
            model = with_cohort_heads(model, "tower", NAMES, weight=0.0)
            by_name = rows("age", "weeks").map(lambda x, y, w: (x, {"click": y, "buy": y}, {"click": w, "buy": 2 - w}))
            dataset = add_cohort_labels(by_name, COHORTS, primary="click")
        else:
            dataset = rows("age", "weeks").map(lambda x, y, w: (x, (y, y), (w, 2 - w)))
        model.fit(dataset.take(3), verbose=0, shuffle=False)
        trained.append(values(model.base if heads else model))
    for plain, zero in zip(*trained, strict=True):
        np.testing.assert_array_equal(plain, zero)


def test_inputs_are_cast_by_the_model_alone() -> None:
    """In half precision 2021 and 2023 are one number."""
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        x = keras.Input((1,), name="id")
        h = keras.layers.Dense(4, name="tower")(keras.layers.Flatten()(keras.layers.Embedding(3000, 3)(x)))
        model = keras.Model({"id": x}, keras.layers.Dense(1, dtype="float32")(h))
        ids = {"id": np.array([[2021.0], [2023.0], [257.0]], np.float32)}
        beside = with_cohort_heads(model, "tower", NAMES)
        np.testing.assert_array_equal(beside.predict(ids, verbose=0), model.predict(ids, verbose=0))
    finally:
        keras.config.set_dtype_policy("float32")


def test_what_the_model_counts_in_its_loss_is_said_by_epoch() -> None:
    class Counts(Ranker):
        def __init__(self) -> None:
            super().__init__()
            self.gap = keras.metrics.Sum(name="gap")

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            self.gap.update_state(keras.ops.ones_like(y))
            return BCE(y, y_pred, sample_weight)

    with_heads = with_cohort_heads(Counts(), "tower", NAMES)
    with_heads.compile("sgd", jit_compile=False, run_eagerly=True)
    dataset = add_cohort_labels(rows("age", "city", "weeks").take(3), COHORTS)
    history = with_heads.fit(dataset, epochs=2, shuffle=False, verbose=0).history
    assert history["gap"] == [3 * BATCH, 3 * BATCH]
    assert {"loss", "gap", "young_loss", "old_loss"} == set(history)


def test_predictions_of_its_own() -> None:
    class Probabilities(Ranker):
        def predict_step(self, data):
            return keras.ops.sigmoid(super().predict_step(data))

    dataset = rows("age", "city", "weeks")
    model = Probabilities()
    model(next(iter(dataset))[0])
    found = with_cohort_heads(model, "tower", NAMES).predict(dataset, verbose=0)
    np.testing.assert_array_equal(found, model.predict(dataset, verbose=0))
    assert found.min() > 0


def test_the_models_file_has_nothing_of_the_cohorts(tmp_path) -> None:
    """Its optimizer, too, is what it was: a file of it loads without a word."""
    model, dataset = made("own loss", eagerly=True)
    model.compile(keras.optimizers.Adam(0.01), jit_compile=False, run_eagerly=True)
    model.fit(dataset, shuffle=False, verbose=0)
    moments = [np.array(variable) for variable in model.optimizer.variables]
    with_cohort_heads(model, "tower", NAMES).fit(add_cohort_labels(dataset, COHORTS), shuffle=False, verbose=0)
    model.save(tmp_path / "today.keras")
    loaded = keras.saving.load_model(tmp_path / "today.keras")
    for found, expected in zip(loaded.optimizer.variables, moments, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_call_that_was_set_on_a_layer_stays() -> None:
    model, dataset = made("functional")
    tower = model.get_layer("tower")
    call = tower.call
    object.__setattr__(tower, "call", lambda x, **mode: 100 + call(x, **mode))
    model.compile(jit_compile=False, run_eagerly=True)
    before = model.predict(dataset, verbose=0)
    beside = with_cohort_heads(model, "tower", NAMES)
    np.testing.assert_array_equal(beside.predict(dataset, verbose=0), before)
    np.testing.assert_array_equal(model.predict(dataset, verbose=0), before)


@pytest.mark.parametrize("method", ["train_step", "test_step", "fit"])
def test_a_model_that_trains_in_its_own_way_is_refused(method) -> None:
    own = type("Own", (Ranker,), {method: lambda self, *args, **kwargs: {}})
    with pytest.raises(ValueError, match=rf"to `compute_loss\(.*Received: Own with its own {method}"):
        with_cohort_heads(own(), "tower", NAMES)


def test_several_devices_are_refused() -> None:
    model = functional()
    model._distribute_strategy = type("Two", (), {"num_replicas_in_sync": 2})()
    with pytest.raises(ValueError, match="must be trained on one device.*Received: a model of 2 devices"):
        with_cohort_heads(model, "tower", NAMES)


@pytest.mark.parametrize("at", ["tower", None])
def test_a_quantized_layer(at) -> None:
    """Also where it is the last: another Dense layer of its shape is not taken for it."""
    x = keras.Input((3,))
    tower, score = keras.layers.Dense(4, name="tower"), keras.layers.Dense(1)
    model = keras.Model(x, score(tower(keras.layers.Dense(3, name="first")(x))))
    (tower if at else score).quantize("int8")
    beside = with_cohort_heads(model, at, ["young"])
    rows = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")
    with tf.GradientTape() as tape:
        logits = beside(rows, training=True)["cohort_logits"]["young"]
    expected = beside.heads["young"](tower(model.get_layer("first")(rows)))
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-6)
    assert tape.gradient(logits, model.get_layer("first").kernel) is not None


@pytest.mark.parametrize("at", ["anew", None])
def test_a_layer_that_keras_computes_anew(at) -> None:
    x = keras.Input((3,))
    with keras.RematScope("full"):
        anew = keras.layers.Dense(1, name="anew")
    model = keras.Model(x, anew(x))
    with pytest.raises(ValueError, match="`at` must not mean a layer that Keras computes anew"):
        with_cohort_heads(model, at, NAMES)(np.zeros((2, 3), "float32"), training=True)


@pytest.mark.parametrize(
    ("at", "message"),
    [
        ("towr", r"`at` must be a layer of the model.*Received: 'towr', of 0 layers; there are \[.*'inner'.*'tower'"),
        (keras.layers.Dense(3, name="another"), "Received: 'another', of 0 layers"),
        ("table", r"`at` must name a layer that gives one tensor \(batch, units\).*`table`, which gives .*6, 3"),
        ("shared", "`at` must name a layer that the model calls once.*`shared`, of which there are 2 calls"),
        (None, "a Dense layer that gives the output, of which there are 2 calls"),
    ],
)
def test_a_place_that_is_none(at, message) -> None:
    x = keras.Input((6,), dtype="int32", name="ids")
    shared = keras.layers.Dense(4, name="shared")
    h = keras.layers.Flatten()(keras.layers.Embedding(9, 3, name="table")(x))
    tower = keras.layers.Dense(6, name="tower")
    tower.inner = keras.layers.Dense(2, name="inner")
    deep = keras.layers.Concatenate()([shared(h), shared(-h), tower(h)])
    model = keras.Model(x, keras.layers.Add()([keras.layers.Dense(1)(deep), keras.layers.Dense(1)(h)]))
    with pytest.raises(ValueError, match=message):
        with_cohort_heads(model, at, NAMES)(np.zeros((2, 6), "int32"), training=True)


def test_two_layers_of_one_name() -> None:
    class Twice(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.towers = [keras.layers.Dense(3, name="tower") for _ in range(2)]

    model = Twice()
    with pytest.raises(ValueError, match="Received: 'tower', of 2 layers"):
        with_cohort_heads(model, "tower", NAMES)
    with pytest.raises(ValueError, match="of a name that no other has. Received: 'tower', of 2 layers"):
        with_cohort_heads(model, model.towers[0], NAMES)


def test_training_rows_without_labels_of_the_cohorts() -> None:
    model, dataset = made("functional")
    with pytest.raises(ValueError, match=r"must name every cohort.*labels without \['old', 'young'\]"):
        with_cohort_heads(model, "tower", NAMES).fit(dataset, shuffle=False, verbose=0)


@pytest.mark.parametrize("weight", [-1.0, float("nan"), {"young": 1.0}, {"young": 1.0, "old": 1.0, "x": 1.0}])
def test_bad_weights(weight) -> None:
    with pytest.raises(ValueError, match="`weight` must be at least 0, for each of"):
        with_cohort_heads(functional(), "tower", NAMES, weight=weight)


def test_what_is_no_model_of_keras_3() -> None:
    with pytest.raises(ValueError, match="`model` must be a model of Keras 3. Received: builtins.dict"):
        with_cohort_heads({}, None, NAMES)
