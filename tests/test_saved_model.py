"""The C++ loader against TensorFlow's Python, on models written here."""

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf

from c2al_tf.saved_model import SavedModel, SavedModelError


class Everything(tf.Module):
    """A table from an asset, a variable, and inputs of every kind."""

    def __init__(self, vocabulary: str):
        initializer = tf.lookup.TextFileInitializer(
            vocabulary, tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER
        )
        self.table = tf.lookup.StaticHashTable(initializer, default_value=-1)
        self.weights = tf.Variable([[0.5], [-0.25], [2.0]])

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.string, "city"),
            tf.TensorSpec([None], tf.int64, "user"),
            tf.TensorSpec([None], tf.float32, "price"),
            tf.TensorSpec([None, 2], tf.string, "tags"),
        ]
    )
    def predict(self, city, user, price, tags):
        x = tf.stack([tf.cast(self.table.lookup(city), tf.float32), tf.cast(user, tf.float32), price], axis=1)
        logits = x @ self.weights
        return {
            "logits": logits,
            "probabilities": tf.sigmoid(logits),
            "tags": tf.strings.join([tags, tf.repeat(city[:, None], 2, 1)]),
        }

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "text")])
    def echo(self, text):
        return {"text": tf.identity(text), "bytes": tf.strings.length(text)}

    @tf.function(input_signature=[tf.TensorSpec(None, tf.float64, "x")])
    def any_rank(self, x):
        return {"double": 2 * x, "positive": x > 0, "half": tf.cast(x, tf.float16)}

    @tf.function(input_signature=[tf.TensorSpec([], tf.float32, "x")], jit_compile=True)
    def compiled(self, x):
        return {"y": x + 1}


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved_model")
    vocabulary = folder / "cities.txt"
    vocabulary.write_text("Oslo\nLima\nŁódź\n", encoding="utf-8")
    module = Everything(str(vocabulary))
    signatures = {
        "serving_default": module.predict,
        "echo": module.echo,
        "echo_again": module.echo,
        "any_rank": module.any_rank,
        "compiled": module.compiled,
    }
    tf.saved_model.save(module, str(folder / "model"), signatures=signatures)
    vocabulary.unlink()  # the asset in the model is what counts
    return folder / "model"


@pytest.fixture(scope="module")
def model(directory):
    with SavedModel(directory, disable_xla=False) as model:  # XLA is for the tests below to switch
        yield model


@pytest.fixture
def columns():
    rng = np.random.default_rng(0)
    cities = np.array(["Oslo", "Lima", "Łódź", "", "a town whose name is longer than twenty-two bytes"], object)
    return {
        "city": rng.choice(cities, 100),
        "user": rng.integers(-5, 5, 100),
        "price": rng.normal(size=100).astype(np.float32),
        "tags": rng.choice(cities, (100, 2)),
    }


def test_equals_tensorflows_python(model, directory, columns):
    expected = tf.saved_model.load(str(directory)).signatures["serving_default"](
        **{name: tf.constant(column) for name, column in columns.items()}
    )
    outputs = model.run(columns)
    assert list(outputs) == ["logits", "probabilities", "tags"]
    for name in ("logits", "probabilities"):
        assert outputs[name].dtype == np.float32
        np.testing.assert_allclose(outputs[name], expected[name], rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(outputs["tags"], expected["tags"].numpy())


def test_signatures_are_described(model):
    assert list(model.signatures) == ["any_rank", "compiled", "echo", "echo_again", "serving_default"]
    called = model.signatures["serving_default"]
    assert {name: str(spec) for name, spec in called.inputs.items()} == {
        "city": "string (?)",
        "price": "float32 (?)",
        "tags": "string (?, 2)",
        "user": "int64 (?)",
    }
    assert {name: spec.shape for name, spec in called.outputs.items()} == {
        "logits": (None, 1),
        "probabilities": (None, 1),
        "tags": (None, 2),
    }
    assert called.method_name == "tensorflow/serving/predict"
    assert model.signatures["any_rank"].inputs["x"].shape is None
    assert "__saved_model_init_op" in model.signature_defs


@pytest.mark.parametrize("length", [0, 1, 21, 22, 23, 24, 1000])
@pytest.mark.parametrize("times", [1, 30], ids=["few", "many"])
def test_strings_of_any_length_come_back(model, length, times):
    text = times * [b"\x00" * length, b"\xff" * length, b"a" * length, b""]
    outputs = model.run({"text": np.array(text, object)}, "echo")
    assert outputs["text"].tolist() == text
    assert outputs["bytes"].tolist() == times * [length, length, length, 0]


@pytest.mark.parametrize("end", [b"\x00", b""])
def test_lists_of_strings_keep_their_last_zeros(model, end):
    assert model.run({"text": [b"a" + end, b"b"]}, "echo")["text"].tolist() == [b"a" + end, b"b"]


@pytest.mark.parametrize("text", [np.array(["é", "b"]), np.array(["é".encode(), b"b"]), ["é", b"b"]])
def test_strings_of_any_form(model, text):
    array = np.array(text, object) if isinstance(text, list) else text
    assert model.run({"text": array}, "echo")["text"].tolist() == ["é".encode(), b"b"]


@pytest.mark.parametrize("shape", [(), (3,), (2, 0), (2, 3, 4)])
def test_any_shape_and_dtype(model, shape):
    x = np.random.default_rng(0).normal(size=shape)
    outputs = model.run({"x": x}, "any_rank")
    assert {outputs[name].shape for name in outputs} == {shape}
    np.testing.assert_array_equal(outputs["double"], 2 * x)
    np.testing.assert_array_equal(outputs["positive"], x > 0)
    np.testing.assert_array_equal(outputs["half"], x.astype(np.float16))
    assert [outputs[name].dtype.name for name in ("double", "positive", "half")] == ["float64", "bool", "float16"]


def test_arrays_need_not_be_contiguous(model, columns):
    x = np.arange(12.0).reshape(3, 4).T
    np.testing.assert_array_equal(model.run({"x": x}, "any_rank")["double"], 2 * x)
    reversed_columns = {name: column[::-1] for name, column in columns.items()}
    np.testing.assert_array_equal(model.run(reversed_columns)["logits"], model.run(columns)["logits"][::-1])


def test_no_rows(model, columns):
    outputs = model.run({name: column[:0] for name, column in columns.items()})
    assert (outputs["logits"].shape, outputs["tags"].shape) == ((0, 1), (0, 2))


def test_chosen_outputs_in_their_order(model, columns):
    assert list(model.run(columns, outputs=["tags", "logits"])) == ["tags", "logits"]


def test_signatures_called_together_give_what_each_gives(model):
    text = np.array(["é", "long" * 20], object)
    together = model.run_together({"text": text}, {"echo": ["bytes"], "echo_again": ["text", "bytes"]})
    assert {name: list(outputs) for name, outputs in together.items()} == {
        "echo": ["bytes"], "echo_again": ["text", "bytes"]
    }  # fmt: skip
    for name, outputs in together.items():
        for key, values in model.run({"text": text}, name, list(outputs)).items():
            assert outputs[key].tolist() == values.tolist()
    with pytest.raises(SavedModelError, match="'text' must have dtype string"):
        model.run_together({"text": np.zeros(2)}, {"echo": ["bytes"]})


INVALID_ARGUMENT, NOT_FOUND, FAILED_PRECONDITION = 3, 5, 9


@pytest.mark.parametrize(
    ("changes", "options", "code", "message"),
    [
        (
            {"city": None},
            {},
            INVALID_ARGUMENT,
            r"Missing but required: \{city\}. Declared: \{city, price, tags, user\}",
        ),
        ({"other": np.ones(100)}, {}, INVALID_ARGUMENT, r"Sent extra: \{other\}"),
        ({"user": np.ones(100)}, {}, INVALID_ARGUMENT, "'user' must have dtype int64. Received: float64"),
        ({"user": np.ones(100, np.int32)}, {}, INVALID_ARGUMENT, "'user' must have dtype int64. Received: int32"),
        ({"city": np.ones(100)}, {}, INVALID_ARGUMENT, "'city' must have dtype string. Received: float64"),
        ({"price": np.array(["1"] * 100)}, {}, INVALID_ARGUMENT, "must have dtype float32. Received: string"),
        ({"city": np.array([None] * 100)}, {}, INVALID_ARGUMENT, "'city' must hold strings .*Received: NoneType"),
        ({"price": np.ones((100, 1), np.float32)}, {}, INVALID_ARGUMENT, r"shape \(\?\). Received: \(100, 1\)"),
        ({"tags": np.full((100, 3), "a")}, {}, INVALID_ARGUMENT, r"shape \(\?, 2\). Received: \(100, 3\)"),
        ({"price": np.ones(99, np.float32)}, {}, INVALID_ARGUMENT, "Shapes of all inputs must match"),
        (
            {},
            {"outputs": ["other"]},
            INVALID_ARGUMENT,
            r"signature: other .*set \{logits, probabilities, tags\}",
        ),
        ({}, {"outputs": ["tags", "tags"]}, INVALID_ARGUMENT, "duplicate output tensor alias"),
        ({}, {"signature": "other"}, FAILED_PRECONDITION, r'"other" not found. The model has: \{any_rank, compiled'),
    ],
)
def test_refuses(model, columns, changes, options, code, message):
    inputs = {name: column for name, column in (columns | changes).items() if column is not None}
    with pytest.raises(SavedModelError, match=message) as caught:
        model.run(inputs, **options)
    assert caught.value.code == code


def test_what_is_no_saved_model(directory, tmp_path):
    with pytest.raises(SavedModelError, match="no such folder") as caught:
        SavedModel(tmp_path / "absent")
    assert caught.value.code == NOT_FOUND
    with pytest.raises(SavedModelError, match=r"it has no saved_model\.pb\.$"):
        SavedModel(tmp_path)
    shutil.copytree(directory, tmp_path / "7")
    with pytest.raises(SavedModelError, match=r"Its folders \{7\} have one"):
        SavedModel(tmp_path)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("variables", r"incomplete SavedModel: it has no variables/variables\.index"),
        ("variables/variables.index", r"incomplete SavedModel: it has no variables/variables\.index"),
        ("variables/variables.data-00000-of-00001", "variables.data-00000-of-00001"),
        ("assets", "cities.txt"),
    ],
)
def test_missing_files(directory, tmp_path, file, message):
    copy = shutil.copytree(directory, tmp_path / "copy")
    shutil.rmtree(copy / file) if (copy / file).is_dir() else (copy / file).unlink()
    with pytest.raises(SavedModelError, match=message):
        SavedModel(copy)


@pytest.mark.parametrize("file", ["saved_model.pb", "variables/variables.data-00000-of-00001"])
def test_truncated_files(directory, tmp_path, file):
    copy = shutil.copytree(directory, tmp_path / "copy")
    path = copy / file
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(SavedModelError):
        SavedModel(copy)


def test_a_failed_load_leaves_xla_as_it_was(tmp_path):
    tmp_path.joinpath("saved_model.pb").write_bytes(b"nothing of the kind")
    with pytest.raises(SavedModelError):
        SavedModel(tmp_path)
    assert tf.function(lambda x: x + 1, jit_compile=True)(1.0).numpy() == 2


def test_xla_is_off_until_the_last_model_is_closed(directory):
    def train_step():
        return tf.function(lambda x: x + 1, jit_compile=True)(1.0).numpy()

    x = np.float32(1)
    with SavedModel(directory) as model:
        with SavedModel(directory), pytest.raises(SavedModelError, match="XLA compilation disabled"):
            model.run({"x": x}, "compiled")
        with pytest.raises(tf.errors.InternalError, match="XLA compilation disabled"):
            train_step()
    with SavedModel(directory, disable_xla=False) as model:
        assert model.run({"x": x}, "compiled")["y"] == 2
        assert train_step() == 2


def test_threads_share_a_model(model, columns):
    expected = model.run(columns)
    failures = []

    def call(rows):
        for _ in range(30):
            outputs = model.run({name: column[rows] for name, column in columns.items()})
            if outputs["tags"].tolist() != expected["tags"][rows].tolist():
                failures.append(rows)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(call, [slice(start, start + 25) for start in (0, 25, 50, 75)]))
    assert failures == []


def test_close_waits_for_the_calls_under_way(directory, columns):
    model = SavedModel(directory)
    started = threading.Event()

    def call():
        while True:
            try:
                model.run(columns)
            except SavedModelError as error:
                return str(error)
            finally:
                started.set()

    with ThreadPoolExecutor(4) as pool:
        calling = [pool.submit(call) for _ in range(4)]
        started.wait()
        model.close()
        model.close()
    assert [future.result() for future in calling] == [f"The model of {directory} is closed."] * 4


@pytest.mark.parametrize("order", ["alone", "tensorflow first", "tensorflow last"])
def test_with_and_without_tensorflow_in_the_process(directory, order, run_python):
    """The same library serves both, in whatever order they are loaded."""
    code = """
import sys
directory, order = sys.argv[1:]
if order == "tensorflow first":
    import tensorflow
import numpy as np
from c2al_tf.saved_model import SavedModel
with SavedModel(directory) as model:
    assert model.run({"x": np.ones(2)}, "any_rank")["double"].tolist() == [2, 2]
    assert ("tensorflow" in sys.modules) == (order == "tensorflow first")
    if order == "tensorflow last":
        import tensorflow
    if order != "alone":
        x = sys.modules["tensorflow"].constant([1.0, 2.0], "float64")
        loaded = sys.modules["tensorflow"].saved_model.load(directory).signatures["any_rank"]
        assert loaded(x=x)["double"].numpy().tolist() == [2, 4]
    assert model.run({"x": np.ones(2)}, "any_rank")["double"].tolist() == [2, 2]
    assert model.run({"text": np.array(["long" * 20], object)}, "echo")["bytes"].tolist() == [80]
"""
    run_python(code, directory, order)


def test_strings_are_given_back(model):
    from c2al_tf.saved_model import tensors

    for _ in range(3):
        model.run({"text": np.array(["long" * 20, "short"], object)}, "echo")
    assert tensors._lent == {}
