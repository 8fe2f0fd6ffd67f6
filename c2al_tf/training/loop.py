"""The training loop: a compiled step, driven over a `tf.data.Dataset` with Keras callbacks."""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from tqdm import tqdm

from ..form import outputs_by_name
from ..losses import Objective, state_of
from ..model import check_logits
from ..types import Tensor
from .batches import Batches, epochs_of, grouped, num_steps
from .checkpoint import Checkpoints
from .compilation import JitCompile, choose_compilation, without_trial
from .compiled_metrics import find_metrics, read_metrics, reset_metrics
from .distribution import check_agreement, is_chief, lost_workers_named, wait_for_all
from .history import History, best_epoch, is_out_of_patience, progress_text, warn_of_nan
from .prediction import evaluate
from .program_cache import Identity, compiled_once
from .step import Step, compile_step, compile_steps

SYNC_STEPS = 20
"""Steps between two reads of losses from the device: reading after every step would make the host wait for each."""


@lost_workers_named()
def train(
    model: keras.Model,
    batches: Batches | tf.data.Dataset,
    objective: Objective,
    *,
    steps_per_epoch: int | None = None,
    epochs: int = 1,
    validation: Callable[[], tf.data.Dataset] | tf.data.Dataset | None = None,
    class_weight: Mapping[int, float] | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    jit_compile: JitCompile = True,
    trainings: int = 1,
    steps_per_execution: int = 1,
    patience: int | None = None,
    checkpoints: str | Path | None = None,
    checkpoint_steps: int = 1000,
    keep_checkpoints: int = 3,
    description: str = "training",
) -> History:
    """Trains a compiled model.

    `keras.Model.fit` can neither resume within an epoch, nor take an objective that sees all tasks at once, nor train
    on several machines; this loop does all three and drives the same callbacks. What layers add to the loss, batch
    normalization, dropout, clipping and compiled metrics work as in `fit`. Metrics in the callbacks' batch logs are up
    to `SYNC_STEPS` steps old.

    A model that was built and compiled under `strategy.scope()` is trained on all replicas of the strategy, one batch a
    step (see `compile_step`). Every worker calls this, outside the scope, with its share of the rows in `batches` and
    `validation` (see `Shard`) and with one folder of checkpoints, on storage that all share; the first worker writes.
    If a worker ends, the others end within seconds. The same call by all of them then resumes from the last checkpoint.

    A step is compiled once for a model, objective, optimizer and `jit_compile`: a second call with the same objects
    compiles nothing, so that many seeds are trained with one model by assigning initial values to all variables. As in
    `fit`, other changes of the model's layers or the optimizer (a rate of dropout, a schedule) take effect only with a
    new optimizer.

    Args:
        model: A functional or Sequential model with logits (batch, 1) as its outputs: one, or a dict by task. It is
            compiled with an optimizer, and with metrics if wanted; the loss is `objective`.
        batches: The training rows, `(x, y)` or `(x, y, weight)`: `x` the model's inputs (columns that it does not read
            are left out), `y` a label (batch,) or (batch, 1) or a dict of them by task, `weight` (batch,) or a dict of
            them. A dataset, or a function of (epoch, number of batches to skip), by which a resumed run gets the rows
            that an uninterrupted one would. A dataset that is shuffled anew each time resumes on other rows.
        objective: The loss; see `losses.weighted_sum_of_tasks` and the module `objectives`. Its state is not reset.
        steps_per_epoch: Batches of an epoch. None: all of them. Of a dataset that has more, as `fit` does, an epoch
            takes the next ones.
        epochs: Passes over the rows.
        validation: The validation rows, or opens them. Tasks without labels there are left out, and `val_loss` with
            them; so it is on several replicas.
        class_weight: `{0: weight, 1: weight}`: the weight of a row is multiplied by that of its label of the first
            task, for all tasks.
        callbacks: Keras callbacks.
        jit_compile: Compile the step with XLA. `"auto"`: if that makes this run faster, which is measured on its first
            batch and said in the log; a resumed run keeps the choice.
        trainings: Trainings that will use the compiled step, this one among them: `"auto"` weighs what XLA saves in all
            of them against what compiling takes once.
        steps_per_execution: Steps in one call from Python; it changes no result. Callbacks see them as one batch.
        patience: Stop after so many epochs without a lower validation NE of the first task, and return to the
            weights of the best epoch. NaN is never the best.
        checkpoints: Folder that the run resumes from. It stays at the end: the same call then trains no further.
        checkpoint_steps: Steps between two checkpoints.
        keep_checkpoints: Number of the last checkpoints that are kept, beside the best one.
        description: What the progress bar says.

    Returns:
        The history of the whole run, also of the part before it was resumed.

    Raises:
        ValueError: If an output is a probability, the loss is not finite, the batches have another form, all
            checkpoints are damaged or of another model, workers begin with different variables, or an epoch has fewer
            batches than `steps_per_epoch`.
        LostWorkerError: If another worker ended.

    Warns:
        UserWarning: If a metric on the validation rows is NaN.
    """
    strategy = model.distribute_strategy
    chief = is_chief(strategy)
    check_logits(model)
    if not model.compiled:
        raise ValueError('The model must be compiled with an optimizer: `model.compile("adam")`. Received: it is not')
    with strategy.scope():
        model.optimizer.build(model.trainable_variables)
    state = Checkpoints(model, checkpoints, keep_checkpoints, objective)
    history = History(**state.restore())
    history.jit_compile = without_trial(model, jit_compile, history.jit_compile)
    check_agreement(model, dataclasses.asdict(history), state_of(objective))
    steps = num_steps(batches, steps_per_epoch)
    following = epochs_of(batches, model, steps_per_epoch, class_weight)
    hooks = keras.callbacks.CallbackList(list(callbacks), model=model, epochs=epochs, steps=steps, verbose=0)
    monitor = f"val_{next(iter(outputs_by_name(model)))}_ne"
    model.stop_training = False

    def metrics_so_far() -> dict[str, Any]:
        return history.metrics() | read_metrics(model, history.sums)

    compiled = functools.partial(_compiled_step, model, objective)

    save = functools.partial(_save, state, history, chief)
    timed = False  # the first reading includes compilation
    hooks.on_train_begin()
    while (
        history.epoch < epochs and not model.stop_training and not is_out_of_patience(history.epochs, patience, monitor)
    ):
        hooks.on_epoch_begin(history.epoch)
        if history.step == 0:
            reset_metrics(model)
        rows = following(history.epoch, history.step)
        left = steps and (trainings * epochs - history.epoch) * steps
        choose = functools.partial(choose_compilation, model, compiled, num_steps=left, state=state_of(objective))
        rows, jit_compile = _choose(rows, history, choose, save)
        step = compiled(jit_compile, steps_per_execution)
        rows = grouped(rows, steps_per_execution)
        title = f"{description}, epoch {history.epoch + 1}/{epochs}"
        with tqdm(
            total=steps, initial=history.step, desc=title, unit="batch", mininterval=0.5, disable=not chief
        ) as bar:
            for reading in _run_epoch(step, rows, history, steps, hooks, metrics_so_far, timed=timed):
                timed = True
                bar.update(reading)
                bar.set_postfix_str(progress_text(history.sums))
                if history.step % checkpoint_steps < reading:
                    save()
        metrics = metrics_so_far()
        if validation is not None:
            rows = validation if isinstance(validation, tf.data.Dataset) else validation()
            # Over several replicas the mean of a batch is not that of its shares.
            mean = objective if strategy.num_replicas_in_sync == 1 else None
            found = evaluate(model, rows, objective=mean, jit_compile=jit_compile)
            metrics |= {f"val_{name}": value for name, value in found.items()}
            warn_of_nan(metrics, history.epoch)
        hooks.on_epoch_end(history.epoch, metrics)
        history.end_epoch(metrics)
        if patience is not None and best_epoch(history.epochs, monitor) == len(history.epochs) - 1:
            state.remember_best()
        save()
    with strategy.scope():
        model.optimizer.finalize_variable_values(model.trainable_variables)  # Averaged weights, with `use_ema`.
    wait_for_all(strategy)  # The chief has now written the last checkpoint.
    state.return_to_best()
    wait_for_all(strategy)  # All workers have now read it.
    hooks.on_train_end()
    return history


def _compiled_step(model: keras.Model, objective: Objective, jit_compile: bool, num_steps: int = 1) -> Step:
    """The step, or several in one call, compiled once for each of the objects that it depends on."""
    trainable = tuple(layer.trainable for layer in model._flatten_layers())
    key = ("step", Identity(objective), model.optimizer, find_metrics(model), trainable, jit_compile)
    step = compiled_once(model, key, lambda model: compile_step(model, objective, jit_compile))
    return compiled_once(model, (*key, num_steps), lambda _: compile_steps(step, num_steps))


def _save(state: Checkpoints, history: History, chief: bool) -> None:
    if chief:
        state.save(dataclasses.asdict(history))


def _choose(
    rows: Iterable[Any], history: History, choose: Callable[[Any], bool], save: Callable[[], None]
) -> tuple[Iterable[Any], bool]:
    """The same rows, and whether XLA compiles: what `history` says, or what a trial on the first batch shows."""
    if history.jit_compile is None:
        following = iter(rows)
        first = list(islice(following, 1))
        rows = chain(first, following)
        history.jit_compile = bool(first) and choose(first[0])
        save()  # A run that is killed goes on with the same rounding.
    return rows, history.jit_compile


def _run_epoch(
    step: Step,
    rows: Iterable[Any],
    history: History,
    steps_per_epoch: int | None,
    hooks: keras.callbacks.CallbackList,
    metrics_so_far: Callable[[], dict[str, Any]],
    timed: bool,
) -> Iterator[int]:
    """Trains to the end of the epoch; every `SYNC_STEPS` steps updates `history` and yields the number of new steps."""
    pending: list[tuple[Tensor, dict[str, Tensor]]] = []
    rows_of: list[int] = []
    index = history.step
    start = time.perf_counter()
    for x, y, weight in rows:
        hooks.on_train_batch_begin(index)
        pending.append(step(x, y, weight))
        rows_of.append(next(iter(y.values())).shape[-2])
        index += pending[-1][0].shape.num_elements()
        waiting = index - history.step
        if waiting >= SYNC_STEPS or index == steps_per_epoch:
            history.add_steps(pending, rows_of)
            if timed:
                history.seconds += time.perf_counter() - start
                history.timed_steps += waiting
            hooks.on_train_batch_end(index - 1, metrics_so_far())
            yield waiting
            timed = True
            pending.clear()
            rows_of.clear()
            start = time.perf_counter()
        else:
            hooks.on_train_batch_end(index - 1, {})
        if hooks.model.stop_training:
            break
    waiting = index - history.step
    history.add_steps(pending, rows_of)
    too_few = not history.step or history.step != (steps_per_epoch or history.step)
    if too_few and not hooks.model.stop_training:
        raise ValueError(
            f"Epoch {history.epoch} must have `steps_per_epoch` batches. Received: {history.step} of "
            f"{steps_per_epoch or 'at least 1'}. For more of a dataset, `repeat` it"
        )
    if waiting:
        yield waiting
