"""The steps of a run, each resumable: prepare, train, discover, evaluate, export. What is there already is kept."""

import math
from collections.abc import Callable

from c2al_tf.data.inputs.packing import primary_tasks
from c2al_tf.data.preparation.prepare import prepare
from c2al_tf.data.preparation.source import Source
from c2al_tf.evaluation import Evaluation, recommend
from c2al_tf.export import Export
from c2al_tf.files import read_json, write_json
from c2al_tf.schema import Schema
from c2al_tf.storage import opened
from c2al_tf.training.history import best_epoch

from ..datasets import census, files, movielens, synthetic_ads
from ..report.evidence import slice_labels
from .arms import BASELINE, C2AL
from .checks import check_apart, check_columns, check_given, check_labels, check_types
from .evaluation import evaluate_arm, label_slices, read_test_rows
from .exporting import export_run, is_exported
from .folder import RunFolder
from .logits import split_logits
from .recipe import resolve_arms
from .rows import encode_run
from .warm_start import earlier_run
from .yardstick import measure_yardstick


def open_source(run: RunFolder) -> Source:
    """The raw rows that the configuration names."""
    data = run.config.data
    if data.name == "synthetic_ads":
        return synthetic_ads.open_source(data.synthetic_ads)
    if data.name == "files":
        if data.files is None:
            raise ValueError("`data.files` must be given with data.name=files. Received: null")
        return files.open_source(data.path, data.files)
    folder = None if data.path is None else opened(data.path)
    return census.open_source(folder) if data.name == "census" else movielens.open_source(folder)


def prepare_run(run: RunFolder, write: Callable[..., Schema] = prepare) -> None:
    """Writes the rows of all splits as Parquet, and the schema.

    Args:
        run: The run.
        write: What writes them: `prepare`, or what does the same elsewhere.

    Raises:
        ValueError: If the run needs a column that the data lack, or of another type, or a row breaks a rule, or a split
            has one label alone, or a given cohort has nothing to learn from.
    """
    if not (run.path / "schema.json").exists():
        source = open_source(run)
        check_columns(run, source)
        check_apart(run)
        earlier = earlier_run(run.config)
        schema = None if earlier is None else earlier.schema
        write(source, run.path, negative_sampling=run.config.data.negative_sampling, schema=schema)
    check_types(run)
    if not (run.path / "cohorts.json").exists():
        check_labels(run)
        check_given(run)
    encode_run(run)


def evaluate_run(run: RunFolder) -> Evaluation:
    """Compares the arms on the test rows, which nothing else reads; writes `metrics.json` and `metrics_by_seed.json`.

    `metrics.json` holds what is recommended, too. The seed to be exported is chosen by the validation NE. If the
    configuration asks for the yardstick, it is measured.
    """
    resolve_arms(run, BASELINE, C2AL)
    for arm in (BASELINE, C2AL):
        for seed in run.seeds:
            for task in primary_tasks(run.schema):
                split_logits(run, seed, arm, "test", task)
    named = [cohort.name for cohort in run.cohorts]
    evaluation = evaluate_arm(run, C2AL, BASELINE, run.seeds, read_test_rows(run), named)
    by_seed = evaluation.seeds_to_json(C2AL)
    for entry, seed in zip(by_seed["seeds"], run.seeds, strict=True):
        entry["seed"] = seed
    write_json(run.path / "metrics_by_seed.json", by_seed)
    recommendation = recommend(evaluation, C2AL, named).to_json(slice_labels(run.discovery))
    decided = {"recommendation": recommendation, "exported_seed": _exported_seed(run)}
    decided["labels"] = label_slices(run.schema)
    write_json(run.path / "metrics.json", evaluation.to_json(C2AL) | decided)
    if run.config.yardstick:
        measure_yardstick(run)
    return evaluation


def _exported_seed(run: RunFolder) -> int:
    """The seed whose model is exported; before the export the one that is by default."""
    return int(read_json(run.path / "export.json")["seed"]) if is_exported(run) else best_seed(run)


def best_seed(run: RunFolder) -> int:
    """The seed whose C2AL model has the lowest NE on the validation rows.

    Raises:
        ValueError: If none has an NE: the validation rows of one label have none.
    """
    by_seed = {seed: validation_ne(run, seed, C2AL) for seed in run.seeds}
    with_value = {seed: ne for seed, ne in by_seed.items() if not math.isnan(ne)}
    if not with_value:
        raise ValueError(
            "A model is chosen by its NE on the validation rows, which need positives and negatives. "
            f"Received: NE by seed {by_seed}"
        )
    return min(with_value, key=lambda seed: with_value[seed])


def validation_ne(run: RunFolder, seed: int, arm: str) -> float:
    """NE of the model kept, of the first label on the validation rows; NaN if it has none."""
    epochs = read_json(run.model_file(seed, arm).with_name("history.json"))["epochs"]
    name = f"val_{next(iter(primary_tasks(run.schema)))}_ne"
    values = [math.nan if epoch[name] is None else epoch[name] for epoch in epochs]
    best = best_epoch([{"ne": value} for value in values], "ne")
    return float(
        values[-1] if run.arms[arm].training_of(run.config.training).patience is None or best is None else values[best]
    )


def export_best(run: RunFolder, seed: int | None = None) -> Export:
    """Exports a seed's C2AL model, the best one's if none is given; see `export_run`."""
    resolve_arms(run, BASELINE, C2AL)
    seed = best_seed(run) if seed is None else seed
    if seed not in run.seeds:
        raise ValueError(f"`--seed` must be one of the run's seeds, {run.seeds}. Received: {seed}")
    return export_run(run, seed)
