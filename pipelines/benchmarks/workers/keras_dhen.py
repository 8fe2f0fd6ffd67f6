"""Our DHEN: the model of `c2al_tf`, its optimizer and its compiled step, which also sums the metrics of a history."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from c2al_tf.config import ModelConfig, TrainingConfig
from c2al_tf.losses import weighted_sum_of_tasks
from c2al_tf.model import build_model
from c2al_tf.schema import CategoricalFeature, Schema
from c2al_tf.training import compile_step, keep_freed_memory, make_optimizer

from .problem import Batch, Problem, draw_batches, task_labels
from .serving import Built, repeat_batches, serve


def build(spec: dict[str, Any]) -> Built:
    """The model with row-wise Adagrad on the table and Adam on the dense weights.

    Args:
        spec: `problem`; `mode`, `"XLA"` or `"no XLA"`; `keep_freed_memory`, if it is to be kept.
    """
    if spec.get("keep_freed_memory"):
        keep_freed_memory()
    keras.utils.set_random_seed(0)
    problem = Problem.from_json(spec["problem"])
    lambdas = {f"cohort_{index}": value for index, value in enumerate(problem.lambdas)}
    model = build_model(_schema(problem), _config(problem), cohorts=lambdas)
    training = TrainingConfig(learning_rate=problem.learning_rate, decay="constant", table_optimizer="row_wise_adagrad")
    model.compile(optimizer=make_optimizer(training, num_steps=1))
    step = compile_step(model, weighted_sum_of_tasks(lambdas), spec["mode"] == "XLA")
    batches = [_feed(problem, ["primary", *lambdas], batch) for batch in draw_batches(problem)]
    return Built(repeat_batches(lambda *batch: step(*batch)[0], batches), model.count_params())


def _schema(problem: Problem) -> Schema:
    fields = range(problem.num_fields)
    buckets = problem.rows_per_field - 1
    return Schema(tuple(CategoricalFeature(f"field_{i}", "int64", num_hash_buckets=buckets) for i in fields))


def _config(problem: Problem) -> ModelConfig:
    return ModelConfig(
        embedding_dim=problem.dim,
        num_blocks=problem.num_blocks,
        num_outputs=problem.num_outputs,
        attention_units=problem.attention_units,
        mixing_outputs=problem.mixing_outputs,
        shared_units=(problem.units,),
        head_units=(problem.units,),
    )


def _feed(problem: Problem, tasks: list[str], batch: Batch) -> tuple[Any, ...]:
    ids = np.ascontiguousarray((batch.ids % problem.rows_per_field).T)
    x = {f"field_{number}": tf.constant(ids[number]) for number in range(problem.num_fields)}
    labels = task_labels(problem, batch)
    y = {task: tf.constant(label[:, None]) for task, label in zip(tasks, labels, strict=True)}
    return x, y, tf.ones(problem.batch_size)


if __name__ == "__main__":
    serve(build)
