"""Seeds x lambdas of C2AL, all trained at once on one device by rows of the planted world that are drawn on it.

Every seed has its own initial values and its own rows, the same for the baseline and every lambda. A loop on the device
runs the steps, `vmap` the models, in one program for the baseline and one for the models with cohort heads; logs of
several lengths share both. The test rows have their true click probabilities as labels, so that no noise of labels is
left; the intervals are over seeds, and hold for this world. Lambda 0 differs from the baseline by what rounding in
another program leads to. Keras has to run on JAX; TensorFlow need not be there. Try it on a CPU first:

    KERAS_BACKEND=jax python -m c2al_pipelines.benchmarks.device_grid --rows 50000 100000 --seeds 2 --lambdas 0 0.3
"""

import argparse
import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import keras
import numpy as np

from c2al_tf.config import ModelConfig
from c2al_tf.files import write_json
from c2al_tf.losses import binary_cross_entropy, weighted_sum_of_tasks
from c2al_tf.model import build_model
from c2al_tf.schema import Schema
from c2al_tf.types import PRIMARY, Array, Tensor

from ..datasets.ads_world import COHORT_NAMES, HEAD, MAJORITY, TAIL, SyntheticAds
from .device_rows import Rows, draw_rows, encode, make_schema
from .device_table import summarize, table

WORLD = SyntheticAds(click_rate=0.0074, tail_lift=0.6, cohort_strength=1.6)
MODEL = ModelConfig(embedding_dim=8, num_blocks=1, num_outputs=4, mixing_outputs=4)
"""The point that the curves of `experiments.curves` share: those of configs/planted_curves.yaml."""
COHORTS = {"head": HEAD, "tail": TAIL}
_TRAIN, _TEST = range(2)
_SPARE = 1.1
"""Rows drawn for a batch, as a multiple of what it takes on average; if too few are kept, rows of weight 0 fill it."""

Values: TypeAlias = list[Any]
"""Arrays, one for each variable of a model; with leading axes for seeds, or for seeds and arms."""


@dataclass(frozen=True)
class Grid:
    """What is trained, and on how many rows.

    Args:
        rows: Lengths of the log in rows, each of which every model sees once.
        test_rows: Rows that every seed's models are compared on.
        seeds: Number of seeds, at least 1.
        lambdas: Weights of both cohort tasks, one model each.
        decayed: Further weights, which a cosine takes to zero.
        batch: Rows of a step.
        learning_rate: Step size of Adam at the start; a cosine takes it to zero.
        negative_share: Share of the negatives that are trained on, at the inverse weight, in (0, 1].
        world: The planted world.
        model: The model.
    """

    rows: tuple[int, ...]
    test_rows: int
    seeds: int
    lambdas: tuple[float, ...]
    decayed: tuple[float, ...] = ()
    batch: int = 2048
    learning_rate: float = 5e-3
    negative_share: float = 0.1
    world: SyntheticAds = WORLD
    model: ModelConfig = MODEL

    def __post_init__(self) -> None:
        for name, value in [("rows", rows) for rows in self.rows] + [
            (name, getattr(self, name)) for name in ("test_rows", "seeds", "batch")
        ]:
            if value < 1:
                raise ValueError(f"`{name}` must be at least 1. Received: {name}={value}")
        if not 0 < self.negative_share <= 1:
            raise ValueError(f"`negative_share` must be in (0, 1]. Received: negative_share={self.negative_share}")

    @property
    def kept_share(self) -> float:
        """Share of the log's rows that are trained on."""
        return self.world.click_rate + self.negative_share * (1 - self.world.click_rate)

    def steps(self, rows: int) -> int:
        """Steps of one pass over a log of so many rows."""
        return max(1, round(rows * self.kept_share / self.batch))


class Batch(NamedTuple):
    """What a step takes: the model's inputs, the labels by task, (rows, 1), and the row weights, (rows,)."""

    inputs: dict[str, Tensor]
    labels: dict[str, Tensor]
    weight: Tensor


def draw_batch(grid: Grid, schema: Schema, key: Tensor) -> Batch:
    """Draws the rows of a step, with y_cohort = y 1[x in cohort]; of the negatives a share, at the inverse weight."""
    of_rows, of_clicks, of_kept = jax.random.split(key, 3)
    whole = grid.negative_share == 1
    count = grid.batch if whole else math.ceil(_SPARE * grid.batch / grid.kept_share)
    rows = draw_rows(grid.world, of_rows, count)
    click = jax.random.uniform(of_clicks, (count,)) < jax.nn.sigmoid(rows.logit)
    kept = click | (jax.random.uniform(of_kept, (count,)) < grid.negative_share)
    chosen = jnp.nonzero(kept, size=grid.batch, fill_value=0)[0]
    weight = jnp.where(click[chosen], 1.0, 1 / grid.negative_share) * (jnp.arange(grid.batch) < kept.sum())
    rows, click = jax.tree.map(lambda column: column[chosen], (rows, click))
    members = {name: rows.cohort == number for name, number in COHORTS.items()}
    labels = {PRIMARY: click} | {name: click & member for name, member in members.items()}
    return Batch(
        encode(schema, rows), {task: label[:, None].astype("float32") for task, label in labels.items()}, weight
    )


def build(grid: Grid, schema: Schema, cohorts: Sequence[str]) -> tuple[keras.Model, Values]:
    """A model, and the initial values of its weights by seed, the same with cohort heads and without."""
    parameters = grid.world
    share, rates = parameters.cohort_share, parameters.cohort_click_rates
    priors = {PRIMARY: grid.world.click_rate} | {name: share * rates[COHORTS[name]] for name in cohorts}
    values = []
    for seed in range(grid.seeds):
        keras.utils.set_random_seed(seed)
        model = build_model(schema, grid.model, cohorts=cohorts, priors=priors)
        values.append([np.asarray(variable) for variable in model.trainable_variables])
    return model, [jnp.stack(of_seeds) for of_seeds in zip(*values, strict=True)]


def cosine(start: Tensor, number: Tensor, steps: Tensor) -> Tensor:
    """Keras's `CosineDecay`, but the number of steps may be a tensor: programs do not depend on it."""
    return start * (1 + jnp.cos(jnp.pi * number / steps)) / 2


def trainer(grid: Grid, schema: Schema, model: keras.Model) -> Callable[[Values, Tensor, Tensor], Values]:
    """Maps initial values by seed, the lambdas of the arms and the steps to trained values by seed and arm."""
    optimizer = keras.optimizers.Adam(grid.learning_rate)
    optimizer.build(model.trainable_variables)
    slots = [jnp.asarray(variable) for variable in optimizer.variables]
    (place,) = (i for i, variable in enumerate(optimizer.variables) if variable is optimizer.learning_rate)
    cohorts = [task for task in model.output if task in COHORTS]

    def loss(weights: Values, weight_of_cohorts: Tensor, batch: Batch) -> Tensor:
        logits, _ = model.stateless_call(weights, [], batch.inputs, training=True)
        objective = weighted_sum_of_tasks(dict.fromkeys(cohorts, weight_of_cohorts))
        return objective(batch.labels, logits, batch.weight)[0]

    def train(start: Values, lambdas: Tensor, steps: Tensor) -> Values:
        def step(number: Tensor, states: tuple[Values, Values]) -> tuple[Values, Values]:
            rate = cosine(grid.learning_rate, number, steps)
            weights_now = jnp.where(decayed, cosine(lambdas, number, steps), lambdas)

            def update(state: tuple[Values, Values], weight: Tensor, batch: Batch) -> tuple[Values, Values]:
                weights, slots = state
                slots = [rate if i == place else slot for i, slot in enumerate(slots)]
                return optimizer.stateless_apply(slots, jax.grad(loss)(weights, weight, batch), weights)

            batches = jax.vmap(lambda seed: draw_batch(grid, schema, _key(grid, seed, _TRAIN, number)))(seeds)
            of_arms = jax.vmap(update, (0, 0, None))
            return jax.vmap(of_arms, (0, None, 0))(states, weights_now, batches)

        seeds, arms = jnp.arange(grid.seeds), (grid.seeds, len(lambdas))
        decayed = jnp.arange(len(lambdas)) >= len(grid.lambdas)
        weights = [jnp.broadcast_to(value[:, None], (*arms, *value.shape[1:])) for value in start]
        moments = [jnp.broadcast_to(value, (*arms, *value.shape)) for value in slots]
        return jax.lax.fori_loop(0, steps, step, (weights, moments))[0]

    return train


def evaluator(grid: Grid, schema: Schema, model: keras.Model) -> Callable[[Values], dict[str, Tensor]]:
    """Maps trained values to sums over a batch's rows by cohort, (batches, seeds, cohorts), `loss` also by arm."""

    def by_cohort(rows: Rows, values: Tensor) -> Tensor:
        return jnp.stack([jnp.where(rows.cohort == c, values, 0.0).sum() for c in range(len(COHORT_NAMES))])

    def of_seed(seed: Tensor, number: Tensor, arms: Values) -> dict[str, Tensor]:
        rows = draw_rows(grid.world, _key(grid, seed, _TEST, number), grid.batch)
        inputs, probability = encode(schema, rows), jax.nn.sigmoid(rows.logit)

        def loss(weights: Values) -> Tensor:
            logits, _ = model.stateless_call(weights, [], inputs, training=False)
            return by_cohort(rows, binary_cross_entropy(probability, logits[PRIMARY][:, 0]))

        return {
            "rows": by_cohort(rows, jnp.ones(grid.batch)),
            "clicks": by_cohort(rows, probability),
            "entropy": by_cohort(rows, binary_cross_entropy(probability, rows.logit)),
            "loss": jax.vmap(loss)(arms),
        }

    def evaluate(weights: Values) -> dict[str, Tensor]:
        numbers, seeds = jnp.arange(math.ceil(grid.test_rows / grid.batch)), jnp.arange(grid.seeds)
        return jax.lax.map(lambda number: jax.vmap(of_seed, (0, None, 0))(seeds, number, weights), numbers)

    return evaluate


class Models:
    """The models of all seeds and lambdas, with their compiled programs.

    Args:
        grid: What is trained.
        schema: Of the rows.
        cohorts: Tasks beside the primary one.
        lambdas: Their weights, one model each.
    """

    def __init__(self, grid: Grid, schema: Schema, cohorts: Sequence[str], lambdas: Sequence[float]) -> None:
        model, self._start = build(grid, schema, cohorts)
        self._lambdas = jnp.asarray(lambdas, jnp.float32)
        start = time.perf_counter()
        lowered = jax.jit(trainer(grid, schema, model)).lower(self._start, self._lambdas, jnp.int32(1))
        self._train, shapes = lowered.compile(), lowered.out_info
        self._evaluate = jax.jit(evaluator(grid, schema, model)).lower(shapes).compile()
        self.compile_seconds = time.perf_counter() - start

    def measure(self, steps: int) -> dict[str, Any]:
        """Trains and evaluates: sums over the test rows by slice, and the `seconds` that training and testing took."""
        start = time.perf_counter()
        weights = jax.block_until_ready(self._train(self._start, self._lambdas, jnp.int32(steps)))
        trained = time.perf_counter()
        sums = jax.device_get(self._evaluate(weights))
        seconds = {"train": trained - start, "test": time.perf_counter() - trained}
        # Added in float64: a loss of millions of rows has more digits than float32.
        return {name: _slices(part.astype(np.float64).sum(axis=0)) for name, part in sums.items()} | {
            "seconds": seconds
        }


def run(grid: Grid) -> Iterator[dict[str, Any]]:
    """Yields for each length of the log what `summarize` says of the baseline and the arms, and what it cost."""
    schema = make_schema(grid.world)
    baseline = Models(grid, schema, (), (0.0,))
    arms = Models(grid, schema, tuple(COHORTS), grid.lambdas + grid.decayed)
    for rows in grid.rows:
        sums = of_baseline, of_arms = baseline.measure(grid.steps(rows)), arms.measure(grid.steps(rows))
        seconds = {word: sum(part["seconds"][word] for part in sums) for word in ("train", "test")}
        trained = grid.seeds * (1 + len(grid.lambdas) + len(grid.decayed)) * grid.steps(rows) * grid.batch
        yield {
            "device": jax.devices()[0].device_kind,
            "jax": jax.__version__,
            "grid": dataclasses.asdict(grid) | {"rows": rows},
            "seconds": {"compile": baseline.compile_seconds + arms.compile_seconds, **seconds},
            "trained_rows_per_second": trained / seconds["train"],
            **summarize(of_baseline, of_arms, grid.lambdas, grid.decayed),
        }


def _slices(sums: Array) -> Array:
    """Maps sums by cohort to sums by slice, along the last axis."""
    return np.stack([sums.sum(-1), sums[..., HEAD], sums[..., TAIL], sums[..., MAJORITY]], axis=-1)


def _key(grid: Grid, seed: Tensor, stream: int, number: Tensor) -> Tensor:
    key = jax.random.key(grid.world.seed)
    for part in (seed, stream, number):
        key = jax.random.fold_in(key, part)
    return key


def main() -> None:
    """Runs the grid of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=(20_000_000,), help="lengths of the log in rows")
    parser.add_argument("--test-rows", type=int, default=1_000_000, help="rows that each seed is tested on")
    parser.add_argument("--batch", type=int, default=2048, help="rows of a step")
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--lambdas", type=float, nargs="+", default=(0.1, 0.3, 1.0))
    parser.add_argument("--decayed", type=float, nargs="+", default=(), help="further lambdas, which fall to zero")
    parser.add_argument("--negative-share", type=float, default=0.1, help="share of the negatives trained on")
    parser.add_argument("--world", type=int, default=WORLD.seed, help="seed of the world")
    parser.add_argument("--click-rate", type=float, default=WORLD.click_rate)
    parser.add_argument("--cohort-share", type=float, default=WORLD.cohort_share, help="share of rows in each cohort")
    parser.add_argument("--cohort-strength", type=float, default=WORLD.cohort_strength, help="of their own pairs")
    parser.add_argument("--embedding-dim", type=int, default=MODEL.embedding_dim)
    parser.add_argument("--num-blocks", type=int, default=MODEL.num_blocks)
    parser.add_argument("--output", type=Path, help="JSON file of the results, written with each length")
    given = parser.parse_args()
    if keras.backend.backend() != "jax":
        parser.error(f"Keras must run on JAX: set KERAS_BACKEND=jax. Received: {keras.backend.backend()}")
    world = dataclasses.replace(
        WORLD,
        seed=given.world,
        click_rate=given.click_rate,
        cohort_share=given.cohort_share,
        cohort_strength=given.cohort_strength,
    )
    grid = Grid(
        tuple(given.rows),
        given.test_rows,
        given.seeds,
        tuple(given.lambdas),
        tuple(given.decayed),
        given.batch,
        negative_share=given.negative_share,
        world=world,
        model=dataclasses.replace(MODEL, embedding_dim=given.embedding_dim, num_blocks=given.num_blocks),
    )
    results = []
    for result in run(grid):
        results.append(result)
        print(table(result), flush=True)
        if given.output:
            write_json(given.output, results)


if __name__ == "__main__":
    main()
