"""What a training run has seen: its position, the sums over its rows, and the metrics that follow from them."""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..entropy import normalized_entropy
from ..types import Tensor


class NonFiniteLossError(ValueError):
    """A loss that is NaN or infinite: the training has diverged, or its rows hold such values."""


@dataclass
class History:
    """Where a training run stands and what it has seen; a checkpoint holds all of it.

    Args:
        epoch: Epochs completed.
        step: Steps taken in the current epoch.
        loss: Sum over those steps of the objective times the rows of the batch.
        rows: Rows of those steps.
        sums: For each task: sums of log loss, label and weight over the rows of those steps.
        epochs: Metrics of each completed epoch: `loss`, `<task>_loss` and `<task>_ne` of every task, and the compiled
            metrics; with the prefix `val_` on the validation rows.
        seconds: Time spent in steps and in waiting for their input, without compilation and validation.
        timed_steps: Steps in that time.
        jit_compile: Whether the steps are compiled with XLA; None: not chosen yet.
    """

    epoch: int = 0
    step: int = 0
    loss: float = 0.0
    rows: int = 0
    sums: dict[str, list[float]] = field(default_factory=dict)
    epochs: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    timed_steps: int = 0
    jit_compile: bool | None = None

    def add_steps(self, results: Sequence[tuple[Tensor, Mapping[str, Tensor]]], rows: Sequence[int]) -> None:
        """Adds the results of steps: loss and sums of one step, () and (3,), or of several, (steps,) and (steps, 3).

        Args:
            results: The results of each call.
            rows: Rows of a batch, in each call.

        Raises:
            NonFiniteLossError: If a loss is not finite.
        """
        for (losses, sums), num_rows in zip(results, rows, strict=True):
            for loss in np.ravel(losses.numpy()).tolist():
                if not math.isfinite(loss):
                    raise NonFiniteLossError(
                        f"The loss must be finite. Received: {loss} at epoch {self.epoch}, step {self.step}. Lower the "
                        "learning rate, or bound the gradient with `clip_norm`"
                    )
                self.loss += loss * num_rows
                self.rows += num_rows
                self.step += 1
            add_sums(self.sums, sums)

    def end_epoch(self, metrics: dict[str, float]) -> None:
        """Stores the metrics of this epoch and begins the next one."""
        self.epochs.append(metrics)
        self.epoch, self.step, self.loss, self.rows, self.sums = self.epoch + 1, 0, 0.0, 0, {}

    def metrics(self) -> dict[str, float]:
        """Loss, and log loss and NE of every task, over the steps of the current epoch so far."""
        return {"loss": self.loss / max(self.rows, 1)} | task_metrics(self.sums)


def add_sums(sums: dict[str, list[float]], more: Mapping[str, Tensor]) -> None:
    """Adds the sums of one step, (3,) by task, or of several, (steps, 3), to `sums`."""
    for task, values in more.items():
        for step in np.reshape(values.numpy(), (-1, 3)).tolist():
            sums[task] = [a + b for a, b in zip(sums.get(task, (0.0, 0.0, 0.0)), step, strict=True)]


def task_metrics(sums: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Mean log loss and NE of every task, from its sums of log loss, label and weight."""
    metrics: dict[str, float] = {}
    for task, (loss, label, weight) in sums.items():
        metrics[f"{task}_loss"] = loss / weight if weight else math.nan
        metrics[f"{task}_ne"] = normalized_entropy(loss, label, weight)
    return metrics


def progress_text(sums: Mapping[str, Sequence[float]]) -> str:
    """The metrics of every task, for a progress bar."""
    metrics = task_metrics(sums)
    return ", ".join(f"{task} {metrics[f'{task}_loss']:.4f} NE {metrics[f'{task}_ne']:.3f}" for task in sums)


def best_epoch(epochs: Sequence[Mapping[str, float]], monitor: str) -> int | None:
    """The epoch, from 0, with the lowest value of the metric `monitor`; None if it is NaN in every epoch."""
    if epochs and monitor not in epochs[0]:
        raise ValueError(f"`patience` needs `validation` rows, for `{monitor}`. Received: only {sorted(epochs[0])}")
    with_value = [epoch for epoch, metrics in enumerate(epochs) if not math.isnan(metrics[monitor])]
    return min(with_value, key=lambda epoch: epochs[epoch][monitor], default=None)


def is_out_of_patience(epochs: Sequence[Mapping[str, float]], patience: int | None, monitor: str) -> bool:
    """Whether `patience` epochs or more have passed since the best one."""
    if patience is None:
        return False
    best = best_epoch(epochs, monitor)
    return len(epochs) - (0 if best is None else best + 1) >= patience


def warn_of_nan(metrics: Mapping[str, Any], epoch: int) -> None:
    """Warns of the metrics on validation rows that are NaN."""
    names = sorted(name for name, value in metrics.items() if name.startswith("val_") and np.isnan(value).any())
    if names:
        warnings.warn(
            f"Epoch {epoch}: {', '.join(names)} must be numbers. Received: NaN: the validation rows of a task lack "
            "positives or negatives, or its logits are not finite. Such an epoch is never the best one",
            stacklevel=4,
        )
