import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from c2al_tf.cohorts import Cohort, Interval
from c2al_tf.config import ModelConfig
from c2al_tf.data.inputs.features import FeatureEncoder
from c2al_tf.layers import TaskHead
from c2al_tf.model import REPRESENTATION, add_cohort_heads, build_model, check_logits, strip_auxiliary_heads
from c2al_tf.schema import CategoricalFeature, Schema

from .untuned import UNTUNED

CONFIG = ModelConfig(embedding_dim=4, num_outputs=2, attention_units=4, shared_units=(8, 6), head_units=(5,))


def encode(schema, rows: dict) -> dict:
    return FeatureEncoder(schema)({f.name: tf.constant(rows[f.name]) for f in schema.features})


def two_towers() -> keras.Model:
    """Someone else's functional model with one output."""
    a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
    h = keras.layers.Dense(4, "relu", name="h")(keras.layers.Concatenate()([a, b]))
    return keras.Model({"a": a, "b": b}, keras.layers.Dense(1, name="click")(h))


def test_outputs_and_priors(small_schema, small_rows) -> None:
    priors = {"primary": 0.2, "young": 0.05, "old": 0.01}
    model = build_model(small_schema, CONFIG, cohorts=("young", "old"), priors=priors)
    assert list(model.output) == ["primary", "young", "old"]
    assert {task: tuple(output.shape) for task, output in model.output.items()} == dict.fromkeys(priors, (None, 1))
    assert [model.get_layer(f"task_{task}").prior for task in priors] == [0.2, 0.05, 0.01]
    assert set(model.input) == set(small_schema.inputs)


def test_cohort_heads_leave_the_shared_initial_values_alone(small_schema) -> None:
    keras.utils.set_random_seed(3)
    baseline = build_model(small_schema, CONFIG)
    keras.utils.set_random_seed(3)
    model = build_model(small_schema, CONFIG, cohorts=("young",))
    for ours, theirs in zip(baseline.weights, strip_auxiliary_heads(model).weights, strict=True):
        assert ours.path == theirs.path
        np.testing.assert_array_equal(ours, theirs)


def test_stripping_keeps_the_primary_logits_bit_for_bit(small_schema, small_rows) -> None:
    """Property 6."""
    model = build_model(small_schema, CONFIG, cohorts=("young", "old"))
    x = encode(small_schema, small_rows(64))
    stripped = strip_auxiliary_heads(model)
    assert list(stripped.output) == ["primary"]
    assert not any(isinstance(layer, TaskHead) and layer.auxiliary for layer in stripped.layers)
    np.testing.assert_array_equal(stripped(x)["primary"], model(x)["primary"])


def test_stripping_a_saved_model(small_schema, small_rows, tmp_path) -> None:
    model = build_model(small_schema, CONFIG, cohorts=("young", "old"))
    model.save(tmp_path / "model.keras")
    stripped = strip_auxiliary_heads(keras.saving.load_model(tmp_path / "model.keras"))
    x = encode(small_schema, small_rows(8))
    assert stripped.count_params() == build_model(small_schema, CONFIG).count_params()
    np.testing.assert_array_equal(stripped(x)["primary"], model(x)["primary"])


@pytest.mark.parametrize("representation", ["h", "tensor"])
def test_any_functional_model_gets_heads_and_loses_them(representation: str) -> None:
    theirs = two_towers()
    x = {"a": np.ones((2, 3), np.float32), "b": np.ones((2, 2), np.float32)}
    h = theirs.get_layer("h").output if representation == "tensor" else representation
    model = add_cohort_heads(theirs, h, ("rich", "poor"), priors={"rich": 0.1})
    assert list(model.output) == ["primary", "rich", "poor"]
    np.testing.assert_array_equal(model(x)["primary"], theirs(x))
    assert strip_auxiliary_heads(model).count_params() == theirs.count_params()


def test_in_compile_and_fit(small_schema, small_rows, small_cohorts) -> None:
    """The pieces work without our training loop."""
    from c2al_tf.data.inputs.labels import cohort_labels

    rows = small_rows(256)
    model = build_model(small_schema, CONFIG, cohorts=[cohort.name for cohort in small_cohorts])
    y = {"primary": rows["label"], **cohort_labels(rows, rows["label"], small_cohorts)}
    model.compile(
        loss=dict.fromkeys(y, keras.losses.BinaryCrossentropy(from_logits=True)),
        loss_weights={"primary": 1.0, "young": 0.3, "old": 0.3},
        jit_compile=False,
    )
    x = {name: np.asarray(values) for name, values in encode(small_schema, rows).items()}
    history = model.fit(x, {task: label[:, None] for task, label in y.items()}, epochs=3, verbose=0)
    assert history.history["loss"][-1] < history.history["loss"][0]


def test_several_primary_tasks(small_schema) -> None:
    model = build_model(small_schema, CONFIG, primary=("click", "buy"), cohorts=("young",))
    assert list(strip_auxiliary_heads(model).output) == ["click", "buy"]


def test_a_backbone_of_ones_own(small_schema, small_rows, tmp_path) -> None:
    seen = []

    def flat(X, config, dtype):
        seen.append((tuple(X.shape), config, dtype))
        return keras.layers.Flatten(name="flat")(X)

    model = build_model(small_schema, CONFIG, cohorts=("young",), backbone=flat)
    assert seen == [((None, len(small_schema.features), CONFIG.embedding_dim), CONFIG, "float32")]
    h = model.get_layer(REPRESENTATION)
    assert h.input is model.get_layer("flat").output
    assert model.get_layer("task_young").input is model.get_layer("task_primary").input is h.output
    stripped = strip_auxiliary_heads(model)
    assert stripped.get_config() == build_model(small_schema, CONFIG, backbone=flat).get_config()
    model.save(tmp_path / "model.keras")
    x = encode(small_schema, small_rows(8))
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(x)["young"], model(x)["young"])


def test_a_backbone_that_keeps_the_fields(small_schema) -> None:
    with pytest.raises(ValueError, match=r"`backbone` must return a tensor .*\(batch, units\). Received: <KerasTensor"):
        build_model(small_schema, CONFIG, backbone=lambda X, config, dtype: X)
    with pytest.raises(ValueError, match=r"`backbone` must return a tensor .* Received: None"):
        build_model(small_schema, CONFIG, backbone=lambda X, config, dtype: None)


def test_a_mixture_of_experts_is_stripped_to_one_gate(small_schema, small_rows, tmp_path) -> None:
    """Each task has a gate of its own; the shared values and the primary gate start alike, and serving keeps them."""
    config = dataclasses.replace(CONFIG, num_experts=3)
    models = []
    for cohorts in ((), ("young", "old")):
        keras.utils.set_random_seed(0)
        models.append(build_model(small_schema, config, cohorts=cohorts))
    baseline, model = models
    assert len(model.get_layer("task_young").trainable_variables) == 1 + 2 + 2
    x = encode(small_schema, small_rows(16))
    np.testing.assert_array_equal(model(x)["primary"], baseline(x)["primary"])
    model.save(tmp_path / "mixture.keras")
    stripped = strip_auxiliary_heads(keras.saving.load_model(tmp_path / "mixture.keras"))
    np.testing.assert_array_equal(stripped(x)["primary"], model(x)["primary"])
    assert [v.shape for v in stripped.variables] == [v.shape for v in baseline.variables]


def test_cohort_heads_on_an_earlier_block(small_schema, small_rows) -> None:
    """They leave the later blocks to the primary task, start no shared value elsewhere, and are stripped."""
    config = dataclasses.replace(CONFIG, num_blocks=2, cohort_layer="block_0")
    models = []
    for cohorts in ((), ("young",)):
        keras.utils.set_random_seed(0)
        models.append(build_model(small_schema, config, cohorts=cohorts))
    baseline, model = models
    assert model.get_layer("cohort_input").input is model.get_layer("block_0").output
    x = encode(small_schema, small_rows(16))
    np.testing.assert_array_equal(model(x)["primary"], baseline(x)["primary"])
    before = np.asarray(model(x)["young"])
    later = model.get_layer("block_1").trainable_variables
    for variable in later:
        variable.assign(variable + 1)
    np.testing.assert_array_equal(model(x)["young"], before)
    assert strip_auxiliary_heads(model).get_config() == baseline.get_config()
    with pytest.raises(
        ValueError, match=r"`cohort_layer` must name a layer. Received: 'block_7'; there are .*'block_1'"
    ):
        build_model(small_schema, dataclasses.replace(config, cohort_layer="block_7"), cohorts=("young",))
    with pytest.raises(ValueError, match="`cohort_layer` must be null with `num_experts`"):
        dataclasses.replace(config, num_experts=2)


def test_features_that_share_embeddings() -> None:
    shown = CategoricalFeature("shown", "int64", vocabulary=(3, 5))
    seen = CategoricalFeature("seen", "int64", vocabulary=(3, 5), length=2, shares="shown")
    embedding = build_model(Schema((shown, seen)), CONFIG).get_layer("field_embedding")
    table = np.asarray(embedding.table)
    assert len(table) == shown.num_ids + 1  # and a row for padding, as id 0 of the other is a value
    X = np.asarray(embedding({"shown": np.array([2]), "seen": np.array([[2, 0]])}))
    np.testing.assert_array_equal(X[0, 0], X[0, 1])


def test_static_attention_and_no_mixing(small_schema, small_rows) -> None:
    config = ModelConfig(embedding_dim=4, attention="static", mixing_outputs=0)
    assert build_model(small_schema, config)(encode(small_schema, small_rows(3)))["primary"].shape == (3, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("h", ("a", "a")), "Every cohort needs a name that no other output has"),
        (("h", ("primary",)), "Every cohort needs a name that no other output has"),
        (("h", ()), "at least one is needed"),
        (("x", ("a",)), r"`representation` must name a layer. Received: 'x'; there are \['a', 'b'"),
        (("a", ("c",)), None),
    ],
)
def test_bad_heads(arguments: tuple, message: str | None) -> None:
    if message is None:  # an input is a representation too
        assert list(add_cohort_heads(two_towers(), *arguments).output) == ["primary", "c"]
        return
    with pytest.raises(ValueError, match=message):
        add_cohort_heads(two_towers(), *arguments)


def test_a_representation_with_fields() -> None:
    x = keras.Input((3, 2), name="x")
    model = keras.Model(x, keras.layers.Dense(1)(keras.layers.Flatten()(x)))
    with pytest.raises(ValueError, match=r"must have shape \(batch, units\). Received: shape=\(None, 3, 2\)"):
        add_cohort_heads(model, x, ("a",))


def test_a_subclassed_model() -> None:
    class Theirs(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(ValueError, match="The model must be functional, .*Received: Theirs"):
        add_cohort_heads(Theirs(), "h", ("a",))


def theirs(form: str) -> keras.Model:
    """A model with the layer `h` and one or two outputs, in each form that a model may have."""
    a = keras.Input((3,), name="a")
    h = keras.layers.Dense(4, "relu", name="h")
    click, buy = keras.layers.Dense(1, name="click"), keras.layers.Dense(1, name="buy")
    if form == "sequential":
        return keras.Sequential([a, h, keras.layers.BatchNormalization(), click], name="theirs")
    if form == "sequential without an input":
        model = keras.Sequential([h, click], name="theirs")
        model.build((None, 3))
        return model
    outputs = {
        "tensor": lambda h: click(h),
        "frozen": lambda h: click(h),
        "list of one": lambda h: [click(h)],
        "list": lambda h: [click(h), buy(h)],
        "tuple": lambda h: (click(h), buy(h)),
        "dict of one": lambda h: {"sale": click(h)},
        "dict": lambda h: {"z": click(h), "b": buy(h)},
    }[form](h(a))
    inputs = {"dict": {"a": a}, "list": [a]}.get(form, a)
    return keras.Model(inputs, outputs, name="theirs", trainable=form != "frozen")


FORMS = {
    "sequential": ["primary"],
    "sequential without an input": ["primary"],
    "tensor": ["primary"],
    "frozen": ["primary"],
    "list of one": ["primary"],
    "list": ["click", "buy"],
    "tuple": ["click", "buy"],
    "dict of one": ["sale"],
    "dict": ["z", "b"],
}


def assert_same(stripped: keras.Model, model: keras.Model) -> None:
    assert type(stripped) is type(model)
    assert stripped.get_config() == model.get_config()
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    if isinstance(model, keras.Function):
        x = {dict: {"a": x}, list: [x]}.get(type(model.input), x)
    for got, expected in ((stripped(x), model(x)), (stripped.predict(x, verbose=0), model.predict(x, verbose=0))):
        assert type(got) is type(expected)
        for a, b in zip(keras.tree.flatten(got), keras.tree.flatten(expected), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("form", "names"), FORMS.items())
def test_stripping_gives_back_what_heads_were_added_to(form: str, names: list, tmp_path) -> None:
    model = theirs(form)
    with_heads = add_cohort_heads(model, "h", ("rich",))
    assert list(with_heads.output) == [*names, "rich"]
    assert_same(strip_auxiliary_heads(with_heads), model)
    with_heads.save(tmp_path / "heads.keras")
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "heads.keras")
    assert_same(strip_auxiliary_heads(loaded), keras.saving.load_model(tmp_path / "model.keras"))


def test_heads_added_twice_are_stripped_at_once() -> None:
    model = theirs("tensor")
    for first, second in (("rich", "poor"), ("poor", "rich")):
        again = add_cohort_heads(add_cohort_heads(model, "h", (first,)), "h", (second,))
        assert list(again.output) == ["primary", first, second]
        assert_same(strip_auxiliary_heads(again), model)


@pytest.mark.tensorflow
@pytest.mark.parametrize("form", ["sequential", "tensor", "list", "dict"])
def test_a_stripped_model_has_the_signature_of_the_original(form: str, tmp_path) -> None:
    model = theirs(form)
    names = []
    for number, each in enumerate((model, strip_auxiliary_heads(add_cohort_heads(model, "h", ("rich",))))):
        each.export(tmp_path / str(number), verbose=False)
        signature = tf.saved_model.load(str(tmp_path / str(number))).signatures["serving_default"]
        names.append((sorted(signature.structured_input_signature[1]), sorted(signature.structured_outputs)))
    assert names[0] == names[1]


def test_a_model_without_heads_is_returned_as_it_is(small_schema) -> None:
    for model in (build_model(small_schema, CONFIG), theirs("sequential"), theirs("list")):
        assert strip_auxiliary_heads(model) is model


def test_a_built_model_is_stripped_to_the_baseline(small_schema) -> None:
    baseline = build_model(small_schema, CONFIG)
    stripped = strip_auxiliary_heads(build_model(small_schema, CONFIG, cohorts=("young",)))
    assert stripped.get_config() == baseline.get_config()
    assert type(stripped) is type(baseline)


def test_outputs_of_heads_under_other_names_are_dropped() -> None:
    model = add_cohort_heads(theirs("tensor"), "h", ("rich", "poor"))
    linear = keras.layers.Activation("linear", name="rich_out")(model.output["rich"])
    both = keras.layers.Concatenate()([keras.layers.Identity()(model.output["poor"]), model.output["primary"]])
    renamed = keras.Model(model.input, {"click": model.output["primary"], "rich_out": linear, "both": both})
    stripped = strip_auxiliary_heads(renamed)
    assert list(stripped.output) == ["click"]
    assert not [layer for layer in stripped.layers if isinstance(layer, TaskHead)]
    as_list = strip_auxiliary_heads(keras.Model(model.input, [model.output["primary"], linear]))
    assert [output.shape for output in as_list.output] == [(None, 1)]


def test_a_primary_output_that_depends_on_a_head() -> None:
    model = add_cohort_heads(theirs("tensor"), "h", ("rich",))
    mixed = {"primary": keras.layers.Add()(list(model.output.values())), "click": model.output["primary"]}
    with pytest.raises(ValueError, match=r"must not depend on an auxiliary head.*Received: \['primary'\]"):
        strip_auxiliary_heads(keras.Model(model.input, mixed))
    with pytest.raises(ValueError, match=r"Received: \['rich'\]"):
        strip_auxiliary_heads(keras.Model(model.input, {"rich": model.output["rich"]}))


def test_heads_within_a_nested_model() -> None:
    model = add_cohort_heads(theirs("tensor"), "h", ("rich",))
    x = keras.Input((3,))
    with pytest.raises(ValueError, match="within a nested model.*strip it before.*Received: nested model `theirs`"):
        strip_auxiliary_heads(keras.Model(x, model(x)))


def age_and_weeks() -> keras.Model:
    """The logit is age + weeks: a column in another's place shows."""
    age, weeks = keras.Input((1,), name="age"), keras.Input((1,), name="weeks")
    h = keras.layers.Concatenate(name="h")([age, weeks])
    total = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones", name="total")(h)
    return keras.Model({"age": age, "weeks": weeks}, total)


def column(*values: float) -> np.ndarray:
    return np.float32(values).reshape(-1, 1)


AGE_AND_WEEKS = {"age": column(1, 2), "b_extra": column(100, 200), "weeks": column(10, 20)}


@pytest.mark.parametrize("jit_compile", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_inputs_are_read_by_name_whatever_else_comes(jit_compile: bool, tmp_path) -> None:
    model = add_cohort_heads(age_and_weeks(), "h", ("rich",))
    model.save(tmp_path / "model.keras")
    y = {"primary": column(11, 22), "rich": column(0, 0)}
    for each in (model, keras.saving.load_model(tmp_path / "model.keras")):
        losses = dict.fromkeys(y, "mse")
        each.compile(keras.optimizers.SGD(0.0), losses, {"primary": 1.0, "rich": 0.0}, jit_compile=jit_compile)
        data = tf.data.Dataset.from_tensors((AGE_AND_WEEKS, y)).with_options(UNTUNED)
        np.testing.assert_array_equal(each(AGE_AND_WEEKS)["primary"], y["primary"])
        np.testing.assert_array_equal(each.predict(AGE_AND_WEEKS, verbose=0)["primary"], y["primary"])
        assert each.evaluate(data, verbose=0, return_dict=True)["primary_loss"] == 0
        assert each.fit(data, shuffle=False, verbose=0).history["primary_loss"] == [0]
        assert each.train_on_batch(AGE_AND_WEEKS, y, return_dict=True)["primary_loss"] == 0


def test_inputs_are_read_by_name_in_a_larger_model() -> None:
    age, weeks = keras.Input((1,), name="age"), keras.Input((1,), name="weeks")
    h = keras.layers.Concatenate(name="h")([age, weeks])
    plain = keras.Model({"age": age, "weeks": weeks}, keras.layers.Add()([age, weeks]))
    model = add_cohort_heads(keras.Model(plain.input, [plain.output, keras.layers.Dense(1)(h)]), "h", ("rich",))
    x = {**AGE_AND_WEEKS, "b_extra": np.ones((2, 5), np.float32)}
    symbolic = {name: keras.Input(values.shape[1:], name=name) for name, values in x.items()}
    outer = keras.Model(symbolic, model(symbolic)[plain.layers[-1].name])
    assert outer.output.shape == (None, 1)
    np.testing.assert_array_equal(outer(x), column(11, 22))


def test_a_single_input_is_found_by_its_name() -> None:
    model = add_cohort_heads(theirs("tensor"), "h", ("rich",))
    x = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(model({"a": x, "b": x})["rich"], model(x)["rich"])


def test_masks_go_with_their_inputs() -> None:
    values, ids = keras.Input((2, 1), name="values"), keras.Input((1,), name="ids")
    mean = keras.layers.GlobalAveragePooling1D()(values)
    h = keras.layers.Concatenate(name="h")([mean, ids])
    model = add_cohort_heads(keras.Model({"ids": ids, "values": values}, keras.layers.Dense(1)(h)), "h", ("rich",))
    x = {"ids": column(1), "values": np.float32([[[1], [5]]])}
    mask = {"ids": None, "values": tf.constant([[True, False]])}
    expected = model.call(x, mask=mask)["primary"]
    got = model.call({"a_extra": column(1), **x}, mask={"a_extra": None, **mask})["primary"]
    np.testing.assert_array_equal(got, expected)
    assert not np.array_equal(expected, model(x)["primary"])


def test_built_models_read_their_inputs_by_name(small_schema, small_rows) -> None:
    x = encode(small_schema, small_rows(8))
    extra = {"aaa": tf.zeros(8), **x, "weight": tf.zeros(8)}
    with_heads = build_model(small_schema, CONFIG, cohorts=("young",))
    for model in (build_model(small_schema, CONFIG), with_heads, strip_auxiliary_heads(with_heads)):
        np.testing.assert_array_equal(model(extra)["primary"], model(x)["primary"])


@pytest.mark.tensorflow
@pytest.mark.parametrize("inputs", ["dict", "list"])
def test_strings_that_nothing_reads_under_xla(inputs: str) -> None:
    model = add_cohort_heads(age_and_weeks() if inputs == "dict" else theirs("list"), "h", ("rich",))
    x = {x.name: tf.ones((2, x.shape[1])) for x in model.inputs} | {"city": tf.constant(["rome", "bonn"])}
    y = {name: tf.ones((2, 1)) for name in model.output}
    data = tf.data.Dataset.from_tensors((x, y)).with_options(UNTUNED)
    model.compile("sgd", dict.fromkeys(y, "mse"), jit_compile=True)
    for run in (lambda: model.fit(data, shuffle=False, verbose=0), lambda: model.predict(data, verbose=0)):
        with pytest.raises(ValueError, match="must be dropped before a step .*keep=model.*Received: `city`"):
            run()
    assert model(x)["rich"].shape == (2, 1)
    model.compile("sgd", dict.fromkeys(y, "mse"), jit_compile=False)
    model.fit(data, shuffle=False, verbose=0)


def test_a_representation_that_is_called_twice() -> None:
    a, b = keras.Input((3,), name="a"), keras.Input((3,), name="b")
    h = keras.layers.Dense(4, name="h")
    first, second = h(a), h(b)
    model = keras.Model([a, b], keras.layers.Dense(1)(keras.layers.Add()([first, second])))
    with pytest.raises(ValueError, match="makes one tensor; otherwise pass the tensor. Received: 'h', which makes 2"):
        add_cohort_heads(model, "h", ("rich",))
    assert add_cohort_heads(model, second, ("rich",)).get_layer("task_rich").input is second


def test_a_layer_that_another_model_calls_too() -> None:
    h = keras.layers.Dense(4, name="h")
    h(keras.Input((3,)))
    a = keras.Input((3,), name="a")
    model = keras.Model(a, keras.layers.Dense(1)(h(a)))
    assert list(add_cohort_heads(model, "h", ("rich",)).output) == ["primary", "rich"]


@pytest.mark.parametrize("nested", ["functional", "sequential"])
def test_a_representation_that_a_nested_model_gives(nested: str) -> None:
    x = keras.Input((3,))
    inner = [keras.layers.Dense(5, name="deep"), keras.layers.Dense(4, name="h")]
    tower = keras.Model(x, inner[1](inner[0](x)), name="tower")
    if nested == "sequential":
        tower = keras.Sequential([keras.Input((3,)), *inner], name="tower")
    a = keras.Input((3,), name="a")
    shared = tower(a)
    model = keras.Model(a, keras.layers.Dense(1)(shared))
    for representation in ("tower", "h", tower.outputs[0], shared):
        assert add_cohort_heads(model, representation, ("rich",)).get_layer("task_rich").input is shared
    with pytest.raises(ValueError, match="Received: 'deep'.*within a nested model.*let it return the representation"):
        add_cohort_heads(model, "deep", ("rich",))
    with pytest.raises(ValueError, match="must be computed from the model's inputs.*let it return the representation"):
        add_cohort_heads(model, inner[0].output, ("rich",))


def test_a_name_in_two_nested_models() -> None:
    a = keras.Input((3,), name="a")
    towers = [keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, name="h")], name=name) for name in "pq"]
    model = keras.Model(a, keras.layers.Dense(1)(keras.layers.Add()([tower(a) for tower in towers])))
    with pytest.raises(ValueError, match="otherwise pass the tensor. Received: 'h', which makes 2"):
        add_cohort_heads(model, "h", ("rich",))


def test_a_tensor_of_another_model() -> None:
    with pytest.raises(ValueError, match="must be computed from the model's inputs"):
        add_cohort_heads(theirs("tensor"), theirs("tensor").get_layer("h").output, ("rich",))


@pytest.mark.parametrize("method", ["train_step", "test_step", "compute_loss", "call", "compile"])
def test_a_subclass_whose_methods_would_be_lost(method: str) -> None:
    def own(self, *args, **kwargs):
        return getattr(super(mine, self), method)(*args, **kwargs)

    mine = type("Mine", (keras.Model,), {method: own})
    plain = theirs("tensor")
    with pytest.raises(ValueError, match=f"Received: Mine with its own {method}. Pass keras.Model"):
        add_cohort_heads(mine(plain.input, plain.output), "h", ("rich",))
    heads = add_cohort_heads(plain, "h", ("rich",))
    with_heads = mine(heads.input, heads.output)  # as the message says
    if method == "call":
        with pytest.raises(ValueError, match="What it computes would be lost"):
            strip_auxiliary_heads(with_heads)
    else:
        assert_same(strip_auxiliary_heads(with_heads), plain)


def test_a_subclass_that_only_builds_its_graph() -> None:
    class Mine(keras.Model):
        def __init__(self) -> None:
            plain = theirs("tensor")
            super().__init__(plain.input, plain.output)

    assert list(add_cohort_heads(Mine(), "h", ("rich",)).output) == ["primary", "rich"]


def probabilities(kind: str, h):
    layers = keras.layers
    logit, sigmoid, softmax = layers.Dense(1), layers.Dense(1, "sigmoid", name="click"), layers.Dense(2, "softmax")
    return {
        "dense": lambda: sigmoid(h),
        "activation": lambda: layers.Activation("sigmoid")(logit(h)),
        "operation": lambda: keras.ops.sigmoid(logit(h)),
        "function": lambda: keras.activations.sigmoid(logit(h)),
        "softmax": lambda: softmax(h),
        "softmax layer": lambda: layers.Softmax()(layers.Dense(2)(h)),
        "lambda": lambda: layers.Lambda(keras.ops.sigmoid, output_shape=(1,))(logit(h)),
        "identity": lambda: layers.Identity()(sigmoid(h)),
        "activation layer": lambda: layers.Dense(1, activation=layers.Activation("sigmoid"))(h),
        "product": lambda: layers.Multiply()([sigmoid(h), layers.Dense(1, "sigmoid")(h)]),
        "average": lambda: layers.Average()([sigmoid(h), layers.Dense(1, "sigmoid")(h)]),
        "linear": lambda: layers.Activation("linear", dtype="float32")(sigmoid(h)),
        "reshape": lambda: layers.Reshape((1,))(sigmoid(h)),
        "flatten": lambda: layers.Flatten()(sigmoid(h)),
        "squeeze": lambda: keras.ops.expand_dims(keras.ops.squeeze(sigmoid(h), -1), -1),
        "cast": lambda: keras.ops.cast(keras.ops.sigmoid(logit(h)), "float16"),
        "column": lambda: softmax(h)[:, 1:],
        "concatenated": lambda: layers.Concatenate()([logit(h), sigmoid(h)]),
        "nested": lambda: keras.Sequential([keras.Input((4,)), sigmoid])(h),
    }[kind]()


KINDS = (
    "dense", "activation", "operation", "function", "softmax", "softmax layer", "lambda", "identity", "linear",
    "reshape", "flatten", "squeeze", "cast", "column", "concatenated", "nested",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_probabilities_are_no_logits(kind: str) -> None:
    a = keras.Input((3,), name="a")
    h = keras.layers.Dense(4, "relu", name="h")(a)
    model = keras.Model(a, {"buy": keras.layers.Dense(1)(h), "click": probabilities(kind, h)})
    with pytest.raises(
        ValueError, match="Output `click` must be logits.*Received: probabilities of layer `.*activation="
    ):
        check_logits(model)
    with pytest.raises(ValueError, match="Output `click` must be logits"):
        add_cohort_heads(model, "h", ("rich",))


@pytest.mark.parametrize("form", FORMS)
def test_logits_are_logits(form: str) -> None:
    check_logits(theirs(form))
    check_logits(add_cohort_heads(theirs(form), "h", ("rich",)))


def test_a_gate_is_no_output() -> None:
    a = keras.Input((3,), name="a")
    p = keras.layers.Dense(3, "sigmoid")(a)
    check_logits(keras.Model(a, keras.layers.Dense(1)(keras.layers.Multiply()([a, p]))))
    check_logits(keras.Model(a, keras.ops.log(p / (1 - p))))


def test_heads_on_a_model_in_mixed_float16() -> None:
    a = keras.Input((3,), name="a")
    h = keras.layers.Dense(4, "relu", name="h", dtype="mixed_float16")(a)
    plain = keras.Model(a, keras.layers.Dense(1, name="click", dtype="mixed_float16")(h))
    model = add_cohort_heads(plain, "h", ("rich",), dtype="mixed_float16")
    assert model(np.ones((2, 3), np.float32))["rich"].dtype == "float32"
    assert_same(strip_auxiliary_heads(model), plain)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cohorts": "rich"}, r"`cohorts` must be names, .*Received: rich"),
        ({"cohorts": ["rich people"]}, r"of letters, digits, .*Received: \['rich people'\]"),
        ({"cohorts": [Cohort("rich", (Interval("age", 18),))]}, r"`cohorts` must be names, .*Received: \[Cohort"),
        ({"cohorts": ["rich"], "priors": {"ritch": 0.1}}, r"`priors` must be of cohorts among \['rich'\].*\['ritch'\]"),
    ],
)
def test_names_that_would_be_ignored(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        add_cohort_heads(theirs("tensor"), "h", **arguments)


def test_models_of_another_form() -> None:
    a = keras.Input((3,), name="a")
    h = keras.layers.Dense(1, name="h")(a)
    for model in (
        keras.Sequential([keras.layers.Dense(1, name="h")]),
        keras.Model(a, {"click": [h, h]}),
        keras.Model(a, [h, h]),
    ):
        with pytest.raises(ValueError, match="must be functional, or a Sequential with an Input.*Received"):
            add_cohort_heads(model, "h", ("rich",))
