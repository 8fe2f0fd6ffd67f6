"""What a training run has seen: its position, the sums over its rows, and the figures made of them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..types import Tensor


@dataclass
class History:
    """Where a training run stands and what it has seen; all of it is in a checkpoint.

    Args:
        epoch: Epochs completed.
        step: Batches of the current epoch that were trained on.
        loss: Sum of the objective over those batches.
        sums: For each task: sums of log loss, label and weight over the rows of those batches.
        epochs: Figures of each completed epoch: `loss`, and `<task>_loss` and `<task>_ne` of every task; with the
            prefix `val_` on the validation rows.
        seconds: Time spent in steps and in waiting for their input, without compilation and validation.
        timed_steps: Steps in that time.
    """

    epoch: int = 0
    step: int = 0
    loss: float = 0.0
    sums: dict[str, list[float]] = field(default_factory=dict)
    epochs: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    timed_steps: int = 0

    def add(self, results: Sequence[tuple[Tensor, Mapping[str, Tensor]]]) -> None:
        """Adds what steps returned: loss and sums of one, () and (3,), or of several, (steps,) and (steps, 3).

        Raises:
            ValueError: If a loss is not finite.
        """
        for losses, sums in results:
            for loss in np.ravel(losses.numpy()).tolist():
                if not math.isfinite(loss):
                    raise ValueError(
                        f"The loss must be finite. Received: {loss} at epoch {self.epoch}, step {self.step}. Lower the "
                        "learning rate, or bound the gradient with `clip_norm`"
                    )
                self.loss += loss
                self.step += 1
            add(self.sums, sums)

    def end_epoch(self, figures: dict[str, float]) -> None:
        """Begins the next epoch, with the figures of this one."""
        self.epochs.append(figures)
        self.epoch, self.step, self.loss, self.sums = self.epoch + 1, 0, 0.0, {}

    def figures(self) -> dict[str, float]:
        """Loss, and log loss and NE of every task, over the current epoch's batches so far."""
        return {"loss": self.loss / max(self.step, 1)} | figures_of(self.sums)


def add(sums: dict[str, list[float]], more: Mapping[str, Tensor]) -> None:
    """Adds the sums of further rows by task, (3,), or of several steps, (steps, 3)."""
    for task, values in more.items():
        for step in np.reshape(values.numpy(), (-1, 3)).tolist():
            sums[task] = [a + b for a, b in zip(sums.get(task, (0.0, 0.0, 0.0)), step, strict=True)]


def figures_of(sums: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Mean log loss and NE of every task, from its sums of log loss, label and weight."""
    figures: dict[str, float] = {}
    for task, (loss, labels, weight) in sums.items():
        rate, mean_loss = (labels / weight, loss / weight) if weight else (math.nan, math.nan)
        entropy = -(rate * math.log(rate) + (1 - rate) * math.log1p(-rate)) if 0 < rate < 1 else math.nan
        figures |= {f"{task}_loss": mean_loss, f"{task}_ne": mean_loss / entropy}
    return figures


def in_words(sums: Mapping[str, Sequence[float]]) -> str:
    """The figures for a progress bar."""
    figures = figures_of(sums)
    return ", ".join(f"{task} {figures[f'{task}_loss']:.4f} NE {figures[f'{task}_ne']:.3f}" for task in sums)


def best_epoch(epochs: Sequence[Mapping[str, float]], monitor: str) -> int:
    """The epoch, from 0, whose figure `monitor` is lowest."""
    if monitor not in epochs[0]:
        raise ValueError(f"`patience` needs `validation` rows, for `{monitor}`. Received: only {sorted(epochs[0])}")
    return min(range(len(epochs)), key=lambda epoch: epochs[epoch][monitor])


def exhausted(epochs: Sequence[Mapping[str, float]], patience: int | None, monitor: str) -> bool:
    """Whether `patience` epochs or more have passed since the best one."""
    return patience is not None and bool(epochs) and len(epochs) - 1 - best_epoch(epochs, monitor) >= patience
