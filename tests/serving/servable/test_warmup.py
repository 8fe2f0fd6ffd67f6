import asyncio
import shutil

import pytest
import tensorflow as tf
from c2al_serving.config.batching_parameters import BatchingParameters
from c2al_serving.protocol.errors import UNIMPLEMENTED, RequestError
from c2al_serving.servable.loading import WARMUP_FILE, load_servable, read_warmup_logs
from tensorflow_serving.apis import prediction_log_pb2

from c2al_tf.saved_model import SavedModel
from c2al_tf.saved_model.session import Session


def write(path, *records):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)


@pytest.fixture
def folder(export, tmp_path):
    """A copy of a version folder, to break."""
    return shutil.copytree(export.latest, tmp_path / "1")


def test_requests_are_read_as_written(export):
    (log,) = read_warmup_logs(export.latest)
    request = log.predict_log.request
    assert request.model_spec.name == "default"
    assert set(request.inputs) == {"city", "user", "price", "tags"}


def test_a_version_without_a_file_has_none(tmp_path):
    assert list(read_warmup_logs(tmp_path)) == []


def test_requests_are_replayed_before_serving(export, folder, monkeypatch):
    calls = []
    run = SavedModel.run

    def recorded(model, inputs, signature):
        calls.append((signature, len(inputs["city"])))
        return run(model, inputs, signature)

    monkeypatch.setattr(SavedModel, "run", recorded)
    with load_servable("default", 1, folder):
        assert calls == [("serving_default", 64)]


@pytest.mark.parametrize("batching", [None, BatchingParameters()])
def test_a_request_for_one_output_finds_the_model_warm(export, monkeypatch, batching):
    with load_servable("default", 1, export.latest, batching=batching) as servable:
        monkeypatch.delattr(Session, "call")  # what prepares a set of outputs, which takes TensorFlow long
        answer = asyncio.run(servable.run(export.columns, "serving_default", ["logits"]))
    assert list(answer) == ["logits"]


def test_a_request_that_fails_fails_the_load(folder):
    request = prediction_log_pb2.PredictionLog()
    request.predict_log.request.inputs["city"].CopyFrom(tf.make_tensor_proto(["Oslo"]))
    write(folder / WARMUP_FILE, request.SerializeToString())
    with pytest.raises(ValueError, match=r"Missing but required: {price, tags, user\}"):
        load_servable("default", 1, folder)


def test_truncated_file(folder):
    path = folder / WARMUP_FILE
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ValueError, match="record 1: the file is truncated"):
        load_servable("default", 1, folder)


def test_other_contents(folder):
    write(folder / WARMUP_FILE, b"\xff\xff\xff")
    with pytest.raises(ValueError, match="record 1: not a PredictionLog"):
        list(read_warmup_logs(folder))


def test_too_many(folder):
    write(folder / WARMUP_FILE, *[prediction_log_pb2.PredictionLog().SerializeToString()] * 1001)
    with pytest.raises(ValueError, match="at most 1000"):
        list(read_warmup_logs(folder))


def test_records_without_a_request_are_skipped(folder, caplog):
    write(folder / WARMUP_FILE, prediction_log_pb2.PredictionLog().SerializeToString())
    assert list(read_warmup_logs(folder)) == []
    assert "record 1 skipped" in caplog.text


@pytest.mark.parametrize("kind", ["session_run_log", "predict_streamed_log"])
def test_what_is_not_replayed_fails_the_load(folder, kind):
    log = prediction_log_pb2.PredictionLog()
    getattr(log, kind).SetInParent()
    write(folder / WARMUP_FILE, log.SerializeToString())
    with pytest.raises(RequestError, match=f"record 1: Unsupported log_type for warmup: {kind}") as caught:
        load_servable("default", 1, folder)
    assert caught.value.code == UNIMPLEMENTED


def test_every_other_kind_is_replayed(folder):
    """Each is refused as a request would be: the model has no signature of their form."""
    for kind in ("classify_log", "regress_log", "multi_inference_log"):
        log = prediction_log_pb2.PredictionLog()
        request = getattr(log, kind).request
        if kind == "multi_inference_log":
            request.tasks.add(method_name="tensorflow/serving/classify").model_spec.name = "default"
        request.input.example_list.examples.add()
        write(folder / WARMUP_FILE, log.SerializeToString())
        with pytest.raises(ValueError, match="Expected one input Tensor"):
            load_servable("default", 1, folder)
