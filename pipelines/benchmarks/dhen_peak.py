"""A training step of DHEN beside the arithmetic peak of the machine, and in bfloat16.

Two blocks, 26 fields of dimension 16, k = 8, batch 4,096, one compiled XLA program with row-wise Adagrad on a table of
100,000 rows. The peak is that of the fastest large float32 matrix product. Only the matrix products of one forward and
backward pass are counted; other operations lower the rate. The parts of the step follow, each alone, forward and
backward, beside the same peak: they show which of them keep the step below it.
"""

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

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
    measurements = alternate(
        {"step": lambda: flops / step() / 1e6, "peak": lambda: matmul_peak(repeats=2) / 1e9}, rounds
    )
    yield Result.of(
        NAME,
        f"float32, batch {batch:,}",
        measurements["step"],
        measurements["peak"],
        peer_name="large matrix product",
        unit="GFLOP/s",
        goal=None if quick else GOAL,
        note=f"{flops / 1e9:.2f} GFLOP a step",
    )
    yield from _parts_beside_peak(config, batch, rounds)
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

    If both factors of a product need a gradient, the backward pass takes two products of the same size.
    """
    units = [num_fields * config.embedding_dim, *config.shared_units, *config.head_units, 1]
    dense = sum(a * b for a, b in itertools.pairwise(units))
    forward = config.num_blocks * sum(block_products(config, num_fields).values()) + dense
    return 3 * 2 * batch * forward


def block_products(config: ModelConfig, num_fields: int) -> dict[str, int]:
    """Multiplications of a row in a block, forward, by part."""
    n, d, k, m = num_fields, config.embedding_dim, config.num_outputs, config.mixing_outputs
    return {
        "attention MLP": n * d * config.attention_units + config.attention_units * n * k,
        "G = X (X^T Y)": 2 * n * d * k,
        "field mixing": n * d * m,
        "ensemble layer": (n * k + m * d) * n * d,
        "norms": 0,
    }


def training_step(config: ModelConfig, batch: int, num_heads: int = 0) -> Callable[[], float]:
    """Builds a model and compiles its step; each call trains a few steps and returns the milliseconds of one."""
    import keras
    import tensorflow as tf

    from c2al_tf.losses import weighted_sum_of_tasks
    from c2al_tf.model import build_model
    from c2al_tf.optimizers import RowWiseAdagrad
    from c2al_tf.training import compile_step

    schema = _schema()
    cohorts = [f"cohort_{i}" for i in range(num_heads)]
    keras.utils.set_random_seed(0)
    model = build_model(schema, config, cohorts=cohorts)
    model.compile(optimizer=RowWiseAdagrad(learning_rate=0.01))
    step = compile_step(model, weighted_sum_of_tasks(dict.fromkeys(cohorts, 0.1)))
    rng = np.random.default_rng(0)
    x = {f.name: tf.constant(rng.integers(1, f.num_ids, batch), tf.int32) for f in schema.features}
    y = {task: tf.constant((rng.random((batch, 1)) < 0.1).astype(np.float32)) for task in model.output}
    weight = tf.ones(batch)

    return _timed(lambda: step(x, y, weight)[0])


def _timed(call: Callable[[], Any]) -> Callable[[], float]:
    """Warms up; each call then returns the milliseconds of one of `NUM_STEPS` calls, whose last result is awaited."""

    def measure() -> float:
        start = time.perf_counter()
        results = [call() for _ in range(NUM_STEPS)]
        _ = results[-1].numpy()
        return (time.perf_counter() - start) / NUM_STEPS * 1e3

    measure()
    return measure


class _Part(NamedTuple):
    """A part of a block: a function, and the shapes that it takes, without the batch."""

    call: Callable[..., Any]
    shapes: tuple[tuple[int, ...], ...]


def _parts_beside_peak(config: ModelConfig, batch: int, rounds: int) -> Iterator[Result]:
    """FLOP/s of each part of the blocks beside the peak; the note says how long the parts of all blocks take."""
    products = block_products(config, NUM_FIELDS)
    timed = {name: _forward_and_backward(part, batch) for name, part in _block_parts(config).items()}
    measurements = alternate({**timed, "peak": lambda: matmul_peak(repeats=2) / 1e9}, rounds)
    for name in timed:
        flops = 3 * 2 * batch * products[name]
        rates = [flops / ms / 1e6 for ms in measurements[name]]
        beside: dict[str, Any] = {"peer_name": "large matrix product", "unit": "GFLOP/s"}
        note = f"{config.num_blocks * np.median(measurements[name]):.1f} ms in {config.num_blocks} blocks"
        yield Result.of(NAME, f"of the step, {name}, batch {batch:,}", rates, measurements["peak"], **beside, note=note)


def _block_parts(config: ModelConfig) -> dict[str, _Part]:
    from c2al_tf.layers.fm_attention import fm_attention
    from c2al_tf.model import build_model

    block = build_model(_schema(), config).get_layer("block_0")
    attention, mixing = block.interactions
    size = block.ensemble.kernel.shape[0]
    X, u = (NUM_FIELDS, config.embedding_dim), (size,)
    return {
        "attention MLP": _Part(attention.attention, (X,)),
        "G = X (X^T Y)": _Part(fm_attention, (X, (NUM_FIELDS, config.num_outputs))),
        "field mixing": _Part(mixing, (X,)),
        "ensemble layer": _Part(block.ensemble, (u,)),
        "norms": _Part(lambda u, X: (block.inner_norm(u), block.norm(X)), (u, X)),
    }


def _forward_and_backward(part: _Part, batch: int) -> Callable[[], float]:
    """Compiles a part and its gradient; each call returns the milliseconds of one pass."""
    import tensorflow as tf

    inputs = [tf.random.normal((batch, *shape)) for shape in part.shapes]

    @tf.function(jit_compile=True)
    def gradients(*inputs: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = tf.nest.flatten(part.call(*inputs))
        # The outputs serve as the upstream gradient, so that it is not a constant.
        upstream = [tf.stop_gradient(output) for output in outputs]
        return tape.gradient(outputs, [*inputs, *tape.watched_variables()], upstream)

    return _timed(lambda: gradients(*inputs)[0])


def _schema() -> Schema:
    buckets = NUM_ROWS // NUM_FIELDS - 1
    return Schema(tuple(CategoricalFeature(f"f{i}", "int64", num_hash_buckets=buckets) for i in range(NUM_FIELDS)))
