"""`train` says what `keras.Model.fit` says: weights, moving statistics, losses and metrics after 20 steps."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from c2al_tf.cohorts import Cohort, Values
from c2al_tf.data.inputs.labelled_dataset import add_cohort_labels
from c2al_tf.losses import weighted_sum_of_tasks
from c2al_tf.training import evaluate, predict, train

from ..untuned import UNTUNED

BATCH, STEPS, INPUTS = 32, 20, 5
LOSS = {"from_logits": True, "reduction": "mean_with_sample_weight"}
WITHOUT_XLA, WITH_XLA = 1e-6, 1e-5


class AddsToTheLoss(keras.layers.Layer):
    """Adds a number that depends on the batch."""

    def call(self, x):
        self.add_loss(0.3 * keras.ops.mean(keras.ops.square(x)))
        return x


def one_output(*layers: keras.layers.Layer) -> keras.Model:
    x = keras.Input((INPUTS,), name="x")
    h = keras.layers.Dense(7, "relu")(x)
    for layer in layers:
        h = layer(h)
    return keras.Model(x, keras.layers.Dense(1, name="click")(h))


def plain() -> keras.Model:
    return one_output()


def at_once() -> keras.Model:
    """All that adds to a gradient."""
    regularizer = keras.regularizers.L2(1.0)
    added = AddsToTheLoss(), keras.layers.ActivityRegularization(l2=0.1)
    return one_output(*added, keras.layers.Dense(6, kernel_regularizer=regularizer), keras.layers.BatchNormalization())


def dropping() -> keras.Model:
    return one_output(keras.layers.Dropout(0.5, seed=3))


def sgd() -> keras.optimizers.Optimizer:
    return keras.optimizers.SGD(0.1, momentum=0.9)


def clipped() -> keras.optimizers.Optimizer:
    return keras.optimizers.SGD(0.5, global_clipnorm=0.02)


def rows(weights: bool = False) -> tf.data.Dataset:
    """Four columns more or less at random: (x, y) or (x, y, weight)."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(BATCH * STEPS, INPUTS)).astype("float32")
    y = (rng.random(BATCH * STEPS) < 1 / (1 + np.exp(-x[:, 0]))).astype("float32")
    given = (x, y[:, np.newaxis], rng.integers(0, 4, BATCH * STEPS).astype("float32"))
    return tf.data.Dataset.from_tensor_slices(given if weights else given[:2]).batch(BATCH).with_options(UNTUNED)


# A graph takes longer to trace, and XLA far longer to compile, than all steps take, so one model has several of the
# cases: an error in any of them would change its weights.
CASES = {
    "plain": (plain, sgd, {}, False),
    "adam": (plain, lambda: keras.optimizers.Adam(0.01), {}, False),
    "at once": (at_once, sgd, {}, False),
    "dropout": (dropping, sgd, {}, False),
    "clipping": (plain, clipped, {}, False),
    "class weights": (plain, sgd, {"class_weight": {0: 1.0, 1: 5.0}}, False),
    "sample weights": (plain, sgd, {}, True),
}
# Class weights are left out: they are applied to the rows before a step.
WITH_XLA_CASES = {"clipping": CASES["clipping"], "at once": (at_once, sgd, {}, True)}


def both(case: tuple, jit_compile: bool) -> tuple[tuple, tuple]:
    """A model and its history, by `fit` and by `train`."""
    build, optimizer, arguments, weights = case
    results = []
    for by in ("fit", "train"):
        keras.utils.set_random_seed(1)
        model = build()
        metrics = {
            "metrics": [keras.metrics.AUC(from_logits=True, name="auc")],
            "weighted_metrics": [keras.metrics.BinaryAccuracy(threshold=0.0, name="accuracy")],
        }
        if jit_compile or not (weights or arguments):
            metrics = {}  # They take longer to build than all steps; a test below has them with XLA.
        model.compile(optimizer(), loss=keras.losses.BinaryCrossentropy(**LOSS), jit_compile=jit_compile, **metrics)
        if by == "fit":
            history = model.fit(rows(weights), verbose=0, shuffle=False, **arguments).history
            results.append((model, {name: values[0] for name, values in history.items()}))
        else:
            ours = train(model, rows(weights), weighted_sum_of_tasks(), jit_compile=jit_compile, **arguments)
            results.append((model, ours.epochs[0]))
    return tuple(results)


def largest_difference(model: keras.Model, other: keras.Model) -> float:
    pairs = zip(model.weights, other.weights, strict=True)
    return max(float(np.max(np.abs(np.asarray(a) - np.asarray(b)))) for a, b in pairs)


@pytest.mark.parametrize("case", CASES)
def test_without_xla(case) -> None:
    (fitted, theirs), (trained, ours) = both(CASES[case], jit_compile=False)
    assert largest_difference(fitted, trained) <= WITHOUT_XLA
    # `fit` weighs the loss of a batch by its rows, and all batches are equal here.
    assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5)
    for name in set(theirs) - {"loss"}:
        assert ours[name] == pytest.approx(theirs[name], rel=1e-6), name


@pytest.mark.parametrize("case", ["clipping", pytest.param("at once", marks=pytest.mark.slow)])
def test_with_xla(case) -> None:
    (fitted, theirs), (trained, ours) = both(WITH_XLA_CASES[case], jit_compile=True)
    assert largest_difference(fitted, trained) <= WITH_XLA
    assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-4)


def two_tasks(jit_compile: bool = False, metrics: bool = False) -> keras.Model:
    """A model of columns by name, with a head for the cohort `far`; with metrics, which take long to build."""
    keras.utils.set_random_seed(1)
    a, b = keras.Input((), name="age"), keras.Input((), name="weeks")
    h = keras.layers.Dense(4, "relu")(keras.ops.stack([a, b], axis=1))
    model = keras.Model(
        {"age": a, "weeks": b}, {task: keras.layers.Dense(1, name=f"task_{task}")(h) for task in ("primary", "far")}
    )
    auc = {task: [keras.metrics.AUC(from_logits=True, name="auc")] for task in ("primary", "far")}
    accuracy = {"far": [keras.metrics.BinaryAccuracy(threshold=0.0, name="accuracy")]}
    bce = keras.losses.BinaryCrossentropy(**LOSS)
    model.compile(
        keras.optimizers.SGD(0.1),
        loss={"primary": bce, "far": bce},
        loss_weights={"primary": 1.0, "far": 0.3},
        metrics=auc if metrics else None,
        weighted_metrics=accuracy if metrics else None,
        jit_compile=jit_compile,
    )
    return model


def columns(batch: int = BATCH, num_batches: int = STEPS) -> tf.data.Dataset:
    """Batches of columns, one of them (`city`) not an input of the model, and of strings."""
    rng = np.random.default_rng(2)
    size = batch * num_batches
    x = {name: rng.normal(size=size).astype("float32") for name in ("age", "weeks")}
    x["b_city"] = rng.choice(np.array(["far", "near"]), size)
    y = (rng.random(size) < 0.4).astype("int64")
    weight = rng.random(size).astype("float32")
    return tf.data.Dataset.from_tensor_slices((x, y, weight)).batch(batch).with_options(UNTUNED)


FAR = Cohort("far", (Values("b_city", ("far",)),))
OBJECTIVE = weighted_sum_of_tasks({"far": 0.3})


def without_city(x, y, weight):
    return {"age": x["age"], "weeks": x["weeks"]}, y, weight


@pytest.mark.parametrize("jit_compile", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_what_add_cohort_labels_gives_is_taken(jit_compile) -> None:
    """With a column more, of strings, which the model does not read; labels as integers, (batch,)."""
    labelled = add_cohort_labels(columns(), [FAR])
    fitted = two_tasks(jit_compile, metrics=True)
    theirs = fitted.fit(labelled.map(without_city), verbose=0, shuffle=False).history
    trained = two_tasks(metrics=True)
    ours = train(trained, labelled, OBJECTIVE, jit_compile=jit_compile, validation=labelled).epochs[0]
    assert largest_difference(fitted, trained) <= (WITH_XLA if jit_compile else WITHOUT_XLA)
    for name in ("primary_auc", "far_auc", "far_accuracy"):
        assert ours[name] == pytest.approx(theirs[name][0], abs=1e-4 if jit_compile else 1e-6), name
    expected = fitted.evaluate(labelled.map(without_city), verbose=0, return_dict=True)
    for name in ("primary_auc", "far_auc", "far_accuracy"):
        assert ours[f"val_{name}"] == pytest.approx(expected[name], abs=1e-4 if jit_compile else 1e-6), name


def test_a_column_more_is_not_read_by_position() -> None:
    """Keras feeds a dict with one column more by sorted position: `weeks` would get `b_extra`."""
    more = columns().map(lambda x, y, w: ({"age": x["age"], "b_extra": x["age"] * 100, "weeks": x["weeks"]}, y, w))
    model = two_tasks()
    expected = np.concatenate([model({k: x[k] for k in ("age", "weeks")})["primary"] for x, *_ in columns()])[:, 0]
    np.testing.assert_allclose(predict(model, more, BATCH * STEPS), expected, rtol=1e-5, atol=1e-6)
    metrics = [evaluate(model, rows) for rows in (more, columns())]
    assert metrics[0] == metrics[1]


def test_an_input_less() -> None:
    less = columns().map(lambda x, y, w: ({"age": x["age"]}, y, w))
    with pytest.raises(
        ValueError, match=r"must have every input of the model. Received: \['age'\], without \['weeks'\]"
    ):
        train(two_tasks(), less, OBJECTIVE)


def test_tasks_without_labels_have_no_compiled_metrics() -> None:
    metrics = evaluate(two_tasks(metrics=True), columns(), jit_compile=False)
    assert sorted(metrics) == ["primary_auc", "primary_loss", "primary_ne"]


def test_steps_per_epoch_of_a_dataset_go_on_where_the_epoch_before_stopped() -> None:
    """As in `fit`: the second epoch sees rows that the first did not."""
    arguments = {"epochs": 3, "steps_per_epoch": 4}
    fitted, trained, by_two = two_tasks(), two_tasks(), two_tasks()
    labelled = add_cohort_labels(columns().repeat(), [FAR])
    fitted.fit(labelled.map(without_city), verbose=0, shuffle=False, **arguments)
    train(trained, labelled, OBJECTIVE, jit_compile=False, **arguments)
    assert largest_difference(fitted, trained) <= WITHOUT_XLA
    train(by_two, labelled, OBJECTIVE, jit_compile=False, steps_per_execution=3, **arguments)
    assert largest_difference(by_two, trained) == 0


def test_an_epoch_of_unknown_length_ends_with_its_rows() -> None:
    labelled = add_cohort_labels(columns(), [FAR])
    unknown = labelled.filter(lambda *_: True)
    assert int(unknown.cardinality()) == tf.data.UNKNOWN_CARDINALITY
    known_model, unknown_model = two_tasks(), two_tasks()
    known = train(known_model, labelled, OBJECTIVE, epochs=2, jit_compile=False)
    ours = train(unknown_model, unknown, OBJECTIVE, epochs=2, jit_compile=False)
    assert largest_difference(known_model, unknown_model) == 0
    assert known.epochs == ours.epochs
    assert len(ours.epochs) == 2
    with pytest.raises(ValueError, match="Epoch 0 must have `steps_per_epoch` batches. Received: 0 of at least 1"):
        train(two_tasks(), unknown.take(0), OBJECTIVE, jit_compile=False)
    with pytest.raises(ValueError, match="An endless dataset needs `steps_per_epoch`"):
        train(two_tasks(), labelled.repeat(), OBJECTIVE)


def test_a_resumed_run_has_the_metrics_of_the_whole_epoch(tmp_path) -> None:
    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 45:
                raise KeyboardInterrupt

    labelled = add_cohort_labels(columns(num_batches=50), [FAR])
    whole, resumed = two_tasks(metrics=True), two_tasks(metrics=True)
    expected = train(whole, labelled, OBJECTIVE, jit_compile=False)
    arguments = {"checkpoints": tmp_path, "checkpoint_steps": 20, "jit_compile": False}
    with pytest.raises(KeyboardInterrupt):
        train(resumed, labelled, OBJECTIVE, callbacks=[Stop()], **arguments)
    again = two_tasks(metrics=True)
    history = train(again, labelled, OBJECTIVE, **arguments)
    assert largest_difference(whole, again) == 0
    assert history.epochs == expected.epochs


def test_a_weight_for_each_task() -> None:
    def by_task(x, y, weight):
        return x, y, {"primary": weight, "far": 1 - weight}

    labelled = add_cohort_labels(columns(), [FAR]).map(by_task)
    fitted, trained = two_tasks(), two_tasks()
    fitted.fit(labelled.map(without_city), verbose=0, shuffle=False)
    history = train(trained, labelled, OBJECTIVE, jit_compile=False)
    assert largest_difference(fitted, trained) <= WITHOUT_XLA
    assert history.epochs[0]["far_ne"] > 0
    short = add_cohort_labels(columns(), [FAR]).map(lambda x, y, weight: (x, y, {"primary": weight}))
    with pytest.raises(ValueError, match="must name every task: give `far` the weights of the primary task"):
        train(two_tasks(), short, OBJECTIVE, jit_compile=False)


@pytest.mark.parametrize("label", [5.0, -1.0, float("nan")])
@pytest.mark.parametrize("by", ["train", "function", "evaluate"])
def test_ratings_are_no_labels(label, by) -> None:
    """They would be taken as 0 and 1, and NE would be NaN."""
    rated = columns().map(lambda x, y, w: (x, {"primary": tf.fill((BATCH, 1), label), "far": tf.zeros((BATCH, 1))}, w))
    with pytest.raises(tf.errors.InvalidArgumentError, match=rf"Label `primary` must be 0 or 1.*{label:g}"):
        if by == "evaluate":
            evaluate(two_tasks(), rated)
        else:
            train(two_tasks(), rated if by == "train" else lambda epoch, skip: rated, OBJECTIVE)


def test_labels_of_several_columns() -> None:
    wide = columns().map(lambda x, y, w: (x, {"primary": tf.zeros((BATCH, 3)), "far": tf.zeros((BATCH, 1))}, w))
    with pytest.raises(ValueError, match=r"Label `primary` must have shape \(batch,\) or \(batch, 1\)"):
        train(two_tasks(), wide, OBJECTIVE)


def small_batches(size: int = 10, batch: int = 4) -> tf.data.Dataset:
    """Batches of 4, 4 and 2 rows, (x, y)."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(size, INPUTS)).astype("float32")
    y = np.arange(size)[:, np.newaxis] % 2
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(batch).with_options(UNTUNED)


def sequential(**arguments) -> keras.Model:
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((INPUTS,)), keras.layers.Dense(3, "relu"), keras.layers.Dense(1)])
    loss = keras.losses.BinaryCrossentropy(**LOSS)
    model.compile(**({"optimizer": sgd(), "loss": loss, "jit_compile": False} | arguments))
    return model


@pytest.mark.parametrize(
    "arguments",
    [
        {"metrics": ["accuracy", keras.metrics.F1Score(threshold=0.5)]},
        {"optimizer": keras.optimizers.SGD(0.5, use_ema=True, ema_momentum=0.9)},
    ],
)
def test_a_sequential_with_a_smaller_last_batch(arguments) -> None:
    """Averaged weights, losses weighted by rows, metrics that are vectors, the loss on validation rows."""
    rows, settings = small_batches(), {"epochs": 3}
    fresh = [{name: _copy(value) for name, value in arguments.items()} for _ in range(3)]
    fitted, trained, by_three = (sequential(**each) for each in fresh)
    theirs = fitted.fit(rows, validation_data=rows, verbose=0, shuffle=False, **settings).history
    ours = train(trained, rows, weighted_sum_of_tasks(), validation=rows, jit_compile=False, **settings)
    assert largest_difference(fitted, trained) <= WITHOUT_XLA
    for name, values in theirs.items():
        np.testing.assert_allclose([epoch[name] for epoch in ours.epochs], values, rtol=1e-5)
    train(by_three, rows, weighted_sum_of_tasks(), steps_per_execution=3, jit_compile=False, **settings)
    assert largest_difference(by_three, trained) <= WITHOUT_XLA


def _copy(value):
    if isinstance(value, list):
        return [_copy(item) for item in value]
    return value if isinstance(value, str) else type(value).from_config(value.get_config())


def test_a_model_compiled_anew_has_its_new_metrics() -> None:
    model = sequential(metrics=[keras.metrics.BinaryAccuracy(threshold=0.0)])
    first = evaluate(model, small_batches(), jit_compile=False)["binary_accuracy"]
    model.compile("sgd", metrics=[keras.metrics.BinaryAccuracy(threshold=0.0)])
    assert evaluate(model, small_batches(), jit_compile=False)["binary_accuracy"] == first > 0


def test_training_stops_at_the_batch_at_which_it_is_told_to() -> None:
    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = batch == 1

    model = sequential()
    history = train(model, small_batches(), weighted_sum_of_tasks(), epochs=3, callbacks=[Stop()], jit_compile=False)
    assert len(history.epochs) == 1
    assert int(model.optimizer.iterations) == 2


def test_early_stopping_finds_its_metric() -> None:
    stop = keras.callbacks.EarlyStopping(min_delta=100.0, patience=1)
    rows = small_batches()
    history = train(
        sequential(), rows, weighted_sum_of_tasks(), epochs=9, validation=rows, callbacks=[stop], jit_compile=False
    )
    assert len(history.epochs) == 2


def test_class_weights_of_soft_labels_and_of_the_models_first_task() -> None:
    """Keras rounds; the order of the labels' dict says nothing."""
    soft = tf.data.Dataset.from_tensor_slices((np.ones((8, INPUTS), "float32"), np.full(8, 0.9, "float32"))).batch(4)
    weights = {0: 0.0, 1: 5.0}
    history = train(sequential(), soft, weighted_sum_of_tasks(), class_weight=weights, jit_compile=False)
    assert history.epochs[0]["primary_loss"] > 0
    losses = []
    for order in (("primary", "far"), ("far", "primary")):
        labelled = add_cohort_labels(columns(), [FAR]).map(
            lambda x, y, w, order=order: (x, {t: y[t] for t in order}, w)
        )
        history = train(two_tasks(), labelled, OBJECTIVE, class_weight={0: 1.0, 1: 3.0}, jit_compile=False)
        losses.append(history.epochs[0]["loss"])
    assert losses[0] == losses[1]


def test_rows_without_an_end_are_not_evaluated() -> None:
    with pytest.raises(ValueError, match="The rows of an evaluation must end.*Received: an endless dataset"):
        evaluate(sequential(), small_batches().repeat())


def test_a_model_that_is_not_compiled() -> None:
    model = one_output()
    with pytest.raises(ValueError, match="must be compiled with an optimizer"):
        train(model, rows(), weighted_sum_of_tasks())
    with pytest.raises(ValueError, match=r"`task` must be one of the model's, \['primary'\]. Received: task='click'"):
        predict(model, rows(), 10, task="click")


def test_a_sigmoid_output_is_refused() -> None:
    x = keras.Input((INPUTS,), name="x")
    model = keras.Model(x, keras.layers.Dense(1, "sigmoid")(x))
    model.compile("sgd")
    with pytest.raises(ValueError, match="Output `primary` must be logits, .* Received: probabilities of layer"):
        train(model, rows(), weighted_sum_of_tasks())


@pytest.mark.parametrize(
    "weights", [{0: 1.0}, {0: 1.0, 1: -1.0}, {0: 1.0, 1: float("nan")}, {0: 1.0, 1: float("inf")}, {0: 1, 1: 1, 2: 1}]
)
def test_bad_class_weights(weights) -> None:
    with pytest.raises(ValueError, match="`class_weight` must give the classes 0 and 1 a finite weight"):
        train(two_tasks(), add_cohort_labels(columns(), [FAR]), OBJECTIVE, class_weight=weights)


def test_a_validation_figure_that_is_nan_is_said_and_never_the_best() -> None:
    """Rows of one label have no NE."""
    one_label = columns().map(lambda x, y, w: (x, tf.zeros_like(y), w))
    labelled = add_cohort_labels(columns(), [FAR])
    opened: list[int] = []

    def validation() -> tf.data.Dataset:
        opened.append(len(opened))
        return one_label if opened[-1] in (0, 8) else columns()

    model = two_tasks()
    model.compile(keras.optimizers.SGD(0.5))
    with pytest.warns(UserWarning, match=r"Epoch [08]: val_primary_ne must be numbers. Received: NaN"):
        history = train(model, labelled, OBJECTIVE, epochs=9, validation=validation, patience=2, jit_compile=False)
    values = [epoch["val_primary_ne"] for epoch in history.epochs]
    assert np.isnan(values[0])
    assert evaluate(model, columns(), jit_compile=False)["primary_ne"] == pytest.approx(np.nanmin(values), rel=1e-6)


def test_patience_ends_a_run_whose_validation_is_always_nan() -> None:
    one_label = columns().map(lambda x, y, w: (x, tf.zeros_like(y), w))
    labelled = add_cohort_labels(columns(), [FAR])
    with pytest.warns(UserWarning, match="Such an epoch is never the best one"):
        history = train(two_tasks(), labelled, OBJECTIVE, epochs=9, validation=one_label, patience=3, jit_compile=False)
    assert len(history.epochs) == 3
