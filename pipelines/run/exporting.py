"""The export of a run: tried with an untrained model before training begins, proved with trained ones at the end."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from c2al_tf.config import ModelConfig
from c2al_tf.data.columns.examples import ExampleReader, read_serialized
from c2al_tf.data.columns.formats import as_paths, format_of, under
from c2al_tf.data.columns.readers import read_columns
from c2al_tf.data.inputs.features import FeatureEncoder
from c2al_tf.data.inputs.packing import primary_tasks
from c2al_tf.export import Export, export_for_serving, try_export
from c2al_tf.export.facts import ExportFacts
from c2al_tf.files import read_json, write_json
from c2al_tf.model import build_model
from c2al_tf.schema import Schema
from c2al_tf.storage import shown, stat_of
from c2al_tf.types import Array, Columns

from .arms import BASELINE, C2AL
from .folder import RunFolder
from .logits import file_logits, load_trained, split_logits
from .rows import EXPORT_SAMPLE, sample_rows

_TRIAL_ROWS = 256


@dataclass(frozen=True)
class Records:
    """The first records of the run's own TFRecord file, as they are in it.

    Args:
        path: The file.
        examples: Serialized tf.Examples (rows,).
        columns: The same rows as raw columns of the features.
    """

    path: Path
    examples: Array
    columns: Columns


def try_export_of(run: RunFolder) -> None:
    """Exports an untrained model without heads: what cannot be exported fails before training, not after.

    What its export holds is what the trained model's must, as long as this process lives.

    Raises:
        ExportError: If a check of the export fails.
        ValueError: If the model's inputs are not those of the schema.
    """
    config = run.arms[BASELINE].model_of(run.config.model)
    model = build_model(run.schema, config, primary=list(primary_tasks(run.schema)))
    _FORMS.clear()
    _FORMS[run.schema, config] = try_export(model, run.path, schema=run.schema, sample=sample_rows(run, _TRIAL_ROWS))


_FORMS: dict[tuple[Schema, ModelConfig], ExportFacts] = {}
"""Schema and model to the contents of the export that was tried last."""


def export_run(run: RunFolder, seed: int) -> Export:
    """Exports a seed's C2AL model, proved against the baseline's export and the predictions of the training path.

    Where the rows came from TFRecord files the proof is made on their records as they are.
    """
    records, tasks = raw_records(run), primary_tasks(run.schema)
    if records is None:
        sample = sample_rows(run)
        logits = {task: split_logits(run, seed, C2AL, "validation", task)[: _num_rows(sample)] for task in tasks}
    else:
        sample, num_rows = records.columns, len(records.examples)
        logits = {
            task: file_logits(run, seed, C2AL, [records.path], num_rows, "records to be exported", task)
            for task in tasks
        }
    exported = export_for_serving(
        load_trained(run, seed, C2AL),
        run.export,
        sample=sample,
        schema=run.schema,
        reference=_FORMS.get((run.schema, run.arms[BASELINE].model_of(run.config.model)))
        or load_trained(run, seed, BASELINE),
        expected=logits,
        encoder=FeatureEncoder(run.schema),
        examples=None if records is None else records.examples,
    )
    assert exported.reference is not None
    facts = {"facts": dataclasses.asdict(exported.facts), "reference": dataclasses.asdict(exported.reference)}
    on = {} if records is None else {"records": shown(records.path)}
    model = str(run.model_folder(seed, C2AL).relative_to(run.path))
    entry = {"version": exported.directory.name, "seed": seed, "model": model, "proof": exported.proof} | on | facts
    write_json(run.path / "export.json", entry)
    metrics = run.path / "metrics.json"
    if metrics.exists():
        write_json(metrics, read_json(metrics) | {"exported_seed": seed})
    return exported


def is_exported(run: RunFolder) -> bool:
    """Whether a model of the run's C2AL arm, as it is now, is exported."""
    file = run.path / "export.json"
    if not file.exists():
        return False
    exported = read_json(file)
    seed = exported["seed"]
    return seed in run.seeds and exported.get("model") == str(run.model_folder(seed, C2AL).relative_to(run.path))


def raw_records(run: RunFolder) -> Records | None:
    """The first records of the run's TFRecord files.

    None if its rows are of another format, or gone, or have features under other names than the model's inputs, or none
    where a folder has the value.
    """
    data = run.config.data
    if data.name != "files" or data.files is None:
        return None
    columns = {feature.name: feature.column for feature in run.schema.features}
    try:
        for path in as_paths(under(data.path or Path(), data.files.validation or data.files.train)):
            if not stat_of(path)[0] or (data.files.format or format_of(path)) != "tfrecord":
                continue
            records = next(iter(read_serialized(path, EXPORT_SAMPLE)), None)
            if records is not None:
                reader = ExampleReader(path, columns, records)
                if reader.of_folders or columns.keys() & reader.renamed.keys():
                    return None
                rows = next(iter(read_columns(path, columns, EXPORT_SAMPLE, file_format="tfrecord")))
                return Records(path, np.array(records.numpy(), object), rows)
    except ValueError:
        return None
    return None


def _num_rows(columns: Columns) -> int:
    return len(next(iter(columns.values())))
