"""The training loop: a compiled step, driven over a `tf.data.Dataset` with Keras callbacks."""

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import keras
import tensorflow as tf
from tqdm import tqdm

from ..losses import Objective
from ..types import Tensor
from .checkpoint import Checkpoints
from .distribution import check_agreement, is_chief, lost_workers_named, wait_for_all
from .history import History, best_epoch, is_out_of_patience, progress_text
from .prediction import evaluate
from .step import Step, compile_step, compile_steps

Batches: TypeAlias = Callable[[int, int], tf.data.Dataset]
"""Maps (epoch, number of batches to skip) to the batches `(x, y, weight)` of that epoch from there on."""

SYNC_STEPS = 20
"""Steps between two reads of losses from the device: reading after every step would make the host wait for each."""


@lost_workers_named()
def train(
    model: keras.Model,
    batches: Batches,
    objective: Objective,
    *,
    steps_per_epoch: int,
    epochs: int = 1,
    validation: Callable[[], tf.data.Dataset] | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    jit_compile: bool = True,
    steps_per_execution: int = 1,
    patience: int | None = None,
    checkpoints: str | Path | None = None,
    checkpoint_steps: int = 1000,
    keep_checkpoints: int = 3,
    description: str = "training",
) -> History:
    """Trains a compiled model.

    `keras.Model.fit` can neither resume within an epoch, nor take an objective that sees all tasks at once, nor train
    on several machines; this loop does all three and drives the same callbacks. Metrics in the callbacks' batch logs
    are up to `SYNC_STEPS` steps old.

    A model that was built and compiled under `strategy.scope()` is trained on all replicas of the strategy, one batch a
    step (see `compile_step`). Every worker calls this, outside the scope, with its share of the rows in `batches` and
    `validation` (see `Shard`) and with one folder of checkpoints, on storage that all share; the first worker writes.
    If a worker ends, the others end within seconds. The same call by all of them then resumes from the last checkpoint.

    Args:
        model: A functional model with outputs `{task: (batch, 1)}`, compiled with an optimizer.
        batches: The training rows by epoch: `x` the model's inputs, `y` `{task: (batch, 1)}`, `weight` `(batch,)`.
        objective: The loss; see `losses.weighted_sum_of_tasks`.
        steps_per_epoch: Batches of an epoch.
        epochs: Passes over the rows.
        validation: Opens the validation rows; tasks without labels there are left out.
        callbacks: Keras callbacks.
        jit_compile: Compile the step with XLA.
        steps_per_execution: Steps in one call from Python; it changes no result. Callbacks see them as one batch.
        patience: Stop after so many epochs without a lower validation NE of the first task, and return to the
            weights of the best epoch.
        checkpoints: Folder that the run resumes from. It stays at the end: the same call then trains no further.
        checkpoint_steps: Steps between two checkpoints.
        keep_checkpoints: Number of the last checkpoints that are kept, beside the best one.
        description: What the progress bar says.

    Returns:
        The history of the whole run, also of the part before it was resumed.

    Raises:
        ValueError: If the loss is not finite, all checkpoints are damaged or of another model, workers begin with
            different variables, or an epoch has fewer batches than `steps_per_epoch`.
        LostWorkerError: If another worker ended.
    """
    strategy = model.distribute_strategy
    chief = is_chief(strategy)
    step = compile_steps(compile_step(model, objective, jit_compile), steps_per_execution)
    state = Checkpoints(model, checkpoints, keep_checkpoints)
    history = History(**state.restore())
    check_agreement(model, dataclasses.asdict(history))
    hooks = keras.callbacks.CallbackList(list(callbacks), model=model, epochs=epochs, steps=steps_per_epoch, verbose=0)
    monitor = f"val_{next(iter(model.output))}_ne"
    model.stop_training = False
    timed = False  # the first reading includes compilation
    hooks.on_train_begin()
    while (
        history.epoch < epochs and not model.stop_training and not is_out_of_patience(history.epochs, patience, monitor)
    ):
        hooks.on_epoch_begin(history.epoch)
        dataset = _open(batches, history, steps_per_epoch, steps_per_execution)
        title = f"{description}, epoch {history.epoch + 1}/{epochs}"
        with tqdm(
            total=steps_per_epoch, initial=history.step, desc=title, unit="batch", mininterval=0.5, disable=not chief
        ) as bar:
            for reading in _run_epoch(step, dataset, history, steps_per_epoch, hooks, timed=timed):
                timed = True
                bar.update(reading)
                bar.set_postfix_str(progress_text(history.sums))
                if chief and history.step % checkpoint_steps < reading:
                    state.save(dataclasses.asdict(history))
        metrics = history.metrics()
        if validation is not None:
            rows = evaluate(model, validation(), jit_compile=jit_compile)
            metrics |= {f"val_{name}": value for name, value in rows.items()}
        hooks.on_epoch_end(history.epoch, metrics)
        history.end_epoch(metrics)
        if patience is not None and best_epoch(history.epochs, monitor) == len(history.epochs) - 1:
            state.remember_best()
        if chief:
            state.save(dataclasses.asdict(history))
    wait_for_all(strategy)  # The chief has now written the last checkpoint.
    state.return_to_best()
    wait_for_all(strategy)  # All workers have now read it.
    hooks.on_train_end()
    return history


def _open(batches: Batches, history: History, steps_per_epoch: int, steps_per_execution: int) -> tf.data.Dataset:
    """The rest of the epoch, in batches of batches if a call runs several steps."""
    dataset = batches(history.epoch, history.step).take(steps_per_epoch - history.step)
    return dataset if steps_per_execution == 1 else dataset.batch(steps_per_execution)


def _run_epoch(
    step: Step,
    dataset: tf.data.Dataset,
    history: History,
    steps_per_epoch: int,
    hooks: keras.callbacks.CallbackList,
    timed: bool,
) -> Iterator[int]:
    """Trains to the end of the epoch; every `SYNC_STEPS` steps updates `history` and yields the number of new steps."""
    pending: list[tuple[Tensor, dict[str, Tensor]]] = []
    index = history.step
    start = time.perf_counter()
    for x, y, weight in dataset:
        hooks.on_train_batch_begin(index)
        pending.append(step(x, y, weight))
        index += pending[-1][0].shape.num_elements()
        waiting = index - history.step
        if waiting >= SYNC_STEPS or index == steps_per_epoch:
            history.add_steps(pending)
            if timed:
                history.seconds += time.perf_counter() - start
                history.timed_steps += waiting
            hooks.on_train_batch_end(index - 1, history.metrics())
            yield waiting
            timed = True
            pending.clear()
            start = time.perf_counter()
        else:
            hooks.on_train_batch_end(index - 1, {})
    history.add_steps(pending)
    if history.step != steps_per_epoch:
        raise ValueError(
            f"Epoch {history.epoch} must have `steps_per_epoch` batches. Received: {history.step} of {steps_per_epoch}"
        )
