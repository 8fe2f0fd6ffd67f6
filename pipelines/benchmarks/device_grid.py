"""Seeds x lambdas of C2AL, all trained at once on one device by rows of the planted world that are drawn on it.

Every seed has its own initial values and its own rows, the same for the baseline and every lambda. `lax.scan` runs the
steps, `vmap` the models, in one program for the baseline and one for the models with cohort heads. The test rows have
their true click probabilities as labels, so that no noise of labels is left; the intervals are over seeds, and hold for
this world. Lambda 0 differs from the baseline by what rounding in another program leads to. Keras has to run on JAX;
TensorFlow need not be there. Try it on a CPU first:

    KERAS_BACKEND=jax python -m c2al_pipelines.benchmarks.device_grid --rows 100000 --seeds 2 --lambdas 0 0.3
"""

import argparse
import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import keras
import numpy as np
from scipy.stats import t as student

from c2al_tf.config import ModelConfig
from c2al_tf.entropy import normalized_entropy
from c2al_tf.files import write_json
from c2al_tf.losses import binary_cross_entropy, weighted_sum_of_tasks
from c2al_tf.model import build_model
from c2al_tf.schema import Schema
from c2al_tf.types import PRIMARY, Array, Tensor

from ..datasets.ads_world import COHORT_NAMES, HEAD, MAJORITY, TAIL, SyntheticAds
from .device_rows import Rows, draw_rows, encode, make_schema

MODEL = ModelConfig(embedding_dim=8, num_blocks=2, num_outputs=4, mixing_outputs=4)
COHORTS = {"head": HEAD, "tail": TAIL}
SLICES = ("overall", "head", "tail", "everyone else")
_TRAIN, _TEST = range(2)
_SPARE = 1.1
"""Rows drawn for a batch, as a multiple of what it takes on average; if too few are kept, rows of weight 0 fill it."""

Values: TypeAlias = list[Any]
"""Arrays, one for each variable of a model; with leading axes for seeds, or for seeds and arms."""


@dataclass(frozen=True)
class Grid:
    """What is trained, and on how many rows.

    Args:
        rows: Rows of the log, which every model sees once.
        test_rows: Rows that every seed's models are compared on.
        seeds: Number of seeds, at least 1.
        lambdas: Weights of both cohort tasks, one model each.
        batch: Rows of a step.
        learning_rate: Step size of Adam at the start; a cosine takes it to zero.
        negative_share: Share of the negatives that are trained on, at the inverse weight, in (0, 1].
        click_rate: Mean click rate of the log.
        world: Seed of the world.
    """

    rows: int
    test_rows: int
    seeds: int
    lambdas: tuple[float, ...]
    batch: int = 2048
    learning_rate: float = 5e-3
    negative_share: float = 0.1
    click_rate: float = 0.0037
    world: int = 0

    def __post_init__(self) -> None:
        for name in ("rows", "test_rows", "seeds", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1. Received: {name}={getattr(self, name)}")
        if not 0 < self.negative_share <= 1:
            raise ValueError(f"`negative_share` must be in (0, 1]. Received: negative_share={self.negative_share}")

    @property
    def parameters(self) -> SyntheticAds:
        """The planted world."""
        return SyntheticAds(seed=self.world, click_rate=self.click_rate)

    @property
    def kept_share(self) -> float:
        """Share of the log's rows that are trained on."""
        return self.click_rate + self.negative_share * (1 - self.click_rate)

    @property
    def steps(self) -> int:
        """Steps of one pass over the log."""
        return max(1, round(self.rows * self.kept_share / self.batch))


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
    rows = draw_rows(grid.parameters, of_rows, count)
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
    parameters = grid.parameters
    share, rates = parameters.cohort_share, parameters.cohort_click_rates
    priors = {PRIMARY: grid.click_rate} | {name: share * rates[COHORTS[name]] for name in cohorts}
    values = []
    for seed in range(grid.seeds):
        keras.utils.set_random_seed(seed)
        model = build_model(schema, MODEL, cohorts=cohorts, priors=priors)
        values.append([np.asarray(variable) for variable in model.trainable_variables])
    return model, [jnp.stack(of_seeds) for of_seeds in zip(*values, strict=True)]


def trainer(grid: Grid, schema: Schema, model: keras.Model) -> Callable[[Values, Tensor], Values]:
    """Maps initial values by seed, and the lambdas of the arms, to trained values by seed and arm."""
    schedule = keras.optimizers.schedules.CosineDecay(grid.learning_rate, grid.steps)
    optimizer = keras.optimizers.Adam(schedule)
    optimizer.build(model.trainable_variables)
    slots = [jnp.asarray(variable) for variable in optimizer.variables]
    cohorts = [task for task in model.output if task in COHORTS]

    def loss(weights: Values, weight_of_cohorts: Tensor, batch: Batch) -> Tensor:
        logits, _ = model.stateless_call(weights, [], batch.inputs, training=True)
        objective = weighted_sum_of_tasks(dict.fromkeys(cohorts, weight_of_cohorts))
        return objective(batch.labels, logits, batch.weight)[0]

    def update(state: tuple[Values, Values], weight_of_cohorts: Tensor, batch: Batch) -> tuple[Values, Values]:
        weights, slots = state
        return optimizer.stateless_apply(slots, jax.grad(loss)(weights, weight_of_cohorts, batch), weights)

    def train(start: Values, lambdas: Tensor) -> Values:
        def step(states: tuple[Values, Values], number: Tensor) -> tuple[tuple[Values, Values], None]:
            batches = jax.vmap(lambda seed: draw_batch(grid, schema, _key(grid, seed, _TRAIN, number)))(seeds)
            of_arms = jax.vmap(update, (0, 0, None))
            return jax.vmap(of_arms, (0, None, 0))(states, lambdas, batches), None

        seeds, arms = jnp.arange(grid.seeds), (grid.seeds, len(lambdas))
        weights = [jnp.broadcast_to(value[:, None], (*arms, *value.shape[1:])) for value in start]
        moments = [jnp.broadcast_to(value, (*arms, *value.shape)) for value in slots]
        return jax.lax.scan(step, (weights, moments), jnp.arange(grid.steps))[0][0]

    return train


def evaluator(grid: Grid, schema: Schema, model: keras.Model) -> Callable[[Values], dict[str, Tensor]]:
    """Maps trained values to sums over a batch's rows by cohort, (batches, seeds, cohorts), `loss` also by arm."""

    def by_cohort(rows: Rows, values: Tensor) -> Tensor:
        return jnp.stack([jnp.where(rows.cohort == c, values, 0.0).sum() for c in range(len(COHORT_NAMES))])

    def of_seed(seed: Tensor, number: Tensor, arms: Values) -> dict[str, Tensor]:
        rows = draw_rows(grid.parameters, _key(grid, seed, _TEST, number), grid.batch)
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


def measure(grid: Grid, schema: Schema, cohorts: Sequence[str], lambdas: Sequence[float]) -> dict[str, Any]:
    """Trains and evaluates the models of all seeds: sums over the test rows by slice, and the seconds it took."""
    model, start = build(grid, schema, cohorts)
    weights_of_arms = jnp.asarray(lambdas, jnp.float32)
    seconds = dict.fromkeys(("compile", "train", "test"), 0.0)
    weights = _timed("train", seconds, trainer(grid, schema, model), start, weights_of_arms)
    sums = _timed("test", seconds, evaluator(grid, schema, model), weights)
    # Added in float64: a loss of millions of rows has more digits than float32.
    return {name: _slices(part.astype(np.float64).sum(axis=0)) for name, part in sums.items()} | {"seconds": seconds}


def _timed(name: str, seconds: dict[str, float], call: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns, as NumPy arrays; the seconds that it took to compile and to run are added."""
    start = time.perf_counter()
    compiled = jax.jit(call).lower(*arguments).compile()
    begin = time.perf_counter()
    result = jax.device_get(compiled(*arguments))
    seconds["compile"] += begin - start
    seconds[name] += time.perf_counter() - begin
    return result


def run(grid: Grid) -> dict[str, Any]:
    """Trains the baseline and the arms; NE and NE_diff in percent by slice, with a 95 % t interval over seeds."""
    schema = make_schema(grid.parameters)
    baseline = measure(grid, schema, (), (0.0,))
    arms = measure(grid, schema, tuple(COHORTS), grid.lambdas)
    differences = 100 * (arms["loss"] / baseline["loss"] - 1)
    rows, clicks = (baseline[name].sum(axis=0) for name in ("rows", "clicks"))
    losses = {"bayes": baseline["entropy"], "baseline": baseline["loss"][:, 0]}
    train_seconds = baseline["seconds"]["train"] + arms["seconds"]["train"]
    trained_rows = grid.seeds * (1 + len(grid.lambdas)) * grid.steps * grid.batch
    return {
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        "grid": dataclasses.asdict(grid),
        "seconds": {"baseline": baseline["seconds"], "arms": arms["seconds"]},
        "trained_rows_per_second": trained_rows / train_seconds,
        "rows": _named(rows),
        "click_rate": _named(clicks / rows),
        "ne": {
            name: _named([normalized_entropy(*sums) for sums in zip(loss.sum(axis=0), clicks, rows, strict=True)])
            for name, loss in losses.items()
        },
        "ne_diff": [
            {"lambda": weight, **_named([interval(differences[:, arm, i].tolist()) for i in range(len(SLICES))])}
            for arm, weight in enumerate(grid.lambdas)
        ],
    }


def interval(by_seed: Sequence[float]) -> dict[str, Any]:
    """The mean over seeds and its 95 % t interval; None as ends with one seed."""
    mean, count = float(np.mean(by_seed)), len(by_seed)
    found: dict[str, Any] = {"percent": mean, "low": None, "high": None, "by_seed": list(by_seed)}
    if count > 1:
        margin = float(student.ppf(0.975, count - 1) * np.std(by_seed, ddof=1) / math.sqrt(count))
        found |= {"low": mean - margin, "high": mean + margin}
    return found


def table(result: dict[str, Any]) -> str:
    """The results as text."""
    grid = result["grid"]
    seconds = {word: sum(part[word] for part in result["seconds"].values()) for word in ("compile", "train", "test")}
    lines = [
        f"{result['device']}, JAX {result['jax']}: {result['trained_rows_per_second']:,.0f} rows/s in all models",
        "Seconds: " + ", ".join(f"{word} {value:.0f}" for word, value in seconds.items()),
        f"{grid['rows']:,} rows of the log, {grid['seeds']} seeds, batch {grid['batch']:,}",
        "".join(f"{word:<28}" for word in ("", *SLICES)),
    ]
    plain = {
        "click rate": result["click_rate"],
        "NE of the true rates": result["ne"]["bayes"],
        "NE of the baseline": result["ne"]["baseline"],
    }
    for name, values in plain.items():
        lines.append(f"{name:<28}" + "".join(f"{values[part]:<28.5f}" for part in SLICES))
    for arm in result["ne_diff"]:
        name = f"lambda {arm['lambda']:g}, NE_diff, %"
        lines.append(f"{name:<28}" + "".join(f"{_with_interval(arm[part]):<28}" for part in SLICES))
    return "\n".join(line.rstrip() for line in lines)


def _with_interval(found: dict[str, Any]) -> str:
    ends = "" if found["low"] is None else f" [{found['low']:+.3f}, {found['high']:+.3f}]"
    return f"{found['percent']:+.3f}{ends}"


def _slices(sums: Array) -> Array:
    """Maps sums by cohort to sums by slice, along the last axis."""
    return np.stack([sums.sum(-1), sums[..., HEAD], sums[..., TAIL], sums[..., MAJORITY]], axis=-1)


def _named(values: Sequence[Any] | Array) -> dict[str, Any]:
    values = values.tolist() if isinstance(values, np.ndarray) else values
    return dict(zip(SLICES, values, strict=True))


def _key(grid: Grid, seed: Tensor, stream: int, number: Tensor) -> Tensor:
    key = jax.random.key(grid.world)
    for part in (seed, stream, number):
        key = jax.random.fold_in(key, part)
    return key


def main() -> None:
    """Runs the grid of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000_000, help="rows of the log")
    parser.add_argument("--test-rows", type=int, default=1_000_000, help="rows that each seed is tested on")
    parser.add_argument("--batch", type=int, default=2048, help="rows of a step")
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--lambdas", type=float, nargs="+", default=(0.1, 0.3, 1.0))
    parser.add_argument("--click-rate", type=float, default=0.0037)
    parser.add_argument("--negative-share", type=float, default=0.1, help="share of the negatives trained on")
    parser.add_argument("--world", type=int, default=0, help="seed of the world")
    parser.add_argument("--output", type=Path, help="JSON file of the results")
    given = vars(parser.parse_args())
    output = given.pop("output")
    if keras.backend.backend() != "jax":
        parser.error(f"Keras must run on JAX: set KERAS_BACKEND=jax. Received: {keras.backend.backend()}")
    result = run(Grid(**given | {"lambdas": tuple(given["lambdas"])}))
    print(table(result))
    if output:
        write_json(output, result)


if __name__ == "__main__":
    main()
