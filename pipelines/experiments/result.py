"""What an arm came to on the test rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from c2al_tf.evaluation import Evaluation
from c2al_tf.evaluation.intervals import NEDifference

from ..run.arms import Arm


@dataclass(frozen=True)
class Result:
    """An arm on the test rows.

    Args:
        arm: The arm.
        seeds: Its paired seeds.
        cohorts: The cohorts that are chosen, in words.
        evaluation: It against its reference.
        lambdas: Weights of its auxiliary losses.
        divergence: Divergence of its pair of cohorts, by the run's measure; None if it has no pair that was found.
        probes: AUC of a linear probe of each targeted cohort, by seed, for the arm and for its reference; empty if
            none is measured.
    """

    arm: Arm
    seeds: tuple[int, ...]
    cohorts: tuple[str, ...]
    evaluation: Evaluation
    lambdas: tuple[float, ...] = ()
    divergence: float | None = None
    probes: Mapping[str, Sequence[Mapping[str, float | None]]] = field(default_factory=dict)

    def difference(self, name: str) -> NEDifference:
        """NE_diff on a slice."""
        return self.evaluation.ne_diff[self.arm.name][name]
