"""What the parts of a DHEN training step must at least compute and move: a floor for the time of each.

    FLOPs = 6 batch products                 of matrix products: 2 a multiplication, one product forward, two backward
    bytes = 4 (batch (inputs + outputs)      forward: inputs read, outputs written
             + batch (outputs + 2 inputs)    backward: gradients of outputs and inputs read, gradients of inputs written
             + 3 weights)                    read forward and backward, their gradients written

Products (multiplications), inputs and outputs are those of a row. Values between the operations of a part are not
counted, nor is the addition of gradients where parts share an input: a program can keep both in registers.
"""

import itertools
import math
import statistics
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from c2al_tf.config import ModelConfig


class Cost(NamedTuple):
    """FLOPs and bytes of a part in one step."""

    flops: int
    num_bytes: int


def floor(cost: Cost, peaks: Sequence[float], bandwidths: Sequence[float]) -> tuple[str, list[float]]:
    """What bounds a part, and its least milliseconds for each round of measured FLOP/s and bytes/s."""
    times = {
        "arithmetic": [1e3 * cost.flops / peak for peak in peaks],
        "memory": [1e3 * cost.num_bytes / bandwidth for bandwidth in bandwidths],
    }
    return max(times.items(), key=lambda item: statistics.median(item[1]))


def step_costs(
    config: ModelConfig, num_fields: int, batch: int, table_rows: int, dense_shapes: Iterable[Sequence[int]]
) -> dict[str, Cost]:
    """The cost of each part of a step, in all blocks together; the model has one task head.

    Args:
        config: Sizes of the model.
        num_fields: Fields, each with one id per row.
        batch: Rows of the batch.
        table_rows: Different rows of the table in the batch.
        dense_shapes: Shapes of all weights but the table.
    """
    X = num_fields * config.embedding_dim
    blocks = {
        name: Cost(config.num_blocks * flops, config.num_blocks * num_bytes)
        for name, (flops, num_bytes) in block_costs(config, num_fields, batch).items()
    }
    return {
        "embeddings": embedding_cost(num_fields, config.embedding_dim, batch, table_rows),
        **blocks,
        # Its output is the loss, one number.
        "shared layer, head, loss": _mlp_cost(batch, [X, *config.shared_units, *config.head_units, 1], outputs=0),
        "dense optimizer": optimizer_cost(dense_shapes),
    }


def block_costs(config: ModelConfig, num_fields: int, batch: int) -> dict[str, Cost]:
    """The cost of each part of one block."""
    n, d, k, m = num_fields, config.embedding_dim, config.num_outputs, config.mixing_outputs
    X, Y, Z = n * d, n * k, m * d  # floats of a row
    u = Y + Z
    return {
        "attention MLP": _mlp_cost(batch, [X, config.attention_units, Y], outputs=Y),
        "G = X (X^T Y)": _cost(batch, X + Y, Y, products=2 * n * d * k),
        "field mixing": _cost(batch, X, Z, products=n * d * m, weights=n * m),
        "ensemble layer": _mlp_cost(batch, [u, X], outputs=X),
        "norms": _norms_cost(batch, u, X, weights=2 * (u + d)),
    }


def embedding_cost(num_fields: int, dim: int, batch: int, table_rows: int) -> Cost:
    """Gather forward, update backward: of each different row of the table, which has one accumulator.

    Forward the ids and rows are read and X written; backward the ids and the gradient of X are read, and the rows and
    accumulators read and written.
    """
    ids, X, rows = batch * num_fields, batch * num_fields * dim, table_rows * dim
    return Cost(0, 4 * (ids + rows + X) + 4 * (ids + X + 2 * (rows + table_rows)))


def optimizer_cost(shapes: Iterable[Sequence[int]]) -> Cost:
    """Row-wise Adagrad: gradients read, weights and accumulators read and written; a matrix has one of these a row."""
    shapes = list(shapes)
    weights = sum(math.prod(shape) for shape in shapes)
    accumulators = sum(shape[0] if len(shape) == 2 else math.prod(shape) for shape in shapes)
    return Cost(0, 4 * (3 * weights + 2 * accumulators))


def _norms_cost(batch: int, u: int, X: int, weights: int) -> Cost:
    """The inner norm, of u, and the outer, of a sum: both terms are read, and have the same gradient."""
    flops, num_bytes = _cost(batch, u + X, u + X, products=0, weights=weights)
    return Cost(flops, num_bytes + 4 * batch * X)


def _mlp_cost(batch: int, sizes: Sequence[int], outputs: int) -> Cost:
    """Dense layers with biases, from `sizes[0]` inputs on."""
    products = sum(a * b for a, b in itertools.pairwise(sizes))
    return _cost(batch, sizes[0], outputs, products, weights=products + sum(sizes[1:]))


def _cost(batch: int, inputs: int, outputs: int, products: int, weights: int = 0) -> Cost:
    return Cost(6 * batch * products, 4 * (batch * (3 * inputs + 2 * outputs) + 3 * weights))
