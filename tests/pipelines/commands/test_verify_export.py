"""`c2al verify-export` on a real export, and on exports that are broken in one way each."""

import json
import shutil

import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2


@pytest.fixture(scope="module")
def version(finished):
    return next(path for path in (finished.path / "export").iterdir() if path.name.isdecimal())


@pytest.fixture
def copy(version, tmp_path):
    return shutil.copytree(version, tmp_path / "1")


def test_a_good_export(c2al, version, tmp_path) -> None:
    outcome = c2al("verify-export", version, "--against", version, "--json", tmp_path / "verdict.json")
    assert outcome.status == 0, outcome.error
    assert "Verdict: good" in outcome.output
    checks = json.loads((tmp_path / "verdict.json").read_text())
    assert all(check["passed"] for check in checks)
    what = "\n".join(check["what"] for check in checks)
    for signature in ("serving_default", "serialized_examples", "classify", "regress"):
        for said in ("0 rows", "1 rows", "7 rows", "4,096 rows", "another dtype", "another rank"):
            assert any(line.startswith(f"{signature}: ") and said in line for line in what.splitlines()), said
    assert what.count("refuses a call without an input") == 2, "columns, and serialized tf.Examples"


def _without(name):
    return lambda folder: (folder / name).unlink()


def _truncated(name):
    def cut(folder):
        file = folder / name
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])

    return cut


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_without("saved_model.pb"), "not a SavedModel: it has no saved_model.pb"),
        (_without("variables/variables.index"), "incomplete SavedModel: it has no variables/variables.index"),
        (_without("variables/variables.data-00000-of-00001"), "variables.data-00000-of-00001"),
        (_truncated("saved_model.pb"), "Read less bytes than requested"),
        (_truncated("variables/variables.data-00000-of-00001"), "Read less bytes than requested"),
        (_truncated("assets.extra/tf_serving_warmup_requests"), "the file is truncated"),
    ],
)
def test_a_half_copied_version(c2al, copy, tmp_path, spoil, message) -> None:
    spoil(copy)
    outcome = c2al("verify-export", copy, "--json", tmp_path / "verdict.json")
    assert outcome.status == 1
    assert "1 of 1 checks failed" in outcome.error
    assert message in json.loads((tmp_path / "verdict.json").read_text())[0]["found"]


X = tf.TensorSpec((None,), tf.float32, "x")


def column(x):
    """(rows,) to (rows, 1), of one rank alone."""
    return tf.ensure_shape(x, (None,))[:, tf.newaxis]


def rows_mixed(x):
    """A row's output depends on the other rows of its batch, as one must not."""
    return column(x + tf.cast(tf.size(x), tf.float32))


def empty_refused(x):
    with tf.control_dependencies([tf.debugging.Assert(tf.size(x) > 0, ["no rows"])]):
        return column(x)


def single_not_finite(x):
    return column(x / tf.cast(tf.size(x) != 1, tf.float32))


def large_refused(x):
    with tf.control_dependencies([tf.debugging.Assert(tf.size(x) < 1000, ["too many rows"])]):
        return column(x)


def never_answers(x):
    with tf.control_dependencies([tf.debugging.Assert(tf.size(x) < 0, ["never"])]):
        return column(x)


def any_rank(x):
    return 2 * x


def any_input(x):
    """What the input is does not matter: it is not read."""
    return tf.zeros((1, 1))


def save(folder, function, **options) -> None:
    module = tf.Module()
    module.serve = tf.function(lambda x: {"logits": function(x)}, input_signature=[X], **options)
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.serve})


def edit(folder, change) -> None:
    """Changes the stored definition of the signature."""
    path = folder / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    change(saved.meta_graphs[0].signature_def["serving_default"])
    path.write_bytes(saved.SerializeToString())


def output_said_to_be_double(signature) -> None:
    signature.outputs["logits"].dtype = tf.float64.as_datatype_enum


@pytest.mark.parametrize(
    ("function", "options", "change", "what"),
    [
        (never_answers, {}, None, "serving_default: answers"),
        (column, {}, output_said_to_be_double, "serving_default: outputs have the declared dtypes"),
        (empty_refused, {}, None, "serving_default: 0 rows get what each gets"),
        (single_not_finite, {}, None, "serving_default: 1 rows get what each gets"),
        (rows_mixed, {}, None, "serving_default: 7 rows get what each gets"),
        (large_refused, {}, None, "serving_default: 4,096 rows get what each gets"),
        (any_input, {}, None, "serving_default: refuses a call without an input"),
        (any_rank, {}, None, "serving_default: refuses a call with another rank of an input"),
        (column, {"jit_compile": True}, None, "no node forces XLA"),
    ],
)
def test_each_line_of_the_verdict_falls_for_an_export_that_breaks_it(
    c2al, tmp_path, function, options, change, what
) -> None:
    save(tmp_path / "1", function, **options)
    if change:
        edit(tmp_path / "1", change)
    outcome = c2al("verify-export", tmp_path / "1", "--json", tmp_path / "verdict.json")
    assert outcome.status == 1
    failed = [check["what"] for check in json.loads((tmp_path / "verdict.json").read_text()) if not check["passed"]]
    assert any(line.startswith(what) for line in failed), failed


def value_by_default(graph) -> None:
    """An input that has a value where a request gives none."""
    (node,) = [node for node in graph.node if node.name == "serving_default_b"]
    node.op = "PlaceholderWithDefault"
    node.input.append("default")
    default = graph.node.add(name="default", op="Const")
    default.attr["dtype"].type = tf.float32.as_datatype_enum
    default.attr["value"].tensor.CopyFrom(tf.make_tensor_proto([0.0]))


@pytest.mark.parametrize(
    ("reads", "b_shape", "change", "what", "found"),
    [
        (lambda a, b: a, None, None, "without an input, tried with 2", "TensorFlow answers in spite of b"),
        (
            lambda a, b: a + b,
            (None,),
            value_by_default,
            "without an input, tried with 2",
            "TensorFlow answers in spite of b",
        ),
        (
            lambda a, b: a,
            (None,),
            None,
            "with another rank of an input, tried with 2",
            "TensorFlow answers in spite of b",
        ),
        (lambda a, b: a + b, (None,), None, None, None),
    ],
    ids=["not read, of any rank", "by default", "not read", "good"],
)
def test_one_of_two_inputs_that_a_request_need_not_give(c2al, tmp_path, reads, b_shape, change, what, found) -> None:
    module = tf.Module()
    specs = [tf.TensorSpec(shape, tf.float32, name) for name, shape in (("a", (None,)), ("b", b_shape))]
    module.serve = tf.function(lambda a, b: {"logits": column(reads(a, b))}, input_signature=specs)
    tf.saved_model.save(module, str(tmp_path / "1"), signatures={"serving_default": module.serve})
    if change:
        path = tmp_path / "1" / "saved_model.pb"
        saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
        change(saved.meta_graphs[0].graph_def)
        path.write_bytes(saved.SerializeToString())
    outcome = c2al("verify-export", tmp_path / "1", "--json", tmp_path / "verdict.json")
    failed = [check for check in json.loads((tmp_path / "verdict.json").read_text()) if not check["passed"]]
    assert outcome.status == (1 if what else 0)
    assert [(check["what"], check["found"]) for check in failed] == (
        [(f"serving_default: refuses a call {what}", found)] if what else []
    )


def test_an_input_of_another_dtype_than_declared(c2al, tmp_path) -> None:
    """The signature declares float32 and names a tensor of strings."""
    save(tmp_path / "1", any_input)
    path = tmp_path / "1" / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    node = saved.meta_graphs[0].graph_def.node.add(name="strings", op="Placeholder")
    node.attr["dtype"].type = tf.string.as_datatype_enum
    node.attr["shape"].shape.unknown_rank = True
    saved.meta_graphs[0].signature_def["serving_default"].inputs["x"].name = "strings:0"
    path.write_bytes(saved.SerializeToString())
    outcome = c2al("verify-export", tmp_path / "1", "--json", tmp_path / "verdict.json")
    assert outcome.status == 1
    failed = [check["what"] for check in json.loads((tmp_path / "verdict.json").read_text()) if not check["passed"]]
    assert any(line.startswith("serving_default: refuses a call with another dtype") for line in failed), failed


def test_a_warm_up_request_that_the_model_refuses(c2al, copy, tmp_path) -> None:
    """The export's own requests, beside a model of other inputs."""
    save(tmp_path / "other", column)
    shutil.copytree(copy / "assets.extra", tmp_path / "other" / "assets.extra")
    outcome = c2al("verify-export", tmp_path / "other", "--json", tmp_path / "verdict.json")
    assert outcome.status == 1
    (check,) = json.loads((tmp_path / "verdict.json").read_text())
    assert check["what"] == "loads on the C++ loader with XLA off, and answers its warm-up requests"


def test_another_model_than_the_baseline(c2al, version, tmp_path) -> None:
    save(tmp_path / "1", column)
    outcome = c2al("verify-export", version, "--against", tmp_path / "1", "--json", tmp_path / "verdict.json")
    assert outcome.status == 1
    (failed,) = (check for check in json.loads((tmp_path / "verdict.json").read_text()) if not check["passed"])
    assert "The export's variables must be the reference's" in failed["found"]
