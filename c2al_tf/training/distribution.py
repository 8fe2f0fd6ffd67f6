"""Training on several devices and machines: the strategy, this process's place in it, communication between workers.

A model that is built and compiled under `strategy.scope()` is trained under that strategy. Every worker runs the same
program on its share of the rows; the first one, the chief, writes files. Every replica holds all weights.
"""

import contextlib
import faulthandler
import json
import logging
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import keras
import numpy as np
import tensorflow as tf

from ..data.inputs.sharding import Shard
from ..types import Array, Tensor

Strategy: TypeAlias = tf.distribute.Strategy

START_SECONDS = 600.0
"""How long a worker waits for the others at the start."""

_LOG = logging.getLogger(__name__)

# Part of the error message of every collective operation after a worker has ended.
_LOST = "Collective ops is aborted by: "


class LostWorkerError(RuntimeError):
    """Another worker is gone."""


def make_strategy() -> Strategy:
    """The strategy that the environment asks for. Call it before any other use of TensorFlow.

    If `TF_CONFIG` names several workers: `MultiWorkerMirroredStrategy`, after all of them have started. With several
    GPUs: `MirroredStrategy`. Else TensorFlow's default.

    Raises:
        ValueError: If `TF_CONFIG` gives this process a task that no worker has.
    """
    if num_workers() > 1:
        task = tf.distribute.cluster_resolver.TFConfigClusterResolver().task_type
        if task not in ("chief", "worker"):
            raise ValueError(f"The task type in `TF_CONFIG` must be chief or worker. Received: {task}")
        with _ends_in_time():
            strategy = tf.distribute.MultiWorkerMirroredStrategy()
            wait_for_all(strategy)
        return strategy
    if len(tf.config.list_logical_devices("GPU")) > 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()


def num_workers() -> int:
    """Number of workers that the environment variable `TF_CONFIG` names; 1 without it."""
    return max(1, _count_workers(tf.distribute.cluster_resolver.TFConfigClusterResolver().cluster_spec()))


def worker_shard(strategy: Strategy) -> Shard:
    """This worker's share of every batch."""
    resolver = strategy.cluster_resolver
    if resolver is None:
        return Shard(0, 1)
    cluster = resolver.cluster_spec()
    chiefs = len(cluster.as_dict().get("chief", ()))
    return Shard(resolver.task_id + (chiefs if resolver.task_type == "worker" else 0), max(1, _count_workers(cluster)))


def is_chief(strategy: Strategy) -> bool:
    """Whether this process is the one that writes files."""
    return worker_shard(strategy).index == 0


def sum_over_workers(strategy: Strategy, values: Array) -> Array:
    """The sum of the workers' `values`, float64 of the same shape; the result is bitwise equal on all workers."""
    return _gather(strategy, np.asarray(values, np.float64)).sum(axis=0)


def wait_for_all(strategy: Strategy) -> None:
    """Returns once all workers have called this."""
    _gather(strategy, np.zeros(1))


def check_agreement(model: keras.Model, position: Mapping[str, Any], state: Sequence[keras.Variable] = ()) -> None:
    """Checks that all workers begin at one position, with the same variables and the same `state` of the objective.

    Raises:
        ValueError: If they do not.
    """
    strategy = model.distribute_strategy
    if worker_shard(strategy).count == 1:
        return
    variables = [*model.variables, *model.optimizer.variables, *state]
    place = [position["epoch"], position["step"], zlib.crc32(json.dumps(position, sort_keys=True).encode())]
    all_places = _gather(strategy, np.array(place, np.int64))
    if (all_places != all_places[0]).any():
        raise ValueError(
            "All workers must resume from one folder of checkpoints, on storage that they share. Received: epoch and "
            f"step by worker {all_places[:, :2].tolist()}"
        )
    values = _gather(strategy, np.array([zlib.crc32(np.asarray(v.numpy()).tobytes()) for v in variables], np.int64))
    unequal = [v.path for v, crcs in zip(variables, values.T, strict=True) if (crcs != crcs[0]).any()]
    if unequal:
        raise ValueError(
            "All workers must begin with the same variables: build the model from the same seed. "
            f"Received: different values of {unequal[:4]}"
        )


@contextlib.contextmanager
def lost_workers_named() -> Iterator[None]:
    """Raises `LostWorkerError` in place of TensorFlow's error after another worker has ended.

    Raises:
        LostWorkerError: If another worker ended.
    """
    try:
        yield
    except tf.errors.OpError as error:
        if _LOST not in str(error):
            raise
        reason = str(error).partition(_LOST)[2].splitlines()[0]
        raise LostWorkerError(
            f"Another worker is gone, so this one ends, too ({reason.strip()}). What ended it is in that worker's own "
            "output. The same command, on all workers, goes on from the last checkpoint"
        ) from error


def _count_workers(cluster: tf.train.ClusterSpec) -> int:
    return sum(len(cluster.as_dict().get(job, ())) for job in ("chief", "worker"))


def _gather(strategy: Strategy, values: Array) -> Array:
    """The values of all workers, (workers, ...)."""
    if worker_shard(strategy).count == 1:
        return values[np.newaxis]
    everywhere = _gather_flat(strategy, tf.constant(values.reshape(1, -1)))
    by_replica = strategy.experimental_local_results(everywhere)[0].numpy()
    return by_replica[:: len(strategy.extended.worker_devices)].reshape(-1, *values.shape)


@tf.function(autograph=False, reduce_retracing=True)
def _gather_flat(strategy: Strategy, own: Tensor) -> Tensor:
    def replica() -> Tensor:
        # The copy is on the replica's device: TensorFlow plans the communication by the device of its input.
        return tf.distribute.get_replica_context().all_gather(tf.identity(own), axis=0)

    return strategy.run(replica)


@contextlib.contextmanager
def _ends_in_time() -> Iterator[None]:
    """Ends the process if other workers do not start: TensorFlow's wait runs no Python code and ignores Ctrl-C."""
    _LOG.warning("Waiting for %d workers to start; without them this one ends after %g s", num_workers(), START_SECONDS)
    with open(os.devnull, "w") as nowhere:
        faulthandler.dump_traceback_later(START_SECONDS, exit=True, file=nowhere)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()
