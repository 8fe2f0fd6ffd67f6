"""The module file of a TFX Trainer that trains with cohort heads, and a world to see it run in, without TFX.

    .venv/bin/python pipelines/examples/tfx_trainer.py

`run_fn` is what TFX calls. `make_model`, `LABEL`, `AXES` and the numbers below them are yours to change; the lines that
a team adds to its own `run_fn` end in `# C2AL`. `main` writes, with TensorFlow alone, what a Transform component leaves
behind (its graph, its schema, transformed records), made up, calls `run_fn` with it and asks the SavedModel.
"""

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import c2al_tf
from c2al_tf.files import publish, read_json, write_json
from c2al_tf.integrations.tfx import load_transform, parsing_spec, read_examples, read_raw, tfma_config

LABEL = "clicked"
AXES = [c2al_tf.Axis(("age",), edges={"age": (18, 30, 50, 99)}), c2al_tf.Axis(("city",))]
"""What cohorts are cut along: columns that Transform passes through under their raw names."""
BATCH_SIZE = 256
WEIGHT = 0.1


def make_model(spec: Mapping[str, Any]) -> keras.Model:
    """Maps transformed columns by name to logits (batch, 1)."""
    inputs = {
        name: keras.Input(spec[name].shape, dtype=spec[name].dtype.name, name=name)
        for name in ("age_bucket", "city_id", "hours_scaled")
    }
    parts = [
        keras.layers.Flatten()(keras.layers.Embedding(5, 8)(inputs["age_bucket"])),
        keras.layers.Flatten()(keras.layers.Embedding(4, 8)(inputs["city_id"])),
        inputs["hours_scaled"],
    ]
    h = keras.layers.Dense(32, "relu")(keras.layers.Concatenate()(parts))
    return keras.Model(inputs, keras.layers.Dense(1)(keras.layers.Dense(16, "relu")(h)))


def run_fn(fn_args: Any) -> None:
    """Trains, by what TFX says: `tfx.components.FnArgs`.

    Reads `train_files`, `eval_files`, `train_steps`, `eval_steps`, `transform_graph_path`, `serving_model_dir`,
    `base_model` (a model of this `run_fn`, to go on from) and of `custom_config`

        raw_files   patterns of raw tf.Examples: the export is proved and warmed up with some; Transform hands none on
        cohorts     the content of an earlier cohorts.json: these get heads, nothing is looked for (optional)
    """
    config = fn_args.custom_config or {}
    transform = load_transform(fn_args.transform_graph_path)
    sample = read_raw(config["raw_files"], transform.parsing, 256)
    del sample[LABEL]  # A request has none.
    spec = parsing_spec(f"{fn_args.transform_graph_path}/transformed_metadata/schema.pbtxt")
    train = read_examples(fn_args.train_files, spec, BATCH_SIZE, label_key=LABEL, shuffle_rows=10_000).repeat()
    validation = read_examples(fn_args.eval_files, spec, BATCH_SIZE, label_key=LABEL).take(fn_args.eval_steps or -1)

    if fn_args.base_model:
        model = keras.saving.load_model(Path(fn_args.base_model) / "assets.extra" / "model.keras")
    else:
        model = make_model(spec)
    fit(model, train.map(lambda x, y: ({name: x[name] for name in model.input}, y)), fn_args.train_steps)

    given = [c2al_tf.Cohort.from_json(each) for each in config.get("cohorts", ())]  # C2AL
    cohorts = given or find_cohorts(model, validation)  # C2AL
    if cohorts:  # C2AL
        names = [cohort.name for cohort in cohorts]  # C2AL
        training = c2al_tf.with_cohort_heads(model, None, names, weight=WEIGHT)  # C2AL
        rows = c2al_tf.add_cohort_labels(train, cohorts, keep=model)  # C2AL
        fit(training, rows, fn_args.train_steps)  # C2AL

    serving = Path(fn_args.serving_model_dir)
    with tempfile.TemporaryDirectory(dir=serving.parent) as base:
        export = c2al_tf.export_for_serving(
            model, base, sample=sample, preprocess=transform, parsing=transform.parsing, from_logits=True
        )
        model.save(export.directory / "assets.extra" / "model.keras")  # The next `base_model`.
        publish(export.directory, serving)
    write_json(serving.parent / "cohorts.json", [cohort.to_json() for cohort in cohorts])  # C2AL


def find_cohorts(model: keras.Model, validation: tf.data.Dataset) -> Sequence[c2al_tf.Cohort]:
    """The pair that the model treats most differently, none if no pair passes."""
    names = [name for axis in AXES for name in axis.columns]
    predictions, columns, labels = c2al_tf.predict_columns(model, validation, names, from_logits=True)
    found = c2al_tf.discover_cohorts(predictions, columns, AXES, labels=labels)
    accepted = any(pair.accepted for pair in found.pairs)
    cohorts = found.best.cohorts if accepted else ()
    print("cohorts:", *(cohorts or ["no pair passes: the model stays as it is"]), sep="\n- ")
    return cohorts


def fit(model: keras.Model, rows: tf.data.Dataset, steps: int) -> None:
    """Trains for a number of steps, with a progress bar."""
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.003), loss=loss, jit_compile=False)
    model.fit(rows, steps_per_epoch=steps, shuffle=False)


class Preprocessing(tf.Module):
    """In the place of tf.Transform's graph: a SavedModel with the same function `transform_fn`."""

    def __init__(self, vocabulary: Path) -> None:
        super().__init__()
        file = tf.lookup.TextFileInitializer(
            *(str(vocabulary), tf.string, tf.lookup.TextFileIndex.WHOLE_LINE),
            *(tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER),
        )
        self.cities = tf.lookup.StaticVocabularyTable(file, num_oov_buckets=1)

    @tf.function(
        input_signature=[
            {
                "age": tf.TensorSpec((None, 1), tf.int64),
                "city": tf.TensorSpec((None, 1), tf.string),
                "hours": tf.SparseTensorSpec((None, None), tf.float32),
                LABEL: tf.TensorSpec((None, 1), tf.int64),
            }
        ]
    )
    def transform_fn(self, inputs: Mapping[str, Any]) -> dict[str, tf.Tensor]:
        """Maps raw columns to transformed ones; age and city pass through for the cohorts."""
        x = inputs["hours"]
        hours = tf.sparse.to_dense(tf.SparseTensor(x.indices, x.values, [x.dense_shape[0], 1]), 40.0)
        edges = tf.constant([30, 40, 50, 60], tf.int64)
        return {
            "age": inputs["age"],
            "age_bucket": tf.cast(tf.searchsorted(edges, inputs["age"][:, 0], side="right"), tf.int64)[:, tf.newaxis],
            "city": inputs["city"],
            "city_id": self.cities.lookup(inputs["city"]),
            "hours_scaled": (hours - 40.0) / 10.0,
            LABEL: inputs[LABEL],
        }


_TYPES = {"age": "INT", "age_bucket": "INT", "city": "BYTES", "city_id": "INT", "hours_scaled": "FLOAT", LABEL: "INT"}
SCHEMA = "".join(
    f'feature {{ name: "{name}" type: {kind} presence {{ min_fraction: 1 }} shape {{ dim {{ size: 1 }} }} }}\n'
    for name, kind in _TYPES.items()
)


def draw_rows(count: int, seed: int) -> dict[str, np.ndarray]:
    """Raw rows (count, 1): the young click by their city, the others by their hours, and the old seldom."""
    rng = np.random.default_rng(seed)
    age = rng.integers(18, 80, (count, 1))
    city = rng.choice(np.array([b"bonn", b"oslo", b"rome"], object), (count, 1))
    hours = rng.normal(40, 10, (count, 1)).astype(np.float32)
    score = np.where(age < 30, 2.5 * (city == b"rome") - 1.0, (hours - 40) / 10 - 1.0) - 1.0 * (age >= 50)
    hours[rng.random((count, 1)) < 0.1] = np.nan
    return {"age": age, "city": city, "hours": hours, LABEL: (rng.random((count, 1)) < 1 / (1 + np.exp(-score))) * 1}


def write_records(path: Path, rows: Mapping[str, Any]) -> None:
    """Writes columns (rows, 1) as compressed tf.Examples; a NaN is left out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kinds = {"O": "bytes_list", "f": "float_list", "i": "int64_list"}
    with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
        for row in zip(*(np.asarray(values)[:, 0] for values in rows.values()), strict=True):
            example = tf.train.Example()
            for name, value in zip(rows, row, strict=True):
                if value == value:
                    kind = kinds[np.asarray(rows[name]).dtype.kind]
                    getattr(example.features.feature[name], kind).value.append(value)
            writer.write(example.SerializeToString())


def write_world(folder: Path, num_rows: int) -> None:
    """What ExampleGen and Transform leave behind."""
    vocabulary, graph = folder / "cities.txt", folder / "transform_graph"
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary.write_text("rome\noslo\nbonn\n")
    tf.saved_model.save(Preprocessing(vocabulary), str(graph / "transform_fn"))
    (graph / "transformed_metadata").mkdir(exist_ok=True)
    (graph / "transformed_metadata" / "schema.pbtxt").write_text(SCHEMA)
    transform = load_transform(graph)
    for seed, (split, count) in enumerate({"train": num_rows, "eval": num_rows // 2}.items()):
        rows = draw_rows(count, seed)
        write_records(folder / "examples" / f"Split-{split}" / "data-00000-of-00001.gz", rows)
        transformed = transform({name: tf.constant(values) for name, values in rows.items()})
        write_records(folder / "transformed" / f"Split-{split}" / "data-00000-of-00001.gz", transformed)


def main(folder: Path, num_rows: int, steps: int) -> None:
    """Writes the world, trains, and asks the SavedModel about two raw rows, one without hours."""
    began = time.monotonic()
    write_world(folder, num_rows)
    print(f"{num_rows:,} rows to train on, in {folder}")
    model_dir = folder / "model" / "Format-Serving"
    model_dir.parent.mkdir(exist_ok=True)
    run_fn(
        SimpleNamespace(
            train_files=[f"{folder}/transformed/Split-train/*"],
            eval_files=[f"{folder}/transformed/Split-eval/*"],
            train_steps=steps,
            eval_steps=None,
            transform_graph_path=str(folder / "transform_graph"),
            serving_model_dir=str(model_dir),
            base_model=None,
            custom_config={"raw_files": f"{folder}/examples/Split-eval/*"},
        )
    )
    cohorts = [c2al_tf.Cohort.from_json(each) for each in read_json(model_dir.parent / "cohorts.json")]
    (folder / "eval_config.pbtxt").write_text(tfma_config(cohorts, LABEL, max_increase=0.01))
    served = tf.saved_model.load(str(model_dir)).signatures["serialized_examples"]
    records = tf.data.TFRecordDataset(f"{folder}/examples/Split-eval/data-00000-of-00001.gz", "GZIP")
    answers = served(examples=next(iter(records.batch(2))))
    print("click probabilities of two raw rows:", answers["probabilities"].numpy()[:, 0].tolist())
    print(f"{time.monotonic() - began:.0f} seconds; the SavedModel is {model_dir}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/tfx"), help="where all of it is written (runs/tfx)")
    parser.add_argument("--rows", type=int, default=20_000, help="rows to train on; half as many to choose cohorts on")
    parser.add_argument("--steps", type=int, default=200, help="steps of each of the two trainings, 256 rows each")
    words = parser.parse_args()
    main(words.output, words.rows, words.steps)
