"""How near a training step of DHEN comes to the arithmetic peak of the machine, and what bfloat16 makes of it.

Two blocks, 26 fields of dimension 16, k = 8, batch 4,096, one compiled XLA program with row-wise Adagrad on a table of
100,000 rows. The peak is that of the fastest large float32 matrix product. Of the step the matrix products alone are
counted, those of one forward and backward pass: what else it does only lowers the figure.
"""

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from c2al_tf.config import ModelConfig
from c2al_tf.schema import CategoricalFeature, Schema

from .machine import matmul_peak
from .results import Result, alternate, compare

NAME = "dhen_peak"
BATCH = 4096
NUM_FIELDS = 26
NUM_ROWS = 100_000
GOAL = 0.6
NUM_STEPS = 3


def run(quick: bool) -> Iterator[Result]:
    """FLOP/s of the step beside the peak; rows/s in bfloat16 beside float32."""
    batch, rounds = (64, 1) if quick else (BATCH, 15)
    config = ModelConfig()
    step = training_step(config, batch)
    flops = step_flops(config, NUM_FIELDS, batch)
    figures = alternate({"step": lambda: flops / step() / 1e6, "peak": lambda: matmul_peak(repeats=2) / 1e9}, rounds)
    yield Result.of(
        NAME,
        f"float32, batch {batch:,}",
        figures["step"],
        figures["peak"],
        peer_name="large matrix product",
        unit="GFLOP/s",
        goal=None if quick else GOAL,
        note=f"{flops / 1e9:.2f} GFLOP a step",
    )
    half = training_step(ModelConfig(mixed_precision=True), batch)
    yield compare(
        NAME,
        f"bfloat16 compute, batch {batch:,}",
        lambda: batch / half() * 1e3,
        lambda: batch / step() * 1e3,
        rounds=rounds,
        peer_name="ours, float32",
        unit="rows/s",
    )


def step_flops(config: ModelConfig, num_fields: int, batch: int) -> int:
    """Floating-point operations of the matrix products of a step with one head.

    A product of two factors that both learn, or hand a gradient on, takes two products of its size backward.
    """
    n, d, k, m = num_fields, config.embedding_dim, config.num_outputs, config.mixing_outputs
    attention = n * d * config.attention_units + config.attention_units * n * k
    interaction = 2 * n * d * k + n * d * m
    ensemble = (n * k + m * d) * n * d
    units = [n * d, *config.shared_units, *config.head_units, 1]
    dense = sum(a * b for a, b in itertools.pairwise(units))
    forward = config.num_blocks * (attention + interaction + ensemble) + dense
    return 3 * 2 * batch * forward


def training_step(config: ModelConfig, batch: int, num_heads: int = 0) -> Callable[[], float]:
    """Builds a model and compiles its step; each call trains a few steps and returns the milliseconds of one."""
    import keras
    import tensorflow as tf

    from c2al_tf.losses import weighted_sum_of_tasks
    from c2al_tf.model import build_model
    from c2al_tf.optimizers import RowWiseAdagrad
    from c2al_tf.training import compile_step

    buckets = NUM_ROWS // NUM_FIELDS - 1
    schema = Schema(tuple(CategoricalFeature(f"f{i}", "int64", num_hash_buckets=buckets) for i in range(NUM_FIELDS)))
    cohorts = [f"cohort_{i}" for i in range(num_heads)]
    keras.utils.set_random_seed(0)
    model = build_model(schema, config, cohorts=cohorts)
    model.compile(optimizer=RowWiseAdagrad(learning_rate=0.01))
    step = compile_step(model, weighted_sum_of_tasks(dict.fromkeys(cohorts, 0.1)))
    rng = np.random.default_rng(0)
    x = {f.name: tf.constant(rng.integers(1, f.num_ids, batch), tf.int32) for f in schema.features}
    y = {task: tf.constant((rng.random((batch, 1)) < 0.1).astype(np.float32)) for task in model.output}
    weight = tf.ones(batch)

    def measure() -> float:
        start = time.perf_counter()
        losses: list[Any] = [step(x, y, weight)[0] for _ in range(NUM_STEPS)]
        _ = losses[-1].numpy()
        return (time.perf_counter() - start) / NUM_STEPS * 1e3

    measure()
    return measure
