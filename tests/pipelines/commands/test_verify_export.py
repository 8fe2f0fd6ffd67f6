"""`c2al verify-export` on a real export, and on exports that are broken in one way each."""

import json
import shutil

import pytest
import tensorflow as tf


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
        for said in ("0 rows", "4,096 rows", "without", "another dtype", "another rank", "an input that it has not"):
            assert any(line.startswith(f"{signature}: ") and said in line for line in what.splitlines()), said


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


class _RowsMixed(tf.Module):
    """A row's output depends on the other rows of its batch, as one must not."""

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.float32, "x")])
    def serve(self, x):
        return {"logits": (x + tf.cast(tf.size(x), tf.float32))[:, tf.newaxis]}


class _Compiled(tf.Module):
    """It forces XLA, which the server has off."""

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.float32, "x")], jit_compile=True)
    def serve(self, x):
        return {"logits": x[:, tf.newaxis]}


@pytest.mark.parametrize(
    ("module", "what"), [(_RowsMixed, "4,096 rows get what each gets"), (_Compiled, "serving_default: answers")]
)
def test_a_model_that_no_server_should_have(c2al, tmp_path, module, what) -> None:
    made = module()
    tf.saved_model.save(made, str(tmp_path / "1"), signatures={"serving_default": made.serve})
    outcome = c2al("verify-export", tmp_path / "1", "--json", tmp_path / "verdict.json")
    assert outcome.status == 1
    failed = [check["what"] for check in json.loads((tmp_path / "verdict.json").read_text()) if not check["passed"]]
    assert any(what in name for name in failed), failed


def test_another_model_than_the_baseline(c2al, version, tmp_path) -> None:
    made = _RowsMixed()
    tf.saved_model.save(made, str(tmp_path / "1"), signatures={"serving_default": made.serve})
    outcome = c2al("verify-export", version, "--against", tmp_path / "1", "--json", tmp_path / "verdict.json")
    assert outcome.status == 1
    (failed,) = (check for check in json.loads((tmp_path / "verdict.json").read_text()) if not check["passed"])
    assert "The export's variables must be the reference's" in failed["found"]
