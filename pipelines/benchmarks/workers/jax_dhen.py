"""DHEN in plain JAX on the CPU, in one jitted step: row-wise Adagrad on the table, Adam on the dense weights."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .problem import Problem, draw_batches, task_labels
from .serving import Built, repeat_batches, serve

EPSILON = 1e-3
ADAM_EPSILON = ADAGRAD_EPSILON = 1e-7
BETA_1, BETA_2 = 0.9, 0.999


def build(spec: dict[str, Any]) -> Built:
    """The model with its two optimizers; the state of one step is overwritten by the next.

    Args:
        spec: `problem`.
    """
    problem = Problem.from_json(spec["problem"])
    rng = np.random.default_rng(0)
    table = jnp.asarray(rng.uniform(-0.05, 0.05, (problem.table_rows, problem.dim)), jnp.float32)
    weights = _init(problem, rng)
    momentum, velocity = (jax.tree.map(jnp.zeros_like, weights) for _ in range(2))
    state = (table, jnp.full((problem.table_rows, 1), 0.1), weights, momentum, velocity, jnp.zeros(()))
    compiled = jax.jit(_step, static_argnums=0, donate_argnums=1)

    def step(*batch: Any) -> Any:
        nonlocal state
        state, loss = compiled(problem, state, *batch)
        return loss

    batches = [
        (jnp.asarray(batch.ids), jnp.asarray(np.stack(task_labels(problem, batch)))) for batch in draw_batches(problem)
    ]
    num_weights = sum(weight.size for weight in jax.tree.leaves((table, weights)))
    return Built(repeat_batches(step, batches), num_weights)


def _init(problem: Problem, rng: np.random.Generator) -> dict[str, Any]:
    n, d, k, m = problem.num_fields, problem.dim, problem.num_outputs, problem.mixing_outputs
    size, units = n * k + m * d, problem.units

    def matrix(rows: int, columns: int) -> Any:
        limit = (6 / (rows + columns)) ** 0.5
        return jnp.asarray(rng.uniform(-limit, limit, (rows, columns)), jnp.float32)

    def dense(rows: int, columns: int) -> Any:
        return matrix(rows, columns), jnp.zeros(columns)

    def norm(size: int) -> Any:
        return jnp.ones(size), jnp.zeros(size)

    def block() -> dict[str, Any]:
        return {
            "hidden": dense(n * d, problem.attention_units),
            "attention": dense(problem.attention_units, n * k),
            "mixing": matrix(n, m),
            "inner_norm": norm(size),
            "ensemble": dense(size, n * d),
            "norm": norm(d),
        }

    return {
        "blocks": [block() for _ in range(problem.num_blocks)],
        "shared": dense(n * d, units),
        "heads": [(dense(units, units), dense(units, 1)) for _ in (1.0, *problem.lambdas)],
    }


def _dense(weights: Any, x: Any) -> Any:
    kernel, bias = weights
    return x @ kernel + bias


def _norm(weights: Any, x: Any) -> Any:
    scale, shift = weights
    centered = x - x.mean(-1, keepdims=True)
    return centered * jax.lax.rsqrt((centered**2).mean(-1, keepdims=True) + EPSILON) * scale + shift


def _block(problem: Problem, weights: dict[str, Any], X: Any) -> Any:
    flat = (len(X), -1)
    Y = _dense(weights["attention"], jax.nn.relu(_dense(weights["hidden"], X.reshape(flat))))
    G = X @ (X.transpose(0, 2, 1) @ Y.reshape(len(X), problem.num_fields, problem.num_outputs))
    Z = weights["mixing"].T @ X
    u = jnp.concatenate([G.reshape(flat), Z.reshape(flat)], 1)
    return _norm(weights["norm"], X + _dense(weights["ensemble"], _norm(weights["inner_norm"], u)).reshape(X.shape))


def _loss(problem: Problem, weights: dict[str, Any], X: Any, labels: Any) -> Any:
    for block in weights["blocks"]:
        X = _block(problem, block, X)
    h = jax.nn.relu(_dense(weights["shared"], X.reshape(len(X), -1)))
    logits = jnp.stack([_dense(logit, jax.nn.relu(_dense(hidden, h)))[:, 0] for hidden, logit in weights["heads"]])
    losses = (jax.nn.softplus(logits) - logits * labels).mean(1)
    return jnp.array((1.0, *problem.lambdas)) @ losses


def _step(problem: Problem, state: Any, ids: Any, labels: Any) -> tuple[Any, Any]:
    table, accumulator, weights, momentum, velocity, t = state
    value_and_gradients = jax.value_and_grad(_loss, argnums=(1, 2))
    loss, (gradients, rows) = value_and_gradients(problem, weights, table[ids], labels)
    gradient = jnp.zeros_like(table).at[ids].add(rows)
    accumulator += (gradient**2).mean(1, keepdims=True)
    table -= problem.learning_rate * gradient * jax.lax.rsqrt(accumulator + ADAGRAD_EPSILON)
    t += 1
    momentum = jax.tree.map(lambda m, g: BETA_1 * m + (1 - BETA_1) * g, momentum, gradients)
    velocity = jax.tree.map(lambda v, g: BETA_2 * v + (1 - BETA_2) * g**2, velocity, gradients)
    rate = problem.learning_rate * jnp.sqrt(1 - BETA_2**t) / (1 - BETA_1**t)
    weights = jax.tree.map(lambda w, m, v: w - rate * m / (jnp.sqrt(v) + ADAM_EPSILON), weights, momentum, velocity)
    return (table, accumulator, weights, momentum, velocity, t), loss


if __name__ == "__main__":
    serve(build)
