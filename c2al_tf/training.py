"""The training loop: one compiled step, driven over a `tf.data.Dataset` with Keras callbacks."""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from .checkpoint import Checkpoint
from .config import TrainingConfig
from .losses import Objective, binary_cross_entropy
from .types import PRIMARY, Array, Tensor

Batches: TypeAlias = Callable[[int, int], tf.data.Dataset]
"""Maps (epoch, number of batches to skip) to the batches `(x, y, weight)` of that epoch from there on."""

SYNC_STEPS = 20
"""Steps between two reads of the device's figures: reading after every step would make the host wait for each."""


@dataclass
class History:
    """Where a training run stands and what it has seen; all of it is in a checkpoint.

    Args:
        epoch: Epochs completed.
        step: Batches of the current epoch that were trained on.
        loss: Sum of the objective over those batches.
        sums: For each task: sums of log loss, label and weight over the rows of those batches.
        epochs: Figures of each completed epoch: `loss`, and `<task>_loss` and `<task>_ne` of every task; with the
            prefix `val_` on the validation rows.
        seconds: Time spent in steps and in waiting for their input, without compilation and validation.
        timed_steps: Steps in that time.
    """

    epoch: int = 0
    step: int = 0
    loss: float = 0.0
    sums: dict[str, list[float]] = field(default_factory=dict)
    epochs: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    timed_steps: int = 0

    def figures(self) -> dict[str, float]:
        """Loss, and log loss and NE of every task, over the current epoch's batches so far."""
        return {"loss": self.loss / max(self.step, 1)} | _figures(self.sums)


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
    patience: int | None = None,
    checkpoint: str | Path | None = None,
    checkpoint_steps: int = 1000,
    description: str = "training",
) -> History:
    """Trains a compiled model.

    `keras.Model.fit` can neither resume within an epoch nor take an objective that sees all tasks at once; this loop
    does both and drives the same callbacks. Figures in the callbacks' batch logs are up to `SYNC_STEPS` steps old.

    Args:
        model: A functional model with outputs `{task: (batch, 1)}`, compiled with an optimizer.
        batches: The training rows by epoch: `x` the model's inputs, `y` `{task: (batch, 1)}`, `weight` `(batch,)`.
        objective: The loss; see `losses.weighted_sum_of_tasks`.
        steps_per_epoch: Batches of an epoch.
        epochs: Passes over the rows.
        validation: Opens the validation rows; tasks without labels there are left out.
        callbacks: Keras callbacks.
        jit_compile: Compile the step with XLA.
        patience: Stop after so many epochs without a lower validation NE of the first task, and return to the
            weights of the best epoch.
        checkpoint: File that the run resumes from if it exists. It stays at the end: the same call then trains no more.
        checkpoint_steps: Steps between two checkpoints.
        description: What the progress bar says.

    Returns:
        The history of the whole run, also of the part before it was resumed.

    Raises:
        ValueError: If the loss is not finite, the checkpoint is damaged or of another model, or an epoch has fewer
            batches than `steps_per_epoch`.
    """
    state = Checkpoint(model, checkpoint)
    history = History(**state.restore())
    step, score = compile_step(model, objective, jit_compile), _compile_scoring(model, jit_compile)
    hooks = keras.callbacks.CallbackList(list(callbacks), model=model, epochs=epochs, steps=steps_per_epoch, verbose=0)
    monitor = f"val_{next(iter(model.output))}_ne"
    model.stop_training = False
    timed = False  # the first reading holds the compilation
    hooks.on_train_begin()
    while history.epoch < epochs and not model.stop_training and not _exhausted(history.epochs, patience, monitor):
        hooks.on_epoch_begin(history.epoch)
        title = f"{description}, epoch {history.epoch + 1}/{epochs}"
        with tqdm(total=steps_per_epoch, initial=history.step, desc=title, unit="batch", mininterval=0.5) as bar:
            for reading in _run_epoch(step, batches, history, steps_per_epoch, hooks, timed=timed):
                timed = True
                bar.update(reading)
                bar.set_postfix_str(_in_words(history.sums))
                if history.step % checkpoint_steps < reading:
                    state.save(dataclasses.asdict(history))
        figures = history.figures()
        if validation is not None:
            figures |= {f"val_{name}": value for name, value in _evaluate(score, validation()).items()}
        hooks.on_epoch_end(history.epoch, figures)
        history.epochs.append(figures)
        history.epoch, history.step, history.loss, history.sums = history.epoch + 1, 0, 0.0, {}
        if patience is not None and _best_epoch(history.epochs, monitor) == len(history.epochs) - 1:
            state.remember_best()
        state.save(dataclasses.asdict(history))
    state.return_to_best()
    hooks.on_train_end()
    return history


def compile_step(model: keras.Model, objective: Objective, jit_compile: bool = True) -> Callable[..., Any]:
    """One optimizer step, compiled: `(x, y, weight)` to the loss and each task's sums (log loss, label, weight)."""
    model.optimizer.build(model.trainable_variables)

    @tf.function(jit_compile=jit_compile)
    def step(x: Mapping[str, Tensor], y: Mapping[str, Tensor], weight: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        with tf.GradientTape() as tape:
            logits = model(x, training=True)
            loss, _ = objective(y, logits, weight)
            scaled = model.optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, model.trainable_variables)
        model.optimizer.apply(gradients, model.trainable_variables)
        return loss, _task_sums(y, logits, weight)

    return step


def evaluate(model: keras.Model, batches: tf.data.Dataset, *, jit_compile: bool = True) -> dict[str, float]:
    """Log loss and NE of every task that `batches` of `(x, y, weight)` have labels of: `{<task>_loss, <task>_ne}`."""
    return _evaluate(_compile_scoring(model, jit_compile), batches)


def predict(
    model: keras.Model,
    batches: tf.data.Dataset,
    num_rows: int,
    *,
    task: str = PRIMARY,
    jit_compile: bool = True,
    description: str = "predicting",
) -> Array:
    """Logits of one task for the first `num_rows` rows of `(x, ...)` batches, float32 (num_rows,): padding left out."""

    @tf.function(jit_compile=jit_compile)
    def step(x: Mapping[str, Tensor]) -> Tensor:
        return tf.reshape(model(x, training=False)[task], (-1,))

    parts = []
    with tqdm(total=num_rows, desc=description, unit=" rows", unit_scale=True, leave=False, delay=1) as bar:
        for x, *_ in batches:
            parts.append(step(x).numpy()[: num_rows - bar.n])
            bar.update(len(parts[-1]))
    logits = np.concatenate(parts)
    if len(logits) < num_rows:
        raise ValueError(f"`batches` must hold `num_rows` rows. Received: {len(logits)} rows, num_rows={num_rows}")
    return logits


def make_optimizer(config: TrainingConfig, num_steps: int) -> keras.optimizers.Optimizer:
    """Adam as `config` says; `num_steps` is the length of the whole run, over which the learning rate decays."""
    rate: Any = config.learning_rate
    if config.decay == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(config.learning_rate, num_steps)
    return keras.optimizers.Adam(rate, global_clipnorm=config.clip_norm)


def _compile_scoring(model: keras.Model, jit_compile: bool) -> Callable[..., dict[str, Tensor]]:
    @tf.function(jit_compile=jit_compile)
    def score(x: Mapping[str, Tensor], y: Mapping[str, Tensor], weight: Tensor) -> dict[str, Tensor]:
        return _task_sums(y, model(x, training=False), weight)

    return score


def _evaluate(score: Callable[..., dict[str, Tensor]], batches: tf.data.Dataset) -> dict[str, float]:
    sums: dict[str, list[float]] = {}
    for x, y, weight in batches:
        _add(sums, score(x, y, weight))
    return _figures(sums)


def _run_epoch(
    step: Callable[..., Any],
    batches: Batches,
    history: History,
    steps_per_epoch: int,
    hooks: keras.callbacks.CallbackList,
    timed: bool,
) -> Iterator[int]:
    """Trains to the end of the epoch; every `SYNC_STEPS` steps brings `history` up to date and yields their number."""
    pending: list[tuple[Tensor, dict[str, Tensor]]] = []
    dataset = batches(history.epoch, history.step)
    start = time.perf_counter()
    for index, (x, y, weight) in enumerate(dataset.take(steps_per_epoch - history.step), history.step):
        hooks.on_train_batch_begin(index)
        pending.append(step(x, y, weight))
        if len(pending) == SYNC_STEPS or index == steps_per_epoch - 1:
            _read(pending, history)
            if timed:
                history.seconds += time.perf_counter() - start
                history.timed_steps += len(pending)
            hooks.on_train_batch_end(index, history.figures())
            yield len(pending)
            timed = True
            pending.clear()
            start = time.perf_counter()
        else:
            hooks.on_train_batch_end(index, {})
    _read(pending, history)
    if history.step != steps_per_epoch:
        raise ValueError(
            f"Epoch {history.epoch} must have `steps_per_epoch` batches. Received: {history.step} of {steps_per_epoch}"
        )


def _read(pending: Sequence[tuple[Tensor, dict[str, Tensor]]], history: History) -> None:
    for loss, sums in pending:
        value = float(loss)
        if not math.isfinite(value):
            raise ValueError(
                f"The loss must be finite. Received: {value} at epoch {history.epoch}, step {history.step}. Lower the "
                "learning rate, or bound the gradient with `clip_norm`"
            )
        history.loss += value
        history.step += 1
        _add(history.sums, sums)


def _task_sums(labels: Mapping[str, Tensor], logits: Mapping[str, Tensor], weight: Tensor) -> dict[str, Tensor]:
    """For each task with labels the sums over the rows of (weighted log loss, weighted label, weight), (3,)."""
    weight = tf.cast(tf.reshape(weight, (-1, 1)), tf.float32)
    sums = {}
    for task in (task for task in logits if task in labels):
        y = tf.cast(labels[task], tf.float32)
        terms = (weight * binary_cross_entropy(y, logits[task]), weight * y, weight)
        sums[task] = tf.stack([tf.reduce_sum(term) for term in terms])
    return sums


def _add(sums: dict[str, list[float]], more: Mapping[str, Tensor]) -> None:
    for task, values in more.items():
        sums[task] = [a + float(b) for a, b in zip(sums.get(task, (0.0, 0.0, 0.0)), values.numpy(), strict=True)]


def _figures(sums: Mapping[str, Sequence[float]]) -> dict[str, float]:
    figures: dict[str, float] = {}
    for task, (loss, labels, weight) in sums.items():
        rate, mean_loss = (labels / weight, loss / weight) if weight else (math.nan, math.nan)
        entropy = -(rate * math.log(rate) + (1 - rate) * math.log1p(-rate)) if 0 < rate < 1 else math.nan
        figures |= {f"{task}_loss": mean_loss, f"{task}_ne": mean_loss / entropy}
    return figures


def _in_words(sums: Mapping[str, Sequence[float]]) -> str:
    figures = _figures(sums)
    return ", ".join(f"{task} {figures[f'{task}_loss']:.4f} NE {figures[f'{task}_ne']:.3f}" for task in sums)


def _best_epoch(epochs: Sequence[Mapping[str, float]], monitor: str) -> int:
    if monitor not in epochs[0]:
        raise ValueError(f"`patience` needs `validation` rows, for `{monitor}`. Received: only {sorted(epochs[0])}")
    return min(range(len(epochs)), key=lambda epoch: epochs[epoch][monitor])


def _exhausted(epochs: Sequence[Mapping[str, float]], patience: int | None, monitor: str) -> bool:
    return patience is not None and bool(epochs) and len(epochs) - 1 - _best_epoch(epochs, monitor) >= patience
