"""Seconds from the first call of the compiled training step to its result: the trace, the compilation, the step itself.

The demo's model (10 fields of dimension 8, k = 4, batch 2,048) and Census-Income's (28 categorical and 12 numeric
features, dimension 16, k = 8, batch 1,024), each with two cohort heads and the optimizer of its configuration, each
time in a fresh process. The operations are those of the traced graph.
"""

import functools
import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple

from c2al_tf.config import ModelConfig, TrainingConfig
from c2al_tf.schema import CategoricalFeature, NumericFeature, Schema

from .dhen_peak import draw_rows
from .results import Result, alternate

NAME = "compile_time"
MOST_SECONDS = 4.0
COHORTS = ("cohort_0", "cohort_1")


class Case(NamedTuple):
    """A model, its optimizer and the length of its run."""

    schema: Schema
    model: ModelConfig
    training: TrainingConfig
    num_steps: int


def run(quick: bool) -> Iterator[Result]:
    """Each case with XLA and without."""
    operations: dict[str, int] = {}
    measured = {
        f"{name}, compile, {'XLA' if jit_compile else 'no XLA'}": (case, jit_compile)
        for name, case in cases().items()
        for jit_compile in (True, False)
    }

    def measure(name: str) -> float:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            seconds, operations[name] = pool.submit(first_step, *measured[name]).result()
        return seconds

    seconds = alternate({name: functools.partial(measure, name) for name in measured}, rounds=1 if quick else 3)
    for name, ours in seconds.items():
        yield Result.of(
            NAME,
            name,
            ours,
            [MOST_SECONDS],
            peer_name=f"{MOST_SECONDS:g} s",
            unit="s",
            goal=1.0,
            note=f"{operations[name]:,} operations",
        )


def cases() -> dict[str, Case]:
    """The demo's model, and Census-Income's with about as many ids and inputs."""
    ads = tuple(CategoricalFeature(f"f{i}", "int64", num_hash_buckets=2000) for i in range(10))
    codes = tuple(CategoricalFeature(f"f{i}", "int64", num_hash_buckets=40) for i in range(28))
    numbers = tuple(NumericFeature(f"x{i}", "standard", boundaries=tuple(range(9))) for i in range(12))
    small = ModelConfig(embedding_dim=8, num_outputs=4, mixing_outputs=4)
    return {
        "demo": Case(Schema(ads), small, TrainingConfig(batch_size=2048, learning_rate=5e-3), 2000),
        "Census-Income": Case(Schema(codes + numbers), ModelConfig(), TrainingConfig(batch_size=1024), 600),
    }


def first_step(case: Case, jit_compile: bool) -> tuple[float, int]:
    """Seconds of the first step in this process, and the number of operations in its graph."""
    from c2al_tf.losses import weighted_sum_of_tasks
    from c2al_tf.model import build_model
    from c2al_tf.training import compile_step, make_optimizer

    model = build_model(case.schema, case.model, cohorts=COHORTS)
    model.compile(optimizer=make_optimizer(case.training, case.num_steps))
    rows = draw_rows(case.schema, model.output, case.training.batch_size)
    step: Any = compile_step(model, weighted_sum_of_tasks(dict.fromkeys(COHORTS, 0.1)), jit_compile)
    start = time.perf_counter()
    step(*rows)[0].numpy()
    seconds = time.perf_counter() - start
    return seconds, len(step.get_concrete_function(*rows).graph.as_graph_def().node)
