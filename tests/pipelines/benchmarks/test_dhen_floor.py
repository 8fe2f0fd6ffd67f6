"""Floors of a model so small that its FLOPs and bytes are counted by hand."""

import pytest
from c2al_pipelines.benchmarks.dhen_floor import Cost, embedding_cost, floor, optimizer_cost, step_costs

from c2al_tf.config import ModelConfig
from c2al_tf.model import build_model
from c2al_tf.schema import CategoricalFeature, Schema

# X has 3 x 2 floats a row, Y has 3 x 1, Z has 2 x 2, and u, of Y's and Z's sizes, has 7.
CONFIG = ModelConfig(
    embedding_dim=2,
    num_blocks=2,
    num_outputs=1,
    attention_units=5,
    mixing_outputs=2,
    shared_units=(4,),
    head_units=(),
)
BATCH = 10


def test_parts_by_hand() -> None:
    costs = step_costs(CONFIG, 3, BATCH, table_rows=8, dense_shapes=[(3, 2), (4,)])
    assert costs == {
        # Ids 30, rows 16, X 60; then ids 30, gradient 60, rows and accumulators 24, twice.
        "embeddings": Cost(0, 4 * (30 + 16 + 60) + 4 * (30 + 60 + 48)),
        # Multiplications 6 x 5 + 5 x 3, and 8 biases; X three times, Y twice.
        "attention MLP": Cost(2 * 6 * 10 * 45, 2 * 4 * (10 * (3 * 6 + 2 * 3) + 3 * 53)),
        # 2 x 3 x 2 x 1 multiplications; X and Y three times, G twice.
        "G = X (X^T Y)": Cost(2 * 6 * 10 * 12, 2 * 4 * 10 * (3 * 9 + 2 * 3)),
        "field mixing": Cost(2 * 6 * 10 * 12, 2 * 4 * (10 * (3 * 6 + 2 * 4) + 3 * 6)),
        "ensemble layer": Cost(2 * 6 * 10 * 42, 2 * 4 * (10 * (3 * 7 + 2 * 6) + 3 * 48)),
        # u five times, X six times: two terms and the sum of them, its gradient twice. Scales and shifts of 7 and of 2.
        "norms": Cost(0, 2 * 4 * (10 * (5 * 7 + 6 * 6) + 3 * 18)),
        "shared layer, head, loss": Cost(6 * 10 * 28, 4 * (10 * 3 * 6 + 3 * 33)),
        # Ten weights: gradient, weight twice; three accumulators of the matrix and four of the vector, twice.
        "dense optimizer": Cost(0, 4 * (3 * 10 + 2 * 7)),
    }


def test_flops_are_those_of_the_kernels_of_the_model() -> None:
    fields = tuple(CategoricalFeature(name, "int64", num_hash_buckets=3) for name in "abc")
    weights = build_model(Schema(fields), CONFIG).trainable_variables
    kernels = [v.shape[0] * v.shape[1] * (2 if "mixing" in v.path else 1) for v in weights if "kernel" in v.path]
    costs = step_costs(CONFIG, 3, BATCH, table_rows=1, dense_shapes=[])
    interactions = costs["G = X (X^T Y)"].flops
    assert sum(cost.flops for cost in costs.values()) - interactions == 6 * BATCH * sum(kernels)


def test_optimizer_and_embeddings_need_no_matrix_product() -> None:
    assert optimizer_cost([]) == Cost(0, 0)
    assert embedding_cost(1, 1, 1, 1) == Cost(0, 4 * 3 + 4 * 6)


@pytest.mark.parametrize(
    ("bandwidth", "bound"), [(8e3, ("memory", [500.0, 500.0])), (80e3, ("arithmetic", [100.0, 300.0]))]
)
def test_the_longer_time_is_the_floor(bandwidth: float, bound: tuple[str, list[float]]) -> None:
    name, times = floor(Cost(6000, 4000), [60e3, 20e3], [bandwidth, bandwidth])
    assert (name, times) == (bound[0], pytest.approx(bound[1]))
