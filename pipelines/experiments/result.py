"""What an arm came to on the test rows."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from c2al_tf.evaluation import Evaluation, Recommendation, recommend
from c2al_tf.evaluation.intervals import NEDifference
from c2al_tf.evaluation.recommendation import WORTH

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
        targeted: Of its cohorts those that are slices of the test rows, name to words.
        worth: Percent of NE overall below which a gain is not worth having.
    """

    arm: Arm
    seeds: tuple[int, ...]
    cohorts: tuple[str, ...]
    evaluation: Evaluation
    lambdas: tuple[float, ...] = ()
    divergence: float | None = None
    probes: Mapping[str, Sequence[Mapping[str, float | None]]] = field(default_factory=dict)
    targeted: Mapping[str, str] = field(default_factory=dict)
    worth: float = WORTH

    def difference(self, name: str) -> NEDifference:
        """NE_diff on a slice."""
        return self.evaluation.ne_diff[self.arm.name][name]

    @functools.cached_property
    def recommendation(self) -> Recommendation:
        """What to do with the arm, whatever other arms there are."""
        return recommend(self.evaluation, self.arm.name, [*self.targeted], worth=self.worth)

    def holds_among(self, num_arms: int) -> bool:
        """Whether one of its gains is shown, too, where this many arms are looked at: the best of many is lucky."""
        number = num_arms * (1 + len(self.targeted))
        highs = (corrected(self.difference(name), number)[1] for name in self.recommendation.gains)
        return any(high is not None and high < 0 for high in highs)


def corrected(difference: NEDifference, num_arms: int) -> tuple[float | None, float | None]:
    """The interval that holds for all arms at once, in 95 % of experiments (Bonferroni): the best of many is lucky.

    None with one seed: how much another changes is not known.
    """
    if difference.variation is None or difference.percent is None or difference.variation.num_seeds == 1:
        return None, None
    margin = 100 * difference.variation.margin_of(num_arms)
    return difference.percent - margin, difference.percent + margin
