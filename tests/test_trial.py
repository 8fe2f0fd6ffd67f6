"""The whole comparison on a subclassed model: paired, repeatable, resumed, and what it says."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from c2al_tf import Axis, Cohort, Guard, Interval, compare, export_for_serving

from .untuned import UNTUNED

ROWS = 1600
OLD = Cohort("old", (Interval("age", low=50.0),))
TRAINED: list[int] = []


class Ranker(keras.Model):
    """A team's own class; counts its trainings."""

    def __init__(self) -> None:
        super().__init__()
        self.lookup = keras.layers.StringLookup(vocabulary=["a", "b"])
        self.table = keras.layers.Embedding(3, 2)
        self.tower = keras.layers.Dense(4, "relu", name="tower")
        self.score = keras.layers.Dense(1)

    def call(self, inputs, training=False):
        city = self.table(self.lookup(inputs["city"]))
        return self.score(self.tower(keras.ops.concatenate([city, inputs["age"][:, None] / 50], axis=1)))


def model_fn(rate: float = 0.1, eagerly: bool = False) -> keras.Model:
    TRAINED.append(1)
    model = Ranker()
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    metrics = [keras.metrics.AUC(from_logits=True)]
    model.compile(keras.optimizers.SGD(rate), loss=loss, metrics=metrics, jit_compile=False, run_eagerly=eagerly)
    return model


def drawn(world: int, weights: bool = False, **shuffle) -> tf.data.Dataset:
    rng = np.random.default_rng(world)
    age = rng.uniform(18, 70, ROWS).astype("float32")
    x = {"age": age, "city": rng.choice(["a", "b"], ROWS), "user": np.arange(ROWS) // 2}
    y = (rng.random(ROWS) < np.where(age >= 50, 0.5, 0.1)).astype("float32")
    parts = (x, y, np.ones(ROWS, "float32")) if weights else (x, y)
    rows = tf.data.Dataset.from_tensor_slices(parts)
    return (rows.shuffle(ROWS, **shuffle) if shuffle else rows).batch(200).with_options(UNTUNED)


def train(seed: int) -> tf.data.Dataset:
    return drawn(0, seed=seed)


# Where a test asks nothing of graphs: one takes longer to trace than two steps do.
EAGER = {"model_fn": lambda: model_fn(eagerly=True), "train": lambda seed: train(seed).take(2)}


def run(**arguments):
    given = {"cohorts": [OLD], "at": "tower", "seeds": 2, "units": "user", "columns": ["age", "user"]}
    given |= {"model_fn": model_fn, "train": train} | arguments
    return compare(given.pop("model_fn"), given.pop("train"), drawn(1), drawn(2, weights=True), **given)


@pytest.fixture(scope="module")
def trial(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trial")
    return folder, run(directory=folder)


def test_arms_are_paired_and_the_table_says_so(trial) -> None:
    _, found = trial
    assert found.discovery is None
    assert set(found.evaluation.ne_diff["c2al"]) == {"all", "old", "rest"}
    assert all(percent != 0 for percent in found.evaluation.ne_diff["c2al"]["all"].by_seed)
    lines = str(found).splitlines()
    assert [line.split("  ")[0] for line in lines[1:4]] == ["all rows    ".rstrip(), "age from 50", "everyone else"]
    assert "2 paired seeds" in lines[-1]
    unheeded = run(**EAGER, weight=0.0)
    assert unheeded.evaluation.ne_diff["c2al"]["all"].by_seed == (0.0, 0.0)  # same start, same rows, same order


def test_the_same_call_goes_on(trial) -> None:
    folder, first = trial
    one = next(folder.glob("c2al_1_*.npz"))
    one.unlink()
    trainings = len(TRAINED)
    again = run(directory=folder)
    assert again.evaluation.ne_diff == first.evaluation.ne_diff
    assert (one.exists(), len(TRAINED) - trainings) == (True, 5)  # one to look at


def test_the_model_without_heads_is_exported(trial, tmp_path) -> None:
    _, found = trial
    sample = {"age": np.array([20.0, 60.0], np.float32), "city": np.array(["a", "?"], object)}
    export = export_for_serving(found.c2al, tmp_path, sample=sample, from_logits=True, reference=found.baseline)
    assert export.facts.variables == export.reference.variables


def test_discovery_finds_the_planted_pair_or_says_why_not() -> None:
    axis = Axis(("age",), edges={"age": (18.0, 50.0, 70.0)})
    loose = Guard(min_positives=10)
    found = run(**EAGER, cohorts=(), axes=[axis], guard=loose, fit={"verbose": 0}, seeds=1)
    assert {str(cohort) for cohort in found.cohorts} == {"age in [18, 50)", "age in [50, 70)"}
    refused = run(**EAGER, cohorts=(), axes=[axis], guard=Guard(min_positives=10_000), seeds=1)
    assert (refused.cohorts, refused.evaluation, refused.c2al) == ((), None, None)
    assert str(refused).startswith("No pair passes the guard: 1 pairs on 1 axes.")


@pytest.mark.parametrize(
    ("other", "what"),
    [
        ({"epochs": 2}, "epochs"),
        ({"train": lambda seed: drawn(9, seed=seed)}, "training rows"),
        ({"weight": 0.2}, "weight"),
        ({"model_fn": lambda: model_fn(0.2)}, "model"),
    ],
)
def test_a_folder_of_another_trial(trial, other, what) -> None:
    with pytest.raises(ValueError, match=f"holds a trial of other arguments.* Received: {{'{what}': "):
        run(directory=trial[0], **other)


def test_callbacks_see_the_same_names_in_each_training() -> None:
    """Keras would number the second model's metrics on; and weights of classes are of both arms."""

    seen = []

    class Seen(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(sorted(name for name in logs if name.startswith("val_")))

    fit = {"callbacks": [Seen()], "validation_data": drawn(1).take(1), "class_weight": {0: 1.0, 1: 2.0}}
    run(**EAGER, seeds=1, fit=fit)
    assert seen == [["val_auc", "val_loss"]] * 2


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="exactly one of `axes` and `cohorts`. Received: axes=\\(\\), cohorts=\\[\\]"):
        run(cohorts=[])
    trainings = len(TRAINED)
    for columns, units in ((["age"], "user"), (["user"], None)):
        with pytest.raises(ValueError, match="No column `(user|age)` in the data"):
            run(columns=columns, units=units)
    with pytest.raises(ValueError, match="must give the rows of a seed in one order"):
        run(train=drawn(0, reshuffle_each_iteration=True))
    assert len(TRAINED) - trainings == 3, "before anything is trained"
    with pytest.raises(ValueError, match="Rows must be a tf.data.Dataset. Received: tuple"):
        run(train=(1, 2))
    shuffled = drawn(1, reshuffle_each_iteration=True)
    with pytest.raises(ValueError, match="The test rows must come in the same order in each pass"):
        compare(*EAGER.values(), shuffled, shuffled, ["age"], cohorts=[OLD], at="tower", seeds=1)
