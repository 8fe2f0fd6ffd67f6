"""One step of training, compiled: forward, backward, update, and the sums that metrics are computed from."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import keras
import tensorflow as tf

from ..losses import Objective, binary_cross_entropy, weight_of_task
from ..types import Tensor
from .batches import Weight
from .compiled_metrics import update_metrics
from .gradients import Gradients, combine_gradients, compute_gradients

Step: TypeAlias = Callable[[Any, Mapping[str, Tensor], Weight], tuple[Tensor, dict[str, Tensor]]]
"""Maps a batch `(x, y, weight)` to the loss and each task's sums (log loss, label, weight)."""


def compile_step(model: keras.Model, objective: Objective, jit_compile: bool = True) -> Step:
    """One optimizer step, compiled: on the objective and what layers add to it (`model.losses`), as `fit` takes it.

    Compiled metrics are updated.

    If the model was built under a strategy's scope, all replicas take the step together: each worker passes its share
    of the batch, whose rows are split over its devices; loss and sums are over all rows. Each replica has its own copy
    of state that a forward pass changes (batch normalization, dropout's generator); the first one's copy is saved. What
    layers add to the loss is averaged over the replicas by the weights of their rows.

    Args:
        model: A compiled model.
        objective: The loss, a mean over rows under their weights. Its state and its way to combine gradients, if it has
            them (see `Objective`), are of the rows of all replicas.
        jit_compile: Compile with XLA. On one device it compiles the whole step; on several devices, one in each
            process, gradients and update apart, with communication between them; on several devices in one process
            only the gradients.
    """
    strategy = model.distribute_strategy
    with strategy.scope():
        model.optimizer.build(model.trainable_variables)
    if strategy.num_replicas_in_sync > 1:
        return _compile_replicated_step(model, objective, jit_compile)

    @tf.function(autograph=False, jit_compile=jit_compile)
    def step(x: Any, y: Mapping[str, Tensor], weight: Weight) -> tuple[Tensor, dict[str, Tensor]]:
        gradients, loss, sums, statistics = _pass(model, objective, x, y, weight)
        _update(model, objective, gradients, statistics)
        return loss, sums

    return step


def compile_steps(step: Step, num_steps: int) -> Step:
    """Several steps in one call: stacked batches `(num_steps or fewer, batch, ...)` to stacked results.

    Each step runs the same compiled program as a single call, so the results are bitwise equal.
    """
    if num_steps == 1:
        return step

    @tf.function(autograph=False)
    def steps(x: Any, y: Mapping[str, Tensor], weight: Weight) -> tuple[Tensor, dict[str, Tensor]]:
        results = [step(*batch) for batch in _unstack((x, y, weight))]
        return tf.nest.map_structure(lambda *values: tf.stack(values), *results)

    return steps


def _compile_replicated_step(model: keras.Model, objective: Objective, jit_compile: bool) -> Step:
    """With W_r the weight of replica r's rows and g_r the gradient of their mean: g = sum_r W_r g_r / sum_r W_r."""
    strategy = model.distribute_strategy
    num_local = len(strategy.extended.worker_devices)

    @tf.function(autograph=False, jit_compile=jit_compile)
    def totals(x: Any, y: Mapping[str, Tensor], weight: Tensor) -> tuple[Any, ...]:
        if isinstance(weight, Mapping):
            raise ValueError(f"On several devices a row has one weight. Received: weights of {sorted(weight)}")
        total = tf.reduce_sum(weight)
        return *_pass(model, objective, x, y, weight, scale=total), total

    @tf.function(autograph=False, jit_compile=jit_compile and num_local == 1)
    def update(gradients: Gradients, statistics: Mapping[str, Tensor], loss: Tensor, weight: Tensor) -> Tensor:
        share = 1 / tf.maximum(weight, 1e-12)
        means = tf.nest.map_structure(lambda g: None if g is None else tf.math.scalar_mul(share, g), gradients)
        _update(model, objective, means, statistics)
        return loss * share

    @tf.function(autograph=False)
    def step(x: Any, y: Mapping[str, Tensor], weight: Weight) -> tuple[Tensor, dict[str, Tensor]]:
        shares = _split((x, y, weight), num_local)

        def replica() -> Any:
            context = tf.distribute.get_replica_context()
            index = tf.get_static_value(context.replica_id_in_sync_group) % num_local
            return _sum_over_replicas(context, totals(*shares[index]))

        everywhere = strategy.run(replica)
        here = tf.nest.map_structure(lambda value: strategy.experimental_local_results(value)[0], everywhere)
        gradients, loss, sums, statistics, total_weight = here
        return update(gradients, statistics, loss, total_weight), sums

    return step


def _pass(
    model: keras.Model, objective: Any, x: Any, y: Mapping[str, Tensor], weight: Weight, scale: Tensor = 1.0
) -> tuple[Gradients, Tensor, dict[str, Tensor], dict[str, Tensor]]:
    """Forward and backward: the gradients of `scale` times the loss, that loss, each task's sums, the statistics."""
    gradients, loss, logits = compute_gradients(model, objective, x, y, weight, scale)
    update_metrics(model, y, logits, weight)
    statistics = objective.statistics(y, logits, weight) if hasattr(objective, "statistics") else {}
    return gradients, loss, task_sums(y, logits, weight), statistics


def _update(model: keras.Model, objective: Any, gradients: Gradients, statistics: Mapping[str, Tensor]) -> None:
    model.optimizer.apply(combine_gradients(model, objective, gradients), model.trainable_variables)
    if statistics:
        objective.update(statistics)


def _unstack(batches: Any) -> list[Any]:
    parts = [tf.unstack(tensor) for tensor in tf.nest.flatten(batches)]
    return [tf.nest.pack_sequence_as(batches, part) for part in zip(*parts, strict=True)]


def _split(batch: Any, num_parts: int) -> list[Any]:
    """The rows of a batch in equal parts."""
    rows = {tensor.shape[0] for tensor in tf.nest.flatten(batch)}
    if any(number is not None and number % num_parts for number in rows):
        raise ValueError(
            f"The rows of a batch must be a multiple of the number of devices, {num_parts}. Received: {sorted(rows)}"
        )
    parts = [tf.split(tensor, num_parts) for tensor in tf.nest.flatten(batch)]
    return [tf.nest.pack_sequence_as(batch, part) for part in zip(*parts, strict=True)]


def _sum_over_replicas(context: tf.distribute.ReplicaContext, values: Any) -> Any:
    """Sums tensors over all replicas. Sparse gradients are concatenated: the update sums equal rows."""
    flat = tf.nest.flatten(values)
    present = [value for value in flat if value is not None]
    summed = iter(context.all_reduce(tf.distribute.ReduceOp.SUM, present))
    return tf.nest.pack_sequence_as(values, [None if value is None else next(summed) for value in flat])


def task_sums(labels: Mapping[str, Tensor], logits: Mapping[str, Tensor], weight: Weight) -> dict[str, Tensor]:
    """For each task with labels the sums over the rows of (weighted log loss, weighted label, weight), (3,)."""
    sums = {}
    for task in (task for task in logits if task in labels):
        y = tf.cast(labels[task], tf.float32)
        w = tf.cast(tf.reshape(weight_of_task(weight, task), (-1, 1)), tf.float32)
        terms = (w * binary_cross_entropy(y, logits[task]), w * y, w)
        sums[task] = tf.stack([tf.reduce_sum(term) for term in terms])
    return sums
