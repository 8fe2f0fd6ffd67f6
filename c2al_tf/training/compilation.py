"""Whether XLA makes the steps of a run faster, measured before the first of them."""

import logging
import time
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import keras
import tensorflow as tf

from ..losses import Objective
from .step import compile_step

JitCompile: TypeAlias = bool | Literal["auto"]
"""Compile steps with XLA, or not, or as `choose_compilation` finds."""

WORTHWHILE_SECONDS = 20.0
"""Seconds that a run takes without XLA from which on XLA is tried: to compile a model of two blocks takes 3 to 8."""

_STEPS = 3

_log = logging.getLogger(__name__)


def choose_compilation(model: keras.Model, objective: Objective, batch: Any, num_steps: int | None) -> bool:
    """Whether to compile the steps of a run with XLA.

    On a GPU, and on several devices: yes. Otherwise a few steps are timed without XLA, and if the run is long, with
    XLA. All variables then get their values back. The choice may differ from one machine to the next, and with it the
    rounding of the results.

    Args:
        model: A compiled model.
        objective: The loss.
        batch: A batch of the run, `(x, y, weight)` as a step takes it.
        num_steps: Steps of the run; None: not known, taken for many.
    """
    if model.distribute_strategy.num_replicas_in_sync > 1 or tf.config.list_physical_devices("GPU"):
        return True
    values = [(variable, variable.numpy()) for variable in _variables(model)]
    try:
        without = _seconds(compile_step(model, objective, jit_compile=False), batch)
        if num_steps is not None and num_steps * without < WORTHWHILE_SECONDS:
            _log.info("XLA: not used, %d steps of %.1f ms take less time than trying it", num_steps, 1e3 * without)
            return False
        compiled = _seconds(compile_step(model, objective, jit_compile=True), batch)
    finally:
        for variable, value in values:
            variable.assign(value)
    chosen = compiled < without
    _log.info(
        "XLA: %s, a step takes %.1f ms with it and %.1f ms without",
        "used" if chosen else "not used",
        1e3 * compiled,
        1e3 * without,
    )
    return chosen


def _variables(model: keras.Model) -> list[keras.Variable]:
    """What a step may change."""
    return [*model.variables, *model.optimizer.variables, *model.metrics_variables]


def _seconds(step: Callable[..., Any], batch: Any) -> float:
    """Seconds of the fastest of a few steps, after one that compiles."""
    step(*batch)[0].numpy()
    seconds = []
    for _ in range(_STEPS):
        start = time.perf_counter()
        step(*batch)[0].numpy()
        seconds.append(time.perf_counter() - start)
    return min(seconds)
