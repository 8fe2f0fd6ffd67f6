import dataclasses
import json
import shlex
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from c2al_serving.config.model_config import ModelConfig as ServedModel
from c2al_serving.interfaces.event_loop import wait_for
from c2al_serving.interfaces.rest import answer
from c2al_serving.lifecycle.models import Models

from c2al_tf.backbones import BACKBONES
from c2al_tf.config import ModelConfig
from c2al_tf.data.columns.readers import read_columns
from c2al_tf.data.columns.wire import to_examples
from c2al_tf.data.inputs.dataset import make_dataset
from c2al_tf.data.inputs.features import FeatureEncoder
from c2al_tf.export import export_for_serving
from c2al_tf.export.facts import ExportError, check_facts, inspect_export
from c2al_tf.layers import freeze_attention
from c2al_tf.model import build_model
from c2al_tf.saved_model import SavedModel
from c2al_tf.training import predict

CONFIG = ModelConfig(
    embedding_dim=4, num_blocks=1, num_outputs=2, attention_units=4, shared_units=(8,), head_units=(5,), dropout=0.1
)


@pytest.fixture(scope="module")
def models(small_schema, small_file, small_cohorts) -> dict[str, keras.Model]:
    """Both arms, with an optimizer that has slots; the one to be exported has predicted with XLA."""
    made = {}
    for arm, cohorts in (("baseline", ()), ("c2al", small_cohorts)):
        keras.utils.set_random_seed(1 + len(cohorts))
        model = build_model(small_schema, CONFIG, cohorts=[cohort.name for cohort in cohorts])
        model.compile(optimizer="adam")
        model.optimizer.build(model.trainable_variables)
        for bias in (weight for weight in model.weights if weight.name == "bias"):
            bias.assign(keras.random.normal(bias.shape, seed=len(cohorts)))
        made[arm] = model
    predict(made["c2al"], make_dataset(small_file, small_schema, 100), 100)
    return made


@pytest.fixture(scope="module")
def exported(models, small_schema, small_rows, tmp_path_factory):
    base = tmp_path_factory.mktemp("export")
    arguments = {"sample": small_rows(200), "reference": models["baseline"], "encoder": FeatureEncoder(small_schema)}
    return export_for_serving(models["c2al"], base, schema=small_schema, **arguments)


@pytest.mark.parametrize(
    "backbone",
    [pytest.param(name, marks=() if name == "dhen" else pytest.mark.slow) for name in BACKBONES],
)
def test_every_backbone_is_served(backbone: str, small_schema, small_rows, tmp_path) -> None:
    config = dataclasses.replace(CONFIG, backbone=backbone)
    model = build_model(small_schema, config, cohorts=("young",))
    if backbone == "dhen":  # also served as one that was never frozen or penalized
        penalized = dataclasses.replace(config, density_penalty=1.0)
        model = build_model(small_schema, penalized, cohorts=("young",))
        freeze_attention(model, "activations")
    arguments = {"sample": small_rows(20), "encoder": FeatureEncoder(small_schema)}
    reference = build_model(small_schema, config)
    exported = export_for_serving(model, tmp_path, schema=small_schema, reference=reference, **arguments)
    rows = small_rows(33, seed=9)
    with SavedModel(exported.directory) as served:
        logits = served.run(features(rows, small_schema))["logits"]
    np.testing.assert_allclose(logits, logits_of(model, small_schema, rows), rtol=0, atol=1e-5)


def features(rows: dict, schema) -> dict:
    return {feature.name: rows[feature.name] for feature in schema.features}


def logits_of(model: keras.Model, schema, rows: dict) -> np.ndarray:
    x = FeatureEncoder(schema)({name: tf.constant(values) for name, values in features(rows, schema).items()})
    return np.asarray(model(x, training=False)["primary"])


def test_the_export_gives_the_models_logits(exported, models, small_schema, small_rows) -> None:
    """Properties 6 and 7: raw rows in, through TensorFlow's C++ loader with XLA off, within 1e-5."""
    rows = small_rows(333, seed=9)
    with SavedModel(exported.directory) as served:
        outputs = served.run(features(rows, small_schema))
    assert {name: (values.dtype, values.shape) for name, values in outputs.items()} == {
        "logits": (np.float32, (333, 1)),
        "probabilities": (np.float32, (333, 1)),
    }
    np.testing.assert_allclose(outputs["logits"], logits_of(models["c2al"], small_schema, rows), rtol=0, atol=1e-5)
    np.testing.assert_allclose(outputs["probabilities"], 1 / (1 + np.exp(-outputs["logits"])), rtol=1e-5)


def test_serialized_examples_give_the_same(exported, small_schema, small_rows) -> None:
    rows = features(small_rows(50, seed=9), small_schema)
    examples = np.array(to_examples(rows, {f.name: f.column for f in small_schema.features}), object)
    with SavedModel(exported.directory) as served:
        by_example = served.run({"examples": examples}, "serialized_examples")
        np.testing.assert_allclose(by_example["logits"], served.run(rows)["logits"], rtol=1e-6, atol=1e-6)


def test_the_bytes_of_a_training_file_are_answered_as_the_rows_read_from_it(exported, small_schema, tmp_path) -> None:
    """Numbers as integers, as floats, without values and absent, each with a label as the reader wants it."""
    path, records = tmp_path / "rows.tfrecord", []
    ages = [("int64_list", [30]), ("float_list", [49.5]), ("int64_list", [2**53 + 1]), ("int64_list", []), (None, [])]
    for row, (kind, values) in enumerate(ages):
        example = tf.train.Example()
        example.features.feature["color"].bytes_list.value.append([b"red", b"green"][row % 2])
        example.features.feature["user"].int64_list.value.append(row)
        example.features.feature["tags"].bytes_list.value.extend([b"a", b"b"][: row % 3])
        if kind:
            getattr(example.features.feature["age"], kind).value.extend(values)
            getattr(example.features.feature["age"], kind).SetInParent()
        records.append(example.SerializeToString())
    for order in (range(5), range(4, -1, -1), [1, 1], [0, 0]):
        with tf.io.TFRecordWriter(str(path)) as writer:
            for row in order:
                writer.write(records[row])
        columns = {feature.name: feature.column for feature in small_schema.features}
        (rows,) = read_columns(path, columns)
        with SavedModel(exported.directory) as served:
            examples = np.array([records[row] for row in order], object)
            by_example = served.run({"examples": examples}, "serialized_examples")
            np.testing.assert_allclose(by_example["logits"], served.run(rows)["logits"], rtol=1e-6, atol=1e-6)


def ask(models, path, body):
    """What a POST over REST gets."""
    return json.loads(wait_for(answer(models, "POST", path, body.encode())))


def test_a_whole_number_in_json_is_a_number(exported) -> None:
    """REST makes an int64_list of it, also where the column is float32."""
    url = "/v1/models/default:regress"
    with Models([ServedModel("default", exported.directory.parent)], poll_seconds=None) as models:
        results = []
        for ages in ("30, 49.5", "30.0, 49.5"):
            examples = ", ".join(f'{{"age": {age}, "user": 7, "color": "red"}}' for age in ages.split(", "))
            body = f'{{"signature_name": "regress", "examples": [{examples}]}}'
            results.append(ask(models, url, body)["results"])
    assert results[0] == results[1]
    assert results[0][0] != results[0][1]


def test_classify_and_regress_give_the_probabilities(exported, small_schema, small_rows) -> None:
    rows = features(small_rows(50, seed=9), small_schema)
    examples = np.array(to_examples(rows, {f.name: f.column for f in small_schema.features}), object)
    with SavedModel(exported.directory) as served:
        probabilities = served.run({"examples": examples}, "serialized_examples")["probabilities"]
        classified, regressed = (served.run({"inputs": examples}, name) for name in ("classify", "regress"))
        methods = {name: signature.method_name for name, signature in served.signatures.items()}
    assert methods == {
        "classify": "tensorflow/serving/classify",
        "regress": "tensorflow/serving/regress",
        "serialized_examples": "tensorflow/serving/predict",
        "serving_default": "tensorflow/serving/predict",
    }
    assert classified["classes"].tolist() == [[b"0", b"1"]] * 50
    assert (classified["scores"].dtype, regressed["outputs"].dtype) == (np.float32, np.float32)
    np.testing.assert_allclose(classified["scores"], np.hstack([1 - probabilities, probabilities]), rtol=1e-6)
    np.testing.assert_allclose(regressed["outputs"], probabilities, rtol=1e-6)


def test_signatures_of_examples_share_one_call(exported) -> None:
    """So MultiInference computes the model once, and the graph holds it twice, not four times."""
    with SavedModel(exported.directory) as served:
        inputs = {name: signature.inputs for name, signature in served.signatures.items()}
        examples = np.array([b"", b""], object)
        together = served.run_together({"inputs": examples}, {"classify": ["scores"], "regress": ["outputs"]})
    of_examples = {inputs["serialized_examples"]["examples"].tensor}
    assert {inputs[name]["inputs"].tensor for name in ("classify", "regress")} == of_examples
    np.testing.assert_array_equal(together["classify"]["scores"][:, 1:], together["regress"]["outputs"])
    loaded = tf.saved_model.load(str(exported.directory))
    assert sorted(loaded.signatures) == ["serialized_examples", "serving_default"]


def test_the_fingerprint_is_that_of_the_file(exported, tmp_path) -> None:
    from tensorflow.python.saved_model import fingerprinting_utils

    stored = tf.saved_model.experimental.read_fingerprint(str(exported.directory))
    copy = shutil.copytree(exported.directory, tmp_path / "copy")
    (copy / "fingerprint.pb").unlink()
    fingerprinting_utils.write_fingerprint(str(copy))
    assert tf.saved_model.experimental.read_fingerprint(str(copy)).saved_model_checksum == stored.saved_model_checksum


def test_the_readme_names_all_that_goes_in_and_out(exported, small_schema) -> None:
    text = (exported.directory / "assets.extra" / "README.md").read_text()
    with SavedModel(exported.directory) as served:
        for name, signature in served.signatures.items():
            part = text[text.index(f"## `{name}`") :].split("\n## ")[0]
            for key, spec in {**signature.inputs, **signature.outputs}.items():
                dtype, shape = str(spec).split(" ", 1)
                assert f"| `{key}` | {dtype} | `{shape}` | " in part
    assert '3 known ones; any other is taken as out of vocabulary, as in training; `""` is no value' in text
    assert "any, hashed to 50 buckets; `-9223372036854775808` is no value, which no training row had" in text
    assert 'up to 2 a row, padded with `""`' in text
    assert "numbers; `NaN` or an infinite one is no value" in text
    assert "float32 in `float_list` or `int64_list`, which may differ from row to row" in text


def test_the_readmes_requests_are_answered(exported, small_rows, small_schema) -> None:
    text = (exported.directory / "assets.extra" / "README.md").read_text()
    lines = [shlex.split(line) for line in text.splitlines() if line.startswith("    curl ")]
    with Models([ServedModel("default", exported.directory.parent)], poll_seconds=None) as models:
        answers = [ask(models, line[1].removeprefix("localhost:8501"), line[3]) for line in lines]
    with SavedModel(exported.directory) as served:
        p = served.run(features(small_rows(200), small_schema))["probabilities"][0, 0]
    predicted, (((label, score), (_, one)),), (regressed,) = (
        answers[0]["predictions"],
        *(a["results"] for a in answers[1:]),
    )
    assert label == "0"
    np.testing.assert_allclose([predicted[0]["probabilities"][0], 1 - score, one, regressed], p, rtol=1e-6)


def test_unknown_and_missing_values_are_answered(exported, small_schema, small_rows) -> None:
    rows = features(small_rows(3), small_schema)
    rows["color"] = np.array(["never seen", "", "red"], object)
    rows["age"] = np.array([np.nan, np.inf, 1e9], np.float32)
    with SavedModel(exported.directory) as served:
        assert np.isfinite(served.run(rows)["logits"]).all()


def test_differs_from_the_baselines_export_in_its_weights_only(exported, models, small_schema) -> None:
    """Property 6."""
    facts, reference = exported.facts, exported.reference
    assert (facts.nodes, facts.variables, facts.variable_bytes) == (
        reference.nodes,
        reference.variables,
        reference.variable_bytes,
    )
    assert abs(facts.total_bytes / reference.total_bytes - 1) < 0.01
    assert facts.must_compile == 0


def test_every_variable_once_and_no_auxiliary_one(exported, models) -> None:
    stored = sum(np.prod(shape) for shape, dtype in exported.facts.variables)
    assert stored == models["baseline"].count_params()
    assert models["c2al"].count_params() > stored
    graph = (exported.directory / "saved_model.pb").read_bytes()
    assert b"young" not in graph
    assert b"task_primary" in graph or b"primary" in graph


def test_warm_up_requests_are_for_each_signature(exported) -> None:
    from tensorflow_serving.apis import prediction_log_pb2

    records = tf.data.TFRecordDataset(str(exported.directory / "assets.extra" / "tf_serving_warmup_requests"))
    logs = [prediction_log_pb2.PredictionLog.FromString(record.numpy()) for record in records]
    kinds = [log.WhichOneof("log_type") for log in logs]
    names = [getattr(log, kind).request.model_spec.signature_name for log, kind in zip(logs, kinds, strict=True)]
    assert names == ["classify", "regress", "serialized_examples", "serving_default"] * 2
    assert kinds == ["classify_log", "regress_log", "predict_log", "predict_log"] * 2
    assert [len(log.regress_log.request.input.example_list.examples) for log in logs[1::4]] == [1, 64]


def test_versions_count_up_and_are_never_overwritten(models, small_schema, small_rows, tmp_path) -> None:
    arguments = {"sample": small_rows(5), "reference": models["baseline"], "encoder": FeatureEncoder(small_schema)}
    (tmp_path / "7").mkdir()
    first = export_for_serving(models["c2al"], tmp_path, schema=small_schema, **arguments)
    assert first.directory == tmp_path / "8"
    with pytest.raises(ValueError, match="a version is never overwritten. Received: version=8, which exists"):
        export_for_serving(models["c2al"], tmp_path, schema=small_schema, version=8, **arguments)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["7", "8"]


def test_nothing_is_published_that_is_not_the_reference(models, small_schema, small_rows, tmp_path) -> None:
    other = build_model(small_schema, ModelConfig(**{**vars(CONFIG), "shared_units": (9,)}))
    with pytest.raises(ExportError, match="The export's variables must be the reference's"):
        arguments = {"sample": small_rows(5), "reference": other, "encoder": FeatureEncoder(small_schema)}
        export_for_serving(models["c2al"], tmp_path, schema=small_schema, **arguments)
    assert list(tmp_path.iterdir()) == []


def test_an_auxiliary_head_left_in_is_refused(models, small_schema, small_rows, tmp_path, monkeypatch) -> None:
    """The proof itself: without stripping, the export is refused."""
    from c2al_tf.export import publish as module

    monkeypatch.setattr(module, "strip_auxiliary_heads", lambda model: model)
    with pytest.raises(ExportError, match="auxiliary heads, optimizer slots and copies do not belong there"):
        arguments = {"sample": small_rows(5), "reference": models["baseline"], "encoder": FeatureEncoder(small_schema)}
        export_for_serving(models["c2al"], tmp_path, schema=small_schema, **arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_node_that_forces_xla_is_found(tmp_path) -> None:
    module = tf.Module()
    module.v = tf.Variable(2.0)
    module.f = tf.function(lambda x: x * module.v, jit_compile=True, input_signature=[tf.TensorSpec((None,))])
    tf.saved_model.save(module, str(tmp_path))
    facts = inspect_export(tmp_path)
    assert facts.must_compile > 0
    with pytest.raises(ExportError, match="No node may carry `_XlaMustCompile`"):
        check_facts(facts, facts)


def test_several_primary_tasks(small_rows, tmp_path) -> None:
    """Of one feature: no other column, with which it is joined, refuses one of another rank."""
    from c2al_tf.schema import NumericFeature, Schema

    schema = Schema((NumericFeature("age", boundaries=(30.0,)),), labels=("click", "buy"))
    config = dataclasses.replace(CONFIG, backbone="mlp")
    models = [build_model(schema, config, primary=("click", "buy"), cohorts=cohorts) for cohorts in (("old",), ())]
    sample, encoder = {"age": np.array([20.0, 40.0], np.float32)}, FeatureEncoder(schema)
    export = export_for_serving(models[0], tmp_path, schema=schema, sample=sample, reference=models[1], encoder=encoder)
    with SavedModel(export.directory) as served:
        assert set(served.signatures["serving_default"].outputs) == {
            "click_logits", "click_probabilities", "buy_logits", "buy_probabilities"
        }  # fmt: skip
        assert set(served.signatures) == {
            "serving_default", "serialized_examples", "click_classify", "click_regress", "buy_classify", "buy_regress"
        }  # fmt: skip
        empty = {"inputs": np.array([b""], object)}
        outputs = served.run({"examples": empty["inputs"]}, "serialized_examples")
        for task in ("click", "buy"):
            np.testing.assert_allclose(
                served.run(empty, f"{task}_regress")["outputs"], outputs[f"{task}_probabilities"], rtol=1e-6
            )
            np.testing.assert_allclose(
                served.run(empty, f"{task}_classify")["scores"][:, 1:], outputs[f"{task}_probabilities"], rtol=1e-6
            )
    text = (export.directory / "assets.extra" / "README.md").read_text()
    assert "| `buy_logits` | float32 | `(?, 1)` | log-odds that `buy` is 1 |" in text
    assert "| `outputs` | float32 | `(?, 1)` | probability that `buy` is 1 |" in text.split("## `buy_regress`")[1]
    assert "| `outputs` | float32 | `(?, 1)` | probability that `click` is 1 |" in text.split("## `click_regress`")[1]
