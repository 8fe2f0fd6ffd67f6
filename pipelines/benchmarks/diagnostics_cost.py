"""What measuring the attention costs in a training: some steps with one measurement, beside the steps alone.

Step and measurement take turns. The models are those of the demo and of Census-Income, without cohort heads and with
two; a measurement is of as many rows as in a run. What both compile once is left out.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

from ..run.attention import ROWS
from .compile_time import COHORTS, Case, cases
from .dhen_peak import draw_rows, timed
from .results import Result, alternate

NAME = "diagnostics_cost"
MOST = 1.03
"""Most times the time of the steps alone that they may take with one measurement."""
INTERVALS = (100, 200)
"""Steps between two measurements: `AttentionDiagnostics` by default, and a run of 800 steps and more."""


def run(quick: bool) -> Iterator[Result]:
    """Milliseconds of the steps between two measurements and one of these, beside those of the steps."""
    for name, case in cases().items():
        for cohorts in ((), COHORTS):
            turns = alternate(_step_and_measurement(case, cohorts), rounds=1 if quick else 15)
            for every in INTERVALS:
                steps = [every * step for step in turns["step"]]
                both = [alone + measured for alone, measured in zip(steps, turns["measurement"], strict=True)]
                yield Result.of(
                    NAME,
                    f"{name}, {len(cohorts)} heads, every {every} steps",
                    both,
                    steps,
                    peer_name="the steps alone",
                    unit="ms",
                    goal=None if quick else 1 / MOST,
                )


def _step_and_measurement(case: Case, cohorts: tuple[str, ...]) -> dict[str, Callable[[], float]]:
    import tensorflow as tf

    from c2al_tf.diagnostics import attention_gradients, measure_attention
    from c2al_tf.losses import weighted_sum_of_tasks
    from c2al_tf.model import build_model
    from c2al_tf.training import compile_step, make_optimizer

    model = build_model(case.schema, case.model, cohorts=cohorts)
    model.compile(optimizer=make_optimizer(case.training, case.num_steps))
    objective = weighted_sum_of_tasks(dict.fromkeys(cohorts, 0.1))
    rows = draw_rows(case.schema, model.output, case.training.batch_size)
    step: Any = compile_step(model, objective)
    watched = tf.nest.map_structure(lambda values: values[:ROWS], rows)

    def measure() -> float:
        start = time.perf_counter()
        attention_gradients(model, watched, objective.terms)
        measure_attention(model, watched[0])
        return (time.perf_counter() - start) * 1e3

    measure()
    return {"step": timed(lambda: step(*rows)[0]), "measurement": measure}
