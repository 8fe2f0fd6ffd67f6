"""Whether XLA makes the steps of a run faster, measured before the first of them."""

import logging
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import keras
import tensorflow as tf

from .step import Step

JitCompile: TypeAlias = bool | Literal["auto"]
"""Compile steps with XLA, or not, or as `choose_compilation` finds."""

WORTHWHILE_SECONDS = 15.0
"""XLA is tried for runs that take at least so long without it: to compile a model of two blocks takes 3 to 8 seconds,
and where it is faster it saves about 40 %."""

MOST_BYTES = 2**31
"""Size of the variables above which they are not copied for a trial."""

_ROUNDS = 3

_log = logging.getLogger(__name__)


def choose_compilation(
    model: keras.Model,
    compiled: Callable[[bool], Step],
    batch: Any,
    num_steps: int | None = None,
    state: Sequence[keras.Variable] = (),
) -> bool:
    """Whether to compile the steps of a run with XLA.

    A step is timed without XLA, and if the run is long, beside one with XLA, which is used if it saves more time than
    compiling takes. All variables then get their values back. The choice may differ from one machine to the next, and
    with it the rounding of the results.

    Args:
        model: A compiled model.
        compiled: The step of the run without XLA, and with it.
        batch: A batch of the run, `(x, y, weight)` as a step takes it.
        num_steps: Steps of the run; None: not known, taken for many.
        state: The variables of the objective.
    """
    model.optimizer.build(model.trainable_variables)
    variables = [*model.variables, *model.optimizer.variables, *model.metrics_variables, *state]
    if sum(math.prod(variable.shape) * tf.as_dtype(variable.dtype).size for variable in variables) > MOST_BYTES:
        _log.info("XLA: used, the variables are too large to be copied for a trial")
        return True
    values = [variable.numpy() for variable in variables]
    try:
        return _is_faster(compiled, batch, num_steps)
    finally:
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)


def without_trial(model: keras.Model, jit_compile: JitCompile, chosen: bool | None) -> bool | None:
    """What is known before a trial: what is asked for, else what the run has chosen, else yes where there is no choice.

    Workers and devices must agree, and a GPU needs XLA.
    """
    if jit_compile != "auto":
        return jit_compile
    if model.distribute_strategy.num_replicas_in_sync > 1 or tf.config.list_physical_devices("GPU"):
        return True
    return chosen


def _is_faster(compiled: Callable[[bool], Step], batch: Any, num_steps: int | None) -> bool:
    plain = compiled(False)
    _seconds(plain, batch)
    without = _seconds(plain, batch)
    if num_steps is not None and num_steps * without < WORTHWHILE_SECONDS:
        _log.info("XLA: not used, at %.1f ms a step the run takes less time than trying it", 1e3 * without)
        return False
    try:
        compilation = _seconds(compiled(True), batch)
    except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError) as error:
        _log.info("XLA: not used, it cannot compile this model: %s", error.message.splitlines()[0])
        return False
    # In turns: what else the machine does then disturbs both.
    rounds = [(_seconds(plain, batch), _seconds(compiled(True), batch)) for _ in range(_ROUNDS)]
    without, with_xla = (min(seconds) for seconds in zip(*rounds, strict=True))
    saved = (without - with_xla) * (math.inf if num_steps is None else num_steps)
    chosen = saved > compilation
    _log.info(
        "XLA: %s, a step takes %.1f ms with it and %.1f ms without, and compiling %.1f s",
        "used" if chosen else "not used",
        1e3 * with_xla,
        1e3 * without,
        compilation,
    )
    return chosen


def _seconds(step: Step, batch: Any) -> float:
    start = time.perf_counter()
    step(*batch)[0].numpy()
    return time.perf_counter() - start
