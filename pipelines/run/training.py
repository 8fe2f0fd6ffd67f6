"""Trains arms: one compiled model for all seeds of an arm, on rows that were encoded once."""

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from c2al_tf.data.columns.readers import count_rows
from c2al_tf.data.columns.shards import split_files
from c2al_tf.data.inputs.dataset import make_dataset
from c2al_tf.files import read_json, remove, replace_file, write_json
from c2al_tf.layers.fm_attention import attention_layers
from c2al_tf.storage import put
from c2al_tf.training import train
from c2al_tf.training.distribution import Strategy, is_chief, wait_for_all, worker_shard

from .attention import FILE, ROWS, SCANNED, draw_rows, watch_attention
from .exporting import try_export_of
from .folder import TRAINED, RunFolder
from .logits import save_logits
from .program import DecayLambdas, Program, make_program
from .recipe import Trained, describe_training
from .rows import count_split, open_rows


def train_arm(
    run: RunFolder,
    seed: int,
    name: str,
    strategy: Strategy | None = None,
    scored: Sequence[str] = ("validation", "test"),
) -> bool:
    """Trains one arm of one seed: from the same initial values and row order as the other arms.

    A model that was trained alike, under this arm's name or another's, is kept. Before the first model of a run is
    trained its export is tried. On several workers all of them call this, with their strategy and one run folder; the
    first one writes into it. A new model predicts the rows of the splits `scored` at once, others when they are needed.

    Returns:
        Whether there was something to train.

    Raises:
        ExportError: If a model of this configuration could not be exported.
    """
    strategy = strategy or tf.distribute.get_strategy()
    chief = is_chief(strategy)
    trained = describe_training(run, name)
    if trained.arm.labels == "masked" and strategy.num_replicas_in_sync > 1:
        raise ValueError(
            f"Arm `{name}`: `labels: masked` weighs rows by task, which several devices cannot yet. Use one"
        )
    run.claim_folder(name, trained.digest, write=chief)
    wait_for_all(strategy)  # The chief has now written it.
    folder = run.model_folder(seed, name)
    if chief and not any(run.path.glob("seeds/*/*/model.keras")):
        try_export_of(run)
    if untrained := not (folder / "model.keras").exists():
        if chief:
            _begin(folder, trained)
        wait_for_all(strategy)
        start = time.perf_counter()
        program, figures = _train_model(run, seed, trained, strategy)
        if chief:
            write_json(run.path / "compilation.json", {"jit_compile": figures["jit_compile"]})
            put(folder / "tensorboard")
            trained_at = time.perf_counter()
            if strategy.num_replicas_in_sync == 1:
                save_logits(run, seed, name, program.primary, scored)
            times = {"scoring_seconds": time.perf_counter() - trained_at, "model_seconds": time.perf_counter() - start}
            write_json(folder / "history.json", figures | times)
            with replace_file(folder / "model.keras") as temporary:
                program.model.save(temporary)
    if chief:
        remove(folder / "checkpoints")
    wait_for_all(strategy)
    return untrained


def _begin(folder: Path, trained: Trained) -> None:
    """Says beside the model to come what it reads, and removes what another has left."""
    file = folder / TRAINED
    if file.exists() and read_json(file)["digest"] != trained.digest:
        remove(folder / "checkpoints")
    for left in (*folder.glob("*_logits.npy"), *folder.glob("test*_counts.npz"), folder / "probe.json"):
        remove(left)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(file, {"arm": trained.arm.name, "digest": trained.digest})


def _train_model(run: RunFolder, seed: int, trained: Trained, strategy: Strategy) -> tuple[Program, dict[str, Any]]:
    config, arm = run.config, trained.arm
    training, folder = arm.training_of(config.training), run.model_folder(seed, arm.name)
    counts = count_split(run, "train", trained.tasks, arm.labels)
    steps = -(-counts.rows // training.batch_size)
    program = make_program(run, seed, trained, counts, steps, strategy)
    rows = functools.partial(
        make_dataset,
        schema=run.schema,
        batch_size=training.batch_size,
        cohorts=trained.tasks,
        members=trained.members,
        design=arm.labels,
        shard=worker_shard(strategy),
    )
    train_rows, validation = open_rows(run, "train"), _validation(run, rows)

    def batches(epoch: int, skip: int) -> tf.data.Dataset:
        return rows(train_rows, shuffle=True, seed=seed, epoch=epoch, skip_batches=skip)

    callbacks: list[keras.callbacks.Callback] = []
    if strategy.num_replicas_in_sync == 1 and attention_layers(program.model):
        total = steps * training.epochs
        callbacks.append(watch_attention(validation.watched, program.objective, total, folder / FILE))
    if arm.lambda_decay:
        callbacks.append(DecayLambdas(trained.lambdas, program.lambdas, steps, training.epochs))
    if is_chief(strategy):
        callbacks.append(keras.callbacks.TensorBoard(str(folder / "tensorboard"), write_graph=False))
    history = train(
        program.model,
        batches,
        program.objective,
        steps_per_epoch=steps,
        epochs=training.epochs,
        validation=lambda: validation.batches,
        callbacks=callbacks,
        jit_compile=run.jit_compile,
        trainings=len(run.seeds_of(arm.name)) if program.state else 1,
        steps_per_execution=training.steps_per_execution,
        patience=training.patience,
        checkpoints=folder / "checkpoints",
        checkpoint_steps=training.checkpoint_steps,
        keep_checkpoints=training.keep_checkpoints,
        description=f"seed {seed}, {arm.name}",
    )
    counted = {"positives": dict(counts.positives), "batch_size": training.batch_size}
    return program, dataclasses.asdict(history) | counted


@dataclass(frozen=True)
class _Validation:
    """The validation rows of an arm, opened once for all its seeds: to trace a dataset takes 0.1 to 0.2 s.

    Args:
        key: What the batches depend on.
        batches: One pass.
        scanned: Opens one batch of rows that those to be measured on are drawn from.
    """

    key: Any
    batches: tf.data.Dataset
    scanned: Callable[[], tf.data.Dataset]

    @functools.cached_property
    def watched(self) -> Any:
        """The rows that the attention is measured on."""
        return draw_rows(next(iter(self.scanned().take(1))), ROWS)


_LAST_VALIDATION: list[_Validation] = []


def _validation(run: RunFolder, rows: "functools.partial[tf.data.Dataset]") -> _Validation:
    """The validation rows as `rows` batches them."""
    opened, files = open_rows(run, "validation"), split_files(run.path, "validation")
    key = (opened, [(path, path.stat().st_mtime_ns) for path in files], rows.keywords)
    if not _LAST_VALIDATION or _LAST_VALIDATION[0].key != key:
        size = min(SCANNED, count_rows(files))
        scanned = functools.partial(rows, opened, batch_size=size, drop_remainder=True)
        _LAST_VALIDATION[:] = [_Validation(key, rows(opened), scanned)]
    return _LAST_VALIDATION[0]
