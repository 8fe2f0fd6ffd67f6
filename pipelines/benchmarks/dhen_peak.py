"""A training step of DHEN, and each of its parts, beside the least time that this machine can take.

Two blocks, 26 fields of dimension 16, k = 8, batch 4,096, one compiled XLA program with row-wise Adagrad on a table of
100,000 rows and on the dense weights. A part is compiled and measured alone, forward and backward, in all blocks
together. Its floor is the longer of two times: of its matrix products at the rate of the fastest large float32 matrix
product, and of its inputs, outputs and gradients, each moved once, at the bandwidth of copies between arrays of their
size. The floor of the step is the sum over its parts. Last, the step in bfloat16.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from c2al_tf.config import ModelConfig
from c2al_tf.schema import CategoricalFeature, NumericFeature, Schema

from .dhen_floor import Cost, floor, step_costs
from .machine import copy_bandwidth, matmul_peak
from .results import Result, alternate, compare

NAME = "dhen_peak"
BATCH = 4096
NUM_FIELDS = 26
NUM_ROWS = 100_000
GOAL = 0.6
MOST = 1.6
"""Most times its floor that the step may take."""
NUM_STEPS = 3


def run(quick: bool) -> Iterator[Result]:
    """FLOP/s of the step beside the peak; the step and its parts beside their floors; bfloat16 beside float32."""
    batch, rounds = (64, 1) if quick else (BATCH, 15)
    config = ModelConfig()
    step = training_step(config, batch)
    yield from _beside_bounds(config, batch, step, rounds, quick)
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


def _beside_bounds(
    config: ModelConfig, batch: int, step: Callable[[], float], rounds: int, quick: bool
) -> Iterator[Result]:
    """Measures in turns the step, its parts, the peak, and the bandwidths for arrays of these two sizes."""
    parts, costs, num_weights = _parts_and_costs(config, batch)
    measured = alternate(
        {
            **parts,
            "step": step,
            "peak": lambda: matmul_peak(repeats=2),
            "activations": lambda: copy_bandwidth(4 * batch * NUM_FIELDS * config.embedding_dim),
            "weights": lambda: copy_bandwidth(4 * num_weights),
        },
        rounds,
    )
    floors = {
        name: floor(cost, measured["peak"], measured["weights" if name == "dense optimizer" else "activations"])
        for name, cost in costs.items()
    }
    yield from _results(f"float32, batch {batch:,}", measured, costs, floors, quick)


def _results(
    case: str,
    measured: Mapping[str, Sequence[float]],
    costs: Mapping[str, Cost],
    floors: Mapping[str, tuple[str, Sequence[float]]],
    quick: bool,
) -> Iterator[Result]:
    """The step beside the peak and beside its floor, then its parts beside theirs."""
    total = Cost(*(sum(values) for values in zip(*costs.values(), strict=True)))
    yield Result.of(
        NAME,
        case,
        [total.flops / ms / 1e6 for ms in measured["step"]],
        [peak / 1e9 for peak in measured["peak"]],
        peer_name="large matrix product",
        unit="GFLOP/s",
        goal=None if quick else GOAL,
        note=f"{total.flops / 1e9:.2f} GFLOP a step",
    )
    sums = [sum(times) for times in zip(*(times for _, times in floors.values()), strict=True)]
    beside: dict[str, Any] = {"peer_name": "sum of the floors", "unit": "ms", "goal": None if quick else 1 / MOST}
    yield Result.of(NAME, f"{case}, step", measured["step"], sums, **beside, note=_note(total))
    for name, (kind, times) in floors.items():
        beside = {"peer_name": f"floor ({kind})", "unit": "ms", "note": _note(costs[name])}
        yield Result.of(NAME, f"{case}, {name}", measured[name], times, **beside)


def _note(cost: Cost) -> str:
    return f"{cost.flops / 1e9:.2f} GFLOP, {cost.num_bytes / 1e6:.1f} MB"


def training_step(config: ModelConfig, batch: int, num_heads: int = 0) -> Callable[[], float]:
    """Builds a model and compiles its step; each call trains a few steps and returns the milliseconds of one."""
    step, rows = prepare_step(config, batch, num_heads)
    return timed(lambda: step(*rows)[0])


def prepare_step(config: ModelConfig, batch: int, num_heads: int) -> tuple[Any, tuple[Any, Any, Any]]:
    """A step of a new model, compiled with XLA when it is first called, and a batch for it."""
    import keras

    from c2al_tf.losses import weighted_sum_of_tasks
    from c2al_tf.model import build_model
    from c2al_tf.optimizers import RowWiseAdagrad
    from c2al_tf.training import compile_step

    schema = new_schema()
    cohorts = [f"cohort_{i}" for i in range(num_heads)]
    keras.utils.set_random_seed(0)
    model = build_model(schema, config, cohorts=cohorts)
    model.compile(optimizer=RowWiseAdagrad(learning_rate=0.01))
    step = compile_step(model, weighted_sum_of_tasks(dict.fromkeys(cohorts, 0.1)))
    return step, draw_rows(schema, model.output, batch)


def draw_rows(schema: Schema, tasks: Iterable[str], batch: int) -> tuple[Any, Any, Any]:
    """A batch `(x, y, weight)` of random ids and values, a tenth of its labels positive."""
    import tensorflow as tf

    rng = np.random.default_rng(0)
    x = {f.name: tf.constant(rng.integers(1, f.num_ids, batch), tf.int32) for f in schema.features}
    values = [f.value_input for f in schema.features if isinstance(f, NumericFeature) and f.value_input]
    x |= {name: tf.constant(rng.standard_normal(batch), tf.float32) for name in values}
    y = {task: tf.constant((rng.random((batch, 1)) < 0.1).astype(np.float32)) for task in tasks}
    return x, y, tf.ones(batch)


def timed(call: Callable[[], Any], times: int = 1) -> Callable[[], float]:
    """Warms up; each measurement is of `NUM_STEPS` calls, whose last is awaited: the milliseconds of `times` calls."""

    def measure() -> float:
        start = time.perf_counter()
        results = [call() for _ in range(NUM_STEPS)]
        _ = results[-1].numpy()
        return times * (time.perf_counter() - start) / NUM_STEPS * 1e3

    measure()
    return measure


def _parts_and_costs(config: ModelConfig, batch: int) -> tuple[dict[str, Callable[[], float]], dict[str, Cost], int]:
    """Callables that measure the milliseconds of each part, the costs of the parts, and the number of dense weights."""
    import keras

    from c2al_tf.losses import weighted_sum_of_tasks
    from c2al_tf.model import build_model

    schema = new_schema()
    model = build_model(schema, config)
    x, y, weight = draw_rows(schema, model.output, batch)
    embedding, last = model.get_layer("field_embedding"), model.get_layer(f"block_{config.num_blocks - 1}")
    dense = [variable for variable in model.trainable_variables if variable is not embedding.table]
    head, objective = keras.Model(last.output, model.output), weighted_sum_of_tasks()
    X = (batch, NUM_FIELDS, config.embedding_dim)
    parts = {
        "embeddings": _embeddings(embedding, x, X),
        **_block_parts(last, config, X),
        "shared layer, head, loss": _forward_and_backward(lambda X: objective(y, head(X), weight)[0], X),
        "dense optimizer": _optimizer(dense),
    }
    table_rows = sum(len(np.unique(ids)) for ids in x.values())
    costs = step_costs(config, NUM_FIELDS, batch, table_rows, [variable.shape for variable in dense])
    return parts, costs, sum(int(np.prod(variable.shape)) for variable in dense)


def _block_parts(block: Any, config: ModelConfig, X: tuple[int, ...]) -> dict[str, Callable[[], float]]:
    """The parts of a block, for as many blocks as the model has."""
    import tensorflow as tf

    from c2al_tf.layers.fm_attention import fm_attention

    attention, mixing = block.interactions
    u, Y = (X[0], block.ensemble.kernel.shape[0]), (*X[:2], config.num_outputs)
    added = tf.random.normal(X)  # no second gradient: it equals the one of X
    calls: dict[str, tuple[Any, ...]] = {
        "attention MLP": (attention.attention, X),
        "G = X (X^T Y)": (fm_attention, X, Y),
        "field mixing": (mixing, X),
        "ensemble layer": (block.ensemble, u),
        "norms": (lambda u, X: (block.inner_norm(u), block.norm(X + added)), u, X),
    }
    return {name: _forward_and_backward(*part, times=config.num_blocks) for name, part in calls.items()}


def _forward_and_backward(call: Callable[..., Any], *shapes: tuple[int, ...], times: int = 1) -> Callable[[], float]:
    """Measures a function of tensors of these shapes, and its gradients by them and by the weights that it reads."""
    import tensorflow as tf

    inputs = [tf.random.normal(shape) for shape in shapes]
    upstream = [tf.random.normal(output.shape) for output in tf.nest.flatten(call(*inputs))]

    @tf.function(jit_compile=True)
    def both(inputs: Any, upstream: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = tf.nest.flatten(call(*inputs))
        return outputs, tape.gradient(outputs, [*inputs, *tape.watched_variables()], upstream)

    return timed(lambda: both(inputs, upstream)[0][0], times)


def _embeddings(layer: Any, x: Any, shape: tuple[int, ...]) -> Callable[[], float]:
    """Measures the gather of the rows and the update of the table."""
    import tensorflow as tf

    from c2al_tf.optimizers import RowWiseAdagrad

    optimizer = RowWiseAdagrad(learning_rate=0.01)
    optimizer.build([layer.table])

    @tf.function(jit_compile=True)
    def gather_and_update(x: Any, upstream: Any) -> Any:
        with tf.GradientTape() as tape:
            X = layer(x)
        optimizer.apply([tape.gradient(X, layer.table.value, upstream)], [layer.table])
        return X

    upstream = tf.random.normal(shape)
    return timed(lambda: gather_and_update(x, upstream))


def _optimizer(variables: list[Any]) -> Callable[[], float]:
    """Measures the update of weights from gradients that are there."""
    import tensorflow as tf

    from c2al_tf.optimizers import RowWiseAdagrad

    optimizer = RowWiseAdagrad(learning_rate=0.01)
    optimizer.build(variables)

    @tf.function(jit_compile=True)
    def update(gradients: Any) -> Any:
        optimizer.apply(gradients, variables)
        return optimizer.iterations + 0

    gradients = [tf.random.normal(variable.shape) for variable in variables]
    return timed(lambda: update(gradients))


def new_schema() -> Schema:
    """26 fields that are hashed to 100,000 rows together."""
    buckets = NUM_ROWS // NUM_FIELDS - 1
    return Schema(tuple(CategoricalFeature(f"f{i}", "int64", num_hash_buckets=buckets) for i in range(NUM_FIELDS)))
