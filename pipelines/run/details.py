"""What a run's report tells beyond the metrics: distributions, attention, costs, and for generated data the truth."""

import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from scipy.special import expit

from c2al_tf.cohorts import prediction_histogram
from c2al_tf.data.columns.readers import count_rows
from c2al_tf.data.columns.shards import split_files
from c2al_tf.data.inputs.dataset import make_dataset
from c2al_tf.diagnostics import attention_weights, read_diagnostics
from c2al_tf.evaluation import ALL
from c2al_tf.files import read_json, write_json
from c2al_tf.model import strip_auxiliary_heads
from c2al_tf.types import Array

from ..report.course import summarize_diagnostics
from ..report.evidence import Evidence, last_auxiliary_ne
from .arms import BASELINE, C2AL
from .attention import FILE
from .folder import RunFolder
from .logits import load_trained, split_logits
from .truth import describe_planted

_ATTENTION_BATCH, _ATTENTION_BATCHES = 256, 32
_BINS = 80
_ARMS = (BASELINE, C2AL)


def write_details(run: RunFolder) -> dict[str, Any]:
    """Writes `details.json` of an evaluated and exported run, and returns it."""
    run.file("metrics.json")
    exported = read_json(run.file("export.json"))
    seed = exported["seed"]
    models = {arm: load_trained(run, seed, arm) for arm in _ARMS}
    histories = {arm: [read_json(run.model_folder(s, arm) / "history.json") for s in run.seeds] for arm in _ARMS}
    details = {
        "title": run.config.title,
        "dataset": run.config.data.name,
        "seeds": run.config.seeds,
        "rows": {split: count_rows(split_files(run.path, split)) for split in ("train", "validation", "test")},
        "training_seconds": {arm: [h["seconds"] for h in histories[arm]] for arm in _ARMS},
        "rows_per_second": {arm: [_rate(h) for h in histories[arm]] for arm in _ARMS},
        "positives": histories["c2al"][0]["positives"],
        "parameters": {
            "baseline": models["baseline"].count_params(),
            "c2al_training": models["c2al"].count_params(),
            "c2al_serving": strip_auxiliary_heads(models["c2al"]).count_params(),
        },
        "export_bytes": {"baseline": exported["reference"]["total_bytes"], "c2al": exported["facts"]["total_bytes"]},
        "exported_seed": seed,
        "histograms": _histogram(run),
        "attention": _attention(run, models),
        "diagnostics": _diagnostics(run),
        "auxiliary_ne": last_auxiliary_ne(histories[C2AL], run.cohorts),
        "planted": describe_planted(run),
        "hardware": _hardware(),
    }
    write_json(run.path / "details.json", details)
    return details


def read_evidence(run: RunFolder) -> Evidence:
    """What `c2al diagnose` judges: what the folder of an evaluated run holds of its baselines and C2AL models."""
    metrics = read_json(run.file("metrics.json"))
    histories = [read_json(run.model_folder(seed, C2AL) / "history.json") for seed in run.seeds]
    return Evidence(
        metrics,
        read_json(run.path / "metrics_by_seed.json")["seeds"],
        run.discovery,
        run.cohorts,
        run.config.cohorts.lambdas,
        _diagnostics(run),
        last_auxiliary_ne(histories, run.cohorts),
    )


def _diagnostics(run: RunFolder) -> dict[str, Any]:
    return {arm: summarize_arm(run, arm, run.seeds) for arm in _ARMS}


def summarize_arm(run: RunFolder, arm: str, seeds: Sequence[int]) -> dict[str, Any]:
    """The course of an arm's attention and gradients over its seeds; see `summarize_diagnostics`."""
    return summarize_diagnostics([read_diagnostics(run.model_folder(seed, arm) / FILE) for seed in seeds])


def _rate(history: dict[str, Any]) -> float | None:
    if not history["seconds"]:
        return None
    return float(history["timed_steps"] * history["batch_size"] / history["seconds"])


def _histogram(run: RunFolder) -> dict[str, Any]:
    """The baseline's predictions on all validation rows, in the buckets of the cohorts' own histograms."""
    num_buckets = len(run.discovery.axes[0].cohorts[0].histogram)
    logits = split_logits(run, run.seeds[0], "baseline", "validation").astype(np.float64)
    return {ALL: {"counts": prediction_histogram(expit(logits), num_buckets).tolist()}}


def _attention(run: RunFolder, models: dict[str, keras.Model]) -> dict[str, Any]:
    shards = split_files(run.path, "validation")
    batches = make_dataset(shards, run.schema, min(_ATTENTION_BATCH, count_rows(shards)), drop_remainder=True)
    weights = {arm: attention_weights(model, batches.take(_ATTENTION_BATCHES)) for arm, model in models.items()}
    attention: dict[str, Any] = {}
    for layer in weights["baseline"]:
        values: dict[str, Array] = {arm: weights[arm][layer].ravel() for arm in _ARMS}
        low, high = np.quantile(np.concatenate(list(values.values())), [0.001, 0.999])
        edges = np.linspace(low, high, _BINS + 1)
        counts = {arm: np.histogram(np.clip(values[arm], low, high), edges)[0].tolist() for arm in _ARMS}
        attention[layer] = {"edges": edges.tolist(), **counts}
    return attention


def _hardware() -> str:
    cpus = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in cpus if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else platform.processor() or platform.machine()
