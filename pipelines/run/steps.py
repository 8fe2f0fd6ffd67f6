"""The steps of a run, each resumable: prepare, train, discover, evaluate, export. What is there already is kept."""

import dataclasses
import itertools
import math
import shutil
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from scipy.special import expit

from c2al_tf.cohorts import (
    GIVEN,
    Axis,
    count_cohorts,
    cut_axes,
    rank_cohorts,
)
from c2al_tf.data.columns.shards import split_files
from c2al_tf.data.inputs.dataset import make_dataset, primary_tasks
from c2al_tf.data.inputs.features import FeatureEncoder
from c2al_tf.data.inputs.priors import count_tasks
from c2al_tf.data.preparation.prepare import prepare
from c2al_tf.data.preparation.source import Source
from c2al_tf.evaluation import Evaluation, evaluate_by_cohort
from c2al_tf.export import Export
from c2al_tf.files import read_json, replace_file, write_json
from c2al_tf.losses import weighted_sum_of_tasks
from c2al_tf.model import build_model
from c2al_tf.schema import CategoricalFeature, Schema
from c2al_tf.training import make_optimizer, train
from c2al_tf.training.distribution import Strategy, is_chief, wait_for_all, worker_shard
from c2al_tf.training.history import best_epoch
from c2al_tf.types import Array

from ..datasets import census, files, movielens, synthetic_ads
from .checks import check_columns, check_given, check_labels, check_types
from .exporting import export_run, try_export
from .folder import ARMS, Arm, RunFolder
from .logits import forget_program, split_logits
from .rows import read_split, training_sizes
from .yardstick import measure_yardstick


def open_source(run: RunFolder) -> Source:
    """The raw rows that the configuration names."""
    data = run.config.data
    if data.name == "synthetic_ads":
        return synthetic_ads.open_source(data.synthetic_ads)
    if data.name == "census":
        return census.open_source(data.path, parameters=data.census)
    if data.name == "movielens":
        return movielens.open_source(data.path)
    if data.files is None:
        raise ValueError("`data.files` must be given with data.name=files. Received: null")
    return files.open_source(data.path, data.files)


def prepare_run(run: RunFolder) -> None:
    """Writes the rows of all splits as Parquet, and the schema.

    Raises:
        ValueError: If the run needs a column that the data lack, or of another type, or a row breaks a rule, or a split
            has one label alone, or a given cohort has nothing to learn from.
    """
    if not (run.path / "schema.json").exists():
        source = open_source(run)
        check_columns(run, source)
        prepare(source, run.path, negative_sampling=run.config.data.negative_sampling)
    check_types(run)
    if not (run.path / "cohorts.json").exists():
        check_labels(run)
        check_given(run)


def train_arm(run: RunFolder, seed: int, arm: Arm, strategy: Strategy | None = None) -> None:
    """Trains one arm of one seed: from the same initial values and row order as the other arm.

    Before the first model of a run is trained its export is tried. On several workers all of them call this, with their
    strategy and one run folder; the first one writes into it.

    Raises:
        ExportError: If a model of this configuration could not be exported.
    """
    strategy = strategy or tf.distribute.get_strategy()
    folder, chief = run.model_folder(seed, arm), is_chief(strategy)
    if chief and not any(run.path.glob("seeds/*/*/model.keras")):
        try_export(run)
    if not (folder / "model.keras").exists():
        model, figures = _train_model(run, seed, arm, strategy)
        if chief:
            write_json(run.path / "compilation.json", {"jit_compile": figures["jit_compile"]})
            write_json(folder / "history.json", figures)
            with replace_file(folder / "model.keras") as temporary:
                model.save(temporary)
    if chief:
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    wait_for_all(strategy)


def _train_model(run: RunFolder, seed: int, arm: Arm, strategy: Strategy) -> tuple[keras.Model, dict[str, Any]]:
    config, schema, training = run.config, run.schema, run.config.training
    folder = run.model_folder(seed, arm)
    cohorts = () if arm == "baseline" else tuple(run.cohorts)
    names = [cohort.name for cohort in cohorts]
    counts = count_tasks(split_files(run.path, "train"), schema, cohorts)
    steps = -(-counts.rows // training.batch_size)
    forget_program()
    keras.utils.set_random_seed(seed)
    with strategy.scope():
        model = build_model(
            schema, config.model, primary=list(primary_tasks(schema)), cohorts=names, priors=counts.priors
        )
        model.compile(optimizer=make_optimizer(training, steps * training.epochs))
    open_rows = partial(
        make_dataset,
        schema=schema,
        batch_size=training.batch_size,
        encoder=FeatureEncoder(schema),
        cohorts=cohorts,
        shard=worker_shard(strategy),
    )

    def batches(epoch: int, skip: int) -> tf.data.Dataset:
        files = split_files(run.path, "train")
        return open_rows(files, shuffle=True, seed=seed, epoch=epoch, skip_batches=skip)

    def validation() -> tf.data.Dataset:
        return open_rows(split_files(run.path, "validation"))

    board = keras.callbacks.TensorBoard(str(folder / "tensorboard"), write_graph=False)
    history = train(
        model,
        batches,
        weighted_sum_of_tasks(dict(zip(names, itertools.cycle(config.cohorts.lambdas), strict=False))),
        steps_per_epoch=steps,
        epochs=training.epochs,
        validation=validation,
        callbacks=[board] if is_chief(strategy) else [],
        jit_compile=run.jit_compile,
        steps_per_execution=training.steps_per_execution,
        patience=training.patience,
        checkpoints=folder / "checkpoints",
        checkpoint_steps=training.checkpoint_steps,
        keep_checkpoints=training.keep_checkpoints,
        description=f"seed {seed}, {arm}",
    )
    counted = {"positives": dict(counts.positives), "batch_size": training.batch_size}
    return model, dataclasses.asdict(history) | counted


def discover_run(run: RunFolder) -> None:
    """Finds the cohorts from the predictions of all baselines on the validation rows."""
    if (run.path / "cohorts.json").exists():
        return
    config, schema = run.config.cohorts, run.schema
    axes = config.axes or _default_axes(schema)
    given = [cohort.cohort() for cohort in config.given]
    names = {name for axis in axes for name in axis.columns} | {name for cohort in given for name in cohort.columns}
    names |= {schema.labels[0]} | ({schema.weight} if schema.weight else set())
    columns = read_split(run, "validation", names | ({run.config.unit} if run.config.unit else set()))
    weights = columns[schema.weight] if schema.weight else None
    present = columns if weights is None else {name: values[weights > 0] for name, values in columns.items()}
    cuts = cut_axes(axes, present, given=given)
    logits = np.stack([split_logits(run, seed, "baseline", "validation") for seed in run.seeds])
    counts = count_cohorts(
        expit(logits.astype(np.float64)),
        columns,
        cuts,
        labels=columns[schema.labels[0]],
        weights=weights,
        units=columns[run.config.unit] if run.config.unit else None,
    )
    discovery = rank_cohorts(
        counts, training=training_sizes(run, cuts), divergence=config.divergence, guard=config.guard
    )
    write_json(run.path / "cohorts.json", discovery.to_json())


def _default_axes(schema: Schema) -> tuple[Axis, ...]:
    """Every semantic axis of the data set; a column that the model takes for categories is cut into its values."""
    categorical = {feature.name for feature in schema.features if isinstance(feature, CategoricalFeature)}
    return tuple(
        Axis(names, categories=tuple(n for n in names if n in categorical and schema.columns[n].dtype == "int64"))
        for names in schema.axes
    )


def evaluate_run(run: RunFolder) -> Evaluation:
    """Compares the arms on the test rows, which nothing else reads; writes `metrics.json` and `metrics_by_seed.json`.

    The seed to be exported is chosen by the validation NE. If the configuration asks for the yardstick, it is measured.
    """
    logits: dict[str, Array] = {
        arm: np.stack([split_logits(run, seed, arm, "test") for seed in run.seeds]) for arm in ARMS
    }
    discovery, chosen = run.discovery, list(run.cohorts)
    others = [summary.cohort for axis in discovery.axes for summary in axis.cohorts if summary.cohort not in chosen]
    names = {name for cohort in chosen + others for name in cohort.columns} | {*run.schema.labels}
    names |= {name for name in (run.config.unit, run.schema.weight) if name}
    columns = read_split(run, "test", names)
    slices = {cohort.name: cohort.contains(columns) for cohort in chosen}
    slices["rest"] = ~np.logical_or.reduce(list(slices.values()))
    slices |= {cohort.name: cohort.contains(columns) for cohort in others}
    for axis in discovery.axes:
        if axis.name == GIVEN:
            continue
        outside = ~np.logical_or.reduce([slices[summary.cohort.name] for summary in axis.cohorts])
        if outside.any():
            slices[f"{axis.name}, other"] = outside
    evaluation = evaluate_by_cohort(
        logits,
        columns[run.schema.labels[0]],
        slices,
        named=[cohort.name for cohort in chosen],
        weights=columns[run.schema.weight] if run.schema.weight else None,
        units=columns[run.config.unit] if run.config.unit else None,
    )
    by_seed = evaluation.seeds_to_json("c2al")
    for entry, seed in zip(by_seed["seeds"], run.seeds, strict=True):
        entry["seed"] = seed
    write_json(run.path / "metrics_by_seed.json", by_seed)
    write_json(run.path / "metrics.json", evaluation.to_json("c2al") | {"exported_seed": _exported_seed(run)})
    if run.config.yardstick:
        measure_yardstick(run)
    return evaluation


def _exported_seed(run: RunFolder) -> int:
    """The seed whose model is exported; before the export the one that is by default."""
    file = run.path / "export.json"
    return int(read_json(file)["seed"]) if file.exists() else best_seed(run)


def best_seed(run: RunFolder) -> int:
    """The seed whose C2AL model has the lowest NE on the validation rows.

    Raises:
        ValueError: If none has an NE: the validation rows of one label have none.
    """
    by_seed = {seed: validation_ne(run, seed, "c2al") for seed in run.seeds}
    with_value = {seed: ne for seed, ne in by_seed.items() if not math.isnan(ne)}
    if not with_value:
        raise ValueError(
            "A model is chosen by its NE on the validation rows, which need positives and negatives. "
            f"Received: NE by seed {by_seed}"
        )
    return min(with_value, key=lambda seed: with_value[seed])


def validation_ne(run: RunFolder, seed: int, arm: Arm) -> float:
    """NE of the model kept, on the validation rows; NaN if it has none."""
    epochs = read_json(run.model_file(seed, arm).with_name("history.json"))["epochs"]
    values = [math.nan if epoch["val_primary_ne"] is None else epoch["val_primary_ne"] for epoch in epochs]
    best = best_epoch([{"ne": value} for value in values], "ne")
    return float(values[-1] if run.config.training.patience is None or best is None else values[best])


def export_best(run: RunFolder, seed: int | None = None) -> Export:
    """Exports a seed's C2AL model, the best one's if none is given; see `export_run`."""
    seed = best_seed(run) if seed is None else seed
    if seed not in run.seeds:
        raise ValueError(f"`--seed` must be one of the run's seeds, {run.seeds}. Received: {seed}")
    return export_run(run, seed)
