"""The worker's side of the protocol."""

import json
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from ..machine import process_mb

Steps: TypeAlias = Callable[[int], float]
"""Takes so many training steps and returns the loss of the last, which has then been computed."""

WARM_UP_STEPS = 2


@dataclass(frozen=True)
class Built:
    """A model ready to be trained.

    Args:
        steps: Trains it.
        num_weights: Trainable weights, which tell whether two contenders train the same model.
    """

    steps: Steps
    num_weights: int


def serve(build: Callable[[dict[str, Any]], Built]) -> None:
    """Answers requests until standard input ends.

    Args:
        build: Makes the contender from the object given as this process's argument.
    """
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints must not be taken for an answer
    built = build(json.loads(sys.argv[1]))
    start = time.perf_counter()
    built.steps(WARM_UP_STEPS)
    ready = {"num_weights": built.num_weights, "compile_seconds": time.perf_counter() - start}
    answers.write(json.dumps(ready) + "\n")
    for line in sys.stdin:
        answers.write(json.dumps(_measure(built.steps, json.loads(line)["steps"])) + "\n")


def _measure(steps: Steps, count: int) -> dict[str, float]:
    _forget_peak()
    start = time.perf_counter()
    loss = steps(count)
    seconds = time.perf_counter() - start
    if not math.isfinite(loss):
        raise FloatingPointError(f"The loss must be finite. Received: {loss}")
    return {"seconds": seconds, "peak_mb": process_mb("VmHWM"), "loss": loss}


def _forget_peak() -> None:
    """Makes the present memory the peak, so that building the model does not count."""
    Path("/proc/self/clear_refs").write_text("5")


def repeat_batches(step: Callable[..., Any], batches: Sequence[tuple[Any, ...]]) -> Steps:
    """Steps on the batches in turn, going on where the last call stopped; `step` maps a batch's parts to the loss."""
    position = 0

    def run(count: int) -> float:
        nonlocal position
        for _ in range(count):
            loss = step(*batches[position % len(batches)])
            position += 1
        return float(loss)

    return run
