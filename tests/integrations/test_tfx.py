"""What a TFX Trainer's `run_fn` and an Evaluator need, and the example as it is written."""

import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from c2al_tf import Cohort, Interval, Values
from c2al_tf.integrations.tfx import (
    add_cohort_slices,
    load_transform,
    parsing_spec,
    read_examples,
    read_raw,
    tfma_config,
)

SCRIPT = Path(__file__).parents[2] / "pipelines" / "examples" / "tfx_trainer.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("tfx_trainer", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def run(example, tmp_path_factory) -> Path:
    """The folder of the example, run as written on fewer rows."""
    folder = tmp_path_factory.mktemp("tfx") / "run"
    example.main(folder, num_rows=6000, steps=60)
    return folder


def spec_of(run: Path):
    return parsing_spec(run / "transform_graph" / "transformed_metadata" / "schema.pbtxt")


def transformed(run: Path, count: int):
    return next(iter(read_examples(f"{run}/transformed/Split-eval/*", spec_of(run), count)))


def records_of(run: Path, count: int):
    return next(iter(tf.data.TFRecordDataset(tf.io.gfile.glob(f"{run}/examples/Split-eval/*"), "GZIP").batch(count)))


def test_raw_records_get_from_the_export_what_the_model_gives_transformed_ones(run, example):
    served = tf.saved_model.load(str(run / "model" / "Format-Serving"))
    records = records_of(run, 200)
    assert any("hours" not in tf.train.Example.FromString(x).features.feature for x in records.numpy())
    model = keras.saving.load_model(run / "model" / "Format-Serving" / "assets.extra" / "model.keras")
    columns = transformed(run, 200)
    expected = model({name: columns[name] for name in model.input})
    answers = served.signatures["serialized_examples"](examples=records)
    np.testing.assert_allclose(answers["logits"], expected, atol=1e-5)
    assert len(served.weights) == len(model.weights), "nothing of the cohorts"


def test_the_example_finds_the_planted_axis_and_gates_on_it(run):
    cohorts = json.loads((run / "model" / "cohorts.json").read_text())
    assert [cohort["conditions"][0]["column"] for cohort in cohorts] == ["age", "age"]
    config = (run / "eval_config.pbtxt").read_text()
    for cohort in cohorts:
        assert config.count(f'feature_values {{ key: "{cohort["name"]}" value: "1" }}') == 2, "a slice and a threshold"


def test_a_trainer_trains_its_base_model_on_the_new_rows_and_then_with_heads(run, example, tmp_path, monkeypatch):
    class HeadsTrainError(Exception):
        pass

    fits = []

    def fit(*arguments):
        fits.append(arguments)
        if len(fits) == 2:
            raise HeadsTrainError

    monkeypatch.setattr(example, "fit", fit)
    cohort = Cohort("rome", (Values("city", ("rome",)),))
    with pytest.raises(HeadsTrainError):
        example.run_fn(
            SimpleNamespace(
                train_files=[f"{run}/transformed/Split-train/*"],
                eval_files=[f"{run}/transformed/Split-eval/*"],
                train_steps=7,
                eval_steps=1,
                transform_graph_path=str(run / "transform_graph"),
                serving_model_dir=str(tmp_path / "Format-Serving"),
                base_model=str(run / "model" / "Format-Serving"),
                custom_config={"raw_files": f"{run}/examples/Split-eval/*", "cohorts": [cohort.to_json()]},
            )
        )
    (first, own_rows, own_steps), (training, rows, steps) = fits
    assert first is training.base
    assert ({*own_rows.element_spec[0]}, own_steps) == ({*first.input}, 7)
    assert ({*training.heads}, {*rows.element_spec[1]}, steps) == ({"rome"}, {"primary", "rome"}, 7)
    base = keras.saving.load_model(run / "model" / "Format-Serving" / "assets.extra" / "model.keras")
    for ours, before in zip(training.base.get_weights(), base.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, before)


def test_a_transform_gives_what_the_raw_columns_suffice_for(run):
    transform = load_transform(run / "transform_graph")
    raw = {
        name: tf.constant(values)
        for name, values in read_raw(f"{run}/examples/Split-eval/*", transform.parsing, 50).items()
    }
    whole, written = transform(raw), transformed(run, 50)
    for name, values in written.items():
        np.testing.assert_array_equal(whole[name], values)
    without = transform({name: values for name, values in raw.items() if name != "clicked"})
    assert {*written} - {*without} == {"clicked"}
    assert {*transform({"age": raw["age"]})} == {"age", "age_bucket"}
    with pytest.raises(ValueError, match=r"raw columns of the graph, \['age', .*Received: \['ago'\]"):
        transform({"ago": raw["age"]})


def test_a_cell_without_a_value_is_none_for_the_transform(run):
    transform = load_transform(run / "transform_graph")
    dense = transform({"hours": tf.constant([[float("nan"), 30.0], [float("nan"), float("nan")]])})
    sparse = transform({"hours": tf.sparse.SparseTensor([[0, 0]], [30.0], [2, 1])})
    np.testing.assert_array_equal(dense["hours_scaled"], [[-1.0], [0.0]])
    np.testing.assert_array_equal(sparse["hours_scaled"], dense["hours_scaled"])


def test_a_graph_of_another_form_is_refused(tmp_path):
    with pytest.raises(ValueError, match="Received: no saved_model.pb in"):
        load_transform(tmp_path)
    tf.saved_model.save(tf.Module(), str(tmp_path / "transform_fn"))
    with pytest.raises(ValueError, match="give Transform `force_tf_compat_v1=False`"):
        load_transform(tmp_path)


def test_a_schema_becomes_the_parsing_spec_that_transform_reads_it_as(tmp_path):
    path = tmp_path / "schema.pbtxt"
    path.write_text("""
        feature { name: "age" type: INT presence { min_fraction: 1.0 min_count: 1 } shape { dim { size: 1 } } }
        feature { name: "vector" type: FLOAT shape { dim { size: 2 } dim { size: 3 } } skew_comparator { x: 1 } }
        feature { name: "label" type: INT int_domain { min: 0 max: 1 } shape { } lifecycle_stage: PRODUCTION }
        feature { name: "tags" type: BYTES value_count { min: 1 max: 4 } domain: "tags" }
        feature { name: "old" type: BYTES lifecycle_stage: DEPRECATED }
        feature { name: "planned" type: STRUCT lifecycle_stage: PLANNED }
        string_domain { name: "tags" value: "a" }
        tensor_representation_group { key: "" value { tensor_representation {
            key: "tags" value { varlen_sparse_tensor { column_name: "tags" } } } } }
    """)
    assert parsing_spec(path) == {
        "age": tf.io.FixedLenFeature([1], tf.int64),
        "vector": tf.io.FixedLenFeature([2, 3], tf.float32),
        "label": tf.io.FixedLenFeature([], tf.int64),
        "tags": tf.io.VarLenFeature(tf.string),
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('feature { name: "a" type: STRUCT }', r"Received: \['a'\]"),
        (
            'feature { name: "a" type: INT } tensor_representation_group { key: "" value { tensor_representation { '
            'key: "r" value { ragged_tensor { feature_path { step: "a" } } } } } }',
            r"Received: \['r'\]",
        ),
        ("", "with features"),
        ("feature: 3", "not a schema"),
    ],
)
def test_a_schema_that_would_be_read_wrongly_is_refused(text, message, tmp_path):
    (tmp_path / "schema.pbtxt").write_text(text)
    with pytest.raises(ValueError, match=message):
        parsing_spec(tmp_path / "schema.pbtxt")


def test_records_come_in_batches_with_their_label(run):
    rows = read_examples(f"{run}/transformed/Split-eval/*", spec_of(run), 2000, label_key="clicked")
    sizes = [(len(x["age"]), y.shape, y.dtype, "clicked" in x) for x, y in rows]
    assert sizes == [(2000, (2000, 1), tf.float32, False), (1000, (1000, 1), tf.float32, False)]
    with pytest.raises(ValueError, match=r"Received: \['.*/nothing-\*'\]"):
        read_examples(f"{run}/nothing-*", spec_of(run), 10)
    with pytest.raises(ValueError, match="Received: label_key='city'"):
        read_examples(f"{run}/transformed/Split-eval/*", spec_of(run), 10, label_key="city")


def test_slices_of_one_value_are_those_of_the_raw_column_and_others_of_an_added_one():
    rome = Cohort("roman", (Values("city", ('ro"me',)), Values("kind", (3,))))
    young, cities = Cohort("young", (Interval("age", high=30),)), Cohort("cities", (Values("city", ("bonn", "oslo")),))
    config = tfma_config([rome, young, cities], "clicked", max_increase=0.001)
    slices = [line for line in config.splitlines() if line.startswith("slicing_specs")]
    assert slices == [
        "slicing_specs {  }",
        r'slicing_specs { feature_values { key: "city" value: "ro\"me" } feature_values { key: "kind" value: "3" } }',
        'slicing_specs { feature_values { key: "young" value: "1" } }',
        'slicing_specs { feature_values { key: "cities" value: "1" } }',
    ]
    assert config.count("relative { value: 0.001 }") == 4
    with pytest.raises(ValueError, match="Received: max_increase=-1"):
        tfma_config([], "clicked", max_increase=-1)


def test_the_added_column_of_a_row_is_its_membership():
    cohort = Cohort("young_romans", (Interval("age", high=30), Values("city", ("rome", "roma"))))
    ages, cities = np.array([20, 30, 20, 20]), np.array(["rome", "rome", "bonn", "roma"], object)
    wanted = cohort.contains({"age": ages, "city": cities})
    for age, city, member in zip(ages, cities, wanted, strict=True):
        for text in (city, city.encode()):
            row = {"features": {"age": np.array([age]), "city": np.array([text], object)}, "labels": 1}
            added = add_cohort_slices(row, [cohort])
            assert added["features"].pop("young_romans").tolist() == [int(member)]
            assert added == row
    for nothing in (None, np.array([], object)):
        row = {"features": {"age": np.array([20]), "city": nothing}}
        assert add_cohort_slices(row, [cohort])["features"]["young_romans"].tolist() == [0]
