"""Exports of models that know no schema: their own lookups, a function before them, a subclass, today's signature."""

import functools
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf

from c2al_tf import add_cohort_heads, with_cohort_heads
from c2al_tf.export import export_for_serving
from c2al_tf.export.facts import ExportError
from c2al_tf.export.reading import by_model
from c2al_tf.saved_model import SavedModel

CITIES = ["a", "b", "c"]
MODULE_LOOKUP = keras.layers.StringLookup(vocabulary=CITIES)
ROWS = {"city": np.array(["a", "c", "never seen", "b"], object), "age": np.array([20.0, 41.5, 60.0, 33.0])}


@keras.saving.register_keras_serializable(package="tests")
class Ranker(keras.Model):
    """A team's own class, which looks strings up within, and has one name longer than another's."""

    def __init__(self, hidden: str = "hidden", **kwargs) -> None:
        super().__init__(**kwargs)
        self.lookups = {"city": keras.layers.StringLookup(vocabulary=CITIES)}  # a dict, as many teams have them
        self.table = keras.layers.Embedding(4, 3, embeddings_initializer="normal")
        self.hidden = keras.layers.Dense(4, "relu", name=hidden)
        self.score = keras.layers.Dense(1, name="score")

    def call(self, inputs, training=False):
        city = self.table(self.lookups["city"](inputs["city"]))
        return self.score(self.hidden(keras.ops.concatenate([city, inputs["age"][:, None] / 50], axis=1)))


def functional(ending: str | None = None) -> keras.Model:
    """Reads ids, as Keras names its tensors, and a list of inputs."""
    city, age = keras.Input((), dtype="int32", name="city_id"), keras.Input((), name="age")
    h = keras.layers.Embedding(4, 3, embeddings_initializer="normal")(city)
    h = keras.layers.Dense(4, "relu", name="tower")(keras.layers.Concatenate()([h, age[:, None]]))
    return keras.Model([city, age], keras.layers.Dense(1, ending, name="click")(h))


def answer(directory, rows: dict, signature: str = "serving_default") -> dict[str, np.ndarray]:
    with SavedModel(directory) as served:
        return served.run(rows, signature)


def in_float32(rows: dict) -> dict:
    return rows | {"age": rows["age"].astype(np.float32)}


def test_a_subclass_with_lookups_around_which_heads_were_trained(tmp_path) -> None:
    keras.utils.set_random_seed(0)
    model = Ranker()
    wanted = model({name: tf.constant(column) for name, column in in_float32(ROWS).items()})
    wrapped = with_cohort_heads(model, "hidden", ["old"])
    export = export_for_serving(
        wrapped,
        tmp_path,
        sample=ROWS,
        from_logits=True,
        expected=np.asarray(wanted),
        reference=Ranker("a_long_name" * 20),
    )
    assert export.proof == "the caller's predictions on raw rows"
    assert sum(np.prod(shape) for shape, _ in export.facts.variables) == model.count_params()
    got = answer(export.directory, in_float32(ROWS))
    np.testing.assert_allclose(got["logits"], wanted, atol=1e-5)
    np.testing.assert_allclose(got["probabilities"], tf.sigmoid(wanted), atol=1e-5)
    example = tf.train.Example()
    example.features.feature["city"].bytes_list.value.append(b"c")
    example.features.feature["age"].float_list.value.append(41.5)
    regressed = answer(export.directory, {"inputs": np.array([example.SerializeToString()], object)}, "regress")
    np.testing.assert_allclose(regressed["outputs"], got["probabilities"][1:2], atol=1e-6)
    text = (export.directory / "assets.extra" / "README.md").read_text()
    assert "| `city` | string | `(?)` | as in training |" in text
    assert "Each column is needed" in text


@pytest.mark.parametrize("form", ["layer", "function"])
def test_what_comes_before_the_model(tmp_path, form) -> None:
    """A lookup as a layer of its own, or one that a function refers to: its table is stored, raw columns go in."""
    lookup, age = keras.layers.StringLookup(vocabulary=CITIES), "age"

    class Before(keras.layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.lookup = lookup

        def call(self, columns):
            return [self.lookup(columns["city"]), columns["age"]]

    before = Before() if form == "layer" else lambda columns: [lookup(columns["city"]), columns[age]]
    model = functional()
    export = export_for_serving(model, tmp_path, sample=ROWS, preprocess=before, from_logits=True, reference=model)
    assert export.proof == "the model in Python, on the same rows"
    wanted = model([lookup(ROWS["city"].tolist()), tf.constant(ROWS["age"], tf.float32)])
    np.testing.assert_allclose(answer(export.directory, in_float32(ROWS))["logits"], wanted, atol=1e-5)


def test_tables_of_any_function_are_found(tmp_path) -> None:
    """In a dict, behind a partial, a tf.function, a helper, an object that is no module; no table is stored in vain."""

    class Lookups:
        def __init__(self) -> None:
            self.by_name = {"city": [keras.layers.StringLookup(vocabulary=CITIES)]}
            self.unused = keras.layers.StringLookup(vocabulary=["in vain"])

        def __call__(self, table):
            return self.by_name["city"][0](table)

    city = Lookups()

    def of_city(column):
        return city(column)

    @tf.function
    def traced(columns):
        return [of_city(columns["city"]), columns["age"]]

    def before(read, columns, *, offset):
        return [x + offset for x in [read(columns)[0]]] + [columns["age"]]

    preprocess = functools.partial(before, traced, offset=tf.constant(0, tf.int64))
    model = functional()
    export = export_for_serving(model, tmp_path, sample=ROWS, preprocess=preprocess)
    wanted = model([city(tf.constant(ROWS["city"].tolist())), tf.constant(ROWS["age"], tf.float32)])
    np.testing.assert_allclose(answer(export.directory, in_float32(ROWS))["output_0"], wanted, atol=1e-5)
    assert b"in vain" not in (export.directory / "saved_model.pb").read_bytes()


def test_a_table_of_a_subclass_that_its_module_holds(tmp_path) -> None:
    class Reader(keras.Model):
        def call(self, inputs):
            return self.encoded(inputs)[:, None]

        @staticmethod
        def encoded(inputs):
            return tf.cast(MODULE_LOOKUP(inputs["city"]), tf.float32)

    export = export_for_serving(Reader(), tmp_path, sample={"city": ROWS["city"]})
    assert answer(export.directory, {"city": ROWS["city"]})["output_0"].ravel().tolist() == [1, 3, 0, 2]


def test_a_table_that_cannot_be_found(tmp_path) -> None:
    lookup = keras.layers.StringLookup(vocabulary=CITIES)
    hidden = weakref.ref(lookup)
    with pytest.raises(ExportError, match=r"tables of the model and of `preprocess` must be found: .*<function"):
        export_for_serving(functional(), tmp_path, sample=ROWS, preprocess=lambda x: [hidden()(x["city"]), x["age"]])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("form", ["unbuilt", "subclass"])
def test_a_model_of_one_tensor_is_told_to_take_it_out_of_the_columns(tmp_path, form) -> None:
    class Slope(keras.Model):
        def call(self, inputs):
            return 2 * inputs[:, :1]

    model = Slope() if form == "subclass" else keras.Sequential([keras.layers.Dense(1)])
    sample = {"x": np.ones((4, 3), np.float32)}
    for _ in range(2):  # a call that fails leaves a Sequential built, but without inputs
        with pytest.raises(
            ValueError, match=r"`preprocess=lambda columns: columns\[\"x\"\]` for a model of one tensor"
        ):
            export_for_serving(model, tmp_path, sample=sample)
    export_for_serving(model, tmp_path, sample=sample, preprocess=lambda columns: columns["x"])


def test_a_sequential_that_a_call_built_takes_any_number_of_rows() -> None:
    model = keras.Sequential([keras.layers.Dense(1)])
    model(np.ones((4, 3), np.float32))
    (spec,) = by_model(model, {}, None).specs.values()
    assert spec.shape.as_list() == [None, 3]


def test_inputs_in_a_nested_dict(tmp_path) -> None:
    age, hours = keras.Input((1,), name="age"), keras.Input((1,), name="hours")
    model = keras.Model({"user": {"age": age}, "hours": hours}, keras.layers.Subtract()([age, hours]))
    sample = {"age": np.array([[5.0], [7.0]], np.float32), "hours": np.array([[1.0], [2.0]], np.float32)}
    export = export_for_serving(model, tmp_path, sample=sample)
    assert answer(export.directory, sample)["output_0"].tolist() == [[4.0], [5.0]]


def test_expected_as_predict_gives_several_outputs_or_by_their_names(tmp_path) -> None:
    x = keras.Input((3,), name="x")
    model = keras.Model(x, [keras.layers.Dense(1, name="click")(x), keras.layers.Dense(1, name="buy")(x)])
    sample = {"x": np.eye(3, dtype=np.float32)}
    click, buy = model.predict(sample["x"], verbose=0)
    for expected, logits in [([click, buy], True), ({"buy": buy, "click": click}, None)]:
        export_for_serving(model, tmp_path, sample=sample, expected=expected, from_logits=logits)
    for expected, logits in [([buy, click], True), ({"buy": click, "click": buy}, None)]:
        with pytest.raises(ExportError, match="must be equal within 1e-05"):
            export_for_serving(model, tmp_path, sample=sample, expected=expected, from_logits=logits)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_rare_events_are_compared_by_their_log_odds(tmp_path, policy) -> None:
    """Logits from -12 to 12. A twentieth of a probability of 1e-5 differs from it by less than 1e-5."""
    x = keras.Input((1,), name="x")
    model = keras.Model(x, keras.layers.Dense(1, "sigmoid", kernel_initializer="ones", dtype=policy)(x))
    logits = np.linspace(-12, 12, 2001, dtype=np.float32)[:, None]
    exact = np.asarray(tf.function(model, jit_compile=policy == "float32")(logits)).astype(np.float64)
    export_for_serving(model, tmp_path, sample={"x": logits}, from_logits=False, expected=exact)
    rare = exact[:, 0] < 1e-5
    wrong = np.where(rare[:, None], exact * 0.05, exact)
    with pytest.raises(ExportError, match=r"`probabilities` of .* in log-odds, but for rounding"):
        export_for_serving(model, tmp_path, sample={"x": logits}, from_logits=False, expected=wrong)


def test_probabilities_are_not_squashed_again(tmp_path) -> None:
    model = functional("sigmoid")
    sample = {"city_id": np.array([1, 2], np.int64), "age": np.array([20, 40])}
    export = export_for_serving(model, tmp_path, sample=sample, from_logits=False)
    rows = {"city_id": sample["city_id"].astype(np.int32), "age": sample["age"].astype(np.float32)}
    wanted = model([tf.constant(rows["city_id"]), tf.constant(rows["age"])])
    got = answer(export.directory, rows)
    assert [*got] == ["probabilities"]
    np.testing.assert_allclose(got["probabilities"], wanted, atol=1e-6)


def test_heads_of_a_functional_model_are_stripped(tmp_path) -> None:
    model = functional()
    sample = {"city_id": np.array([1, 2], np.int32), "age": np.array([0.2, 0.4], np.float32)}
    with_heads = add_cohort_heads(model, "tower", ["old"])
    export = export_for_serving(with_heads, tmp_path, sample=sample, from_logits=True, reference=functional())
    assert sum(np.prod(shape) for shape, _ in export.facts.variables) == model.count_params()


def test_todays_signature_stays(tmp_path) -> None:
    """`keras.Model.export` wrote today's; the new one is called in the same way. Another signature is refused."""
    model, today = functional(), tmp_path / "today"
    model.export(str(today), verbose=False)
    sample = {"city_id": np.array([1, 2], np.int32), "age": np.array([0.2, 0.4], np.float32)}
    export = export_for_serving(model, tmp_path / "new", sample=sample, reference=today)
    before, after = answer(today, sample), answer(export.directory, sample)
    assert [*before] == [*after] == ["output_0"]
    np.testing.assert_allclose(before["output_0"], after["output_0"], atol=1e-6)
    with pytest.raises(
        ExportError, match=r"The outputs of `serving_default` must be those of .*output_0.* Received: .*"
    ):
        export_for_serving(model, tmp_path / "new", sample=sample, reference=today, from_logits=True)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["1"]


def test_outputs_of_any_kind_are_given_as_they_are(tmp_path) -> None:
    x = keras.Input((3,), dtype="float32", name="x")
    model = keras.Model(x, {"vector": keras.layers.Dense(2)(x), "place": keras.ops.argmax(x, axis=1)})
    sample = {"x": np.eye(3, dtype=np.float32)}
    expected = {"vector": np.asarray(model(sample["x"])["vector"], np.float64), "place": np.arange(3)}
    export = export_for_serving(model, tmp_path, sample=sample, expected=expected)
    with SavedModel(export.directory) as served:
        assert sorted(served.signatures) == ["serialized_examples", "serving_default"]
        np.testing.assert_array_equal(served.run(sample)["place"], [0, 1, 2])
    with pytest.raises(ExportError, match="`vector` of `serving_default` .* must be equal within 1e-05"):
        export_for_serving(model, tmp_path, sample=sample, expected=expected | {"vector": expected["vector"] + 0.1})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"sample": {"age": ROWS["age"]}},
            r"column of each input.* Received: .* rows, without \['city_id'\]",
        ),
        (
            {"sample": {"age": ROWS["age"], "city_id": ROWS["city"]}},
            r"`city_id` of `sample` must be int32 of",
        ),
        ({"sample": {"age": ROWS["age"], "city_id": np.ones((4, 2), int)}}, r"Received: int64 of shape \(4, 2\)"),
        ({"sample": {"age": ROWS["age"], "city_id": [2**33 + 3, 5, 0, 0]}}, "`city_id` .* int32 can, .*: 8589934595"),
        ({"expected": np.zeros(3)}, r"`expected` must be finite outputs .* Received: {'output_0': \(3,\)}"),
        ({"reference": "nowhere"}, "must be a model, or the folder of a SavedModel. Received: no nowhere"),
    ],
)
def test_arguments_that_do_not_fit(tmp_path, arguments, message) -> None:
    sample = {"age": ROWS["age"], "city_id": np.arange(4)}
    with pytest.raises(ValueError, match=message):
        export_for_serving(functional(), tmp_path / "new", **{"sample": sample} | arguments)
    assert not list(tmp_path.glob("new/*"))
