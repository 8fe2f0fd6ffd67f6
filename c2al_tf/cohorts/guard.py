"""The guard: which cohorts have enough to learn from, and how sure and how large a pair's difference must be."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ..fields import check_fields
from .cohort import Cohort

FEW_POSITIVES = 100
"""Below so many positives the rate of a cohort, which its task head's bias has to learn, is known to worse than 10 %
(one standard error, 1 / sqrt(positives)): the head mostly fits noise."""

MIN_DIVERGENCE = 0.001
"""Jensen-Shannon divergence, in nats, of two normal distributions 0.09 standard deviations apart."""

RULES: Mapping[str, str] = MappingProxyType(
    {
        "positives": "too few positives to learn from",
        "share": "too small a share of the rows",
        "rows": "no row with a prediction",
        "chance": "a divergence that chance explains",
        "labels": "labels without a difference",
        "effect": "a difference too small to matter",
    }
)
"""The rules by which a pair is refused, in short words."""


@dataclass(frozen=True)
class Guard:
    """What a pair of cohorts must pass before auxiliary tasks are built on it.

    Divergence is necessary, not sufficient. A cohort without positives diverges most and teaches nothing. Chance makes
    few rows diverge. With millions of rows even a negligible difference is significant. And a model that reads the axis
    predicts differently along it also where it overfits. So the labels are asked, too: the cohorts must differ beyond
    chance in their positive rates, or in their calibration. A pair with equal rates that the model takes for different
    ones passes by its calibration: there the model is wrong, which auxiliary tasks may mend.

    Args:
        min_positives: Fewest training rows of a cohort with label 1; not asked without labels.
        min_share: Smallest share of a cohort in the training rows, in [0, 1): below it the auxiliary gradient is too
            small a part of the whole.
        min_divergence: Smallest Jensen-Shannon divergence, in nats, less its null mean; whatever measure ranks.
        max_p_value: Largest probability, in (0, 1), that in data without any difference some pair on some axis passes
            (corrected for the number of pairs), by the predictions and again by the labels.
    """

    min_positives: int = FEW_POSITIVES
    min_share: float = 0.005
    min_divergence: float = MIN_DIVERGENCE
    max_p_value: float = 0.01

    def __post_init__(self) -> None:
        check_fields(self)
        if self.min_positives < 0 or not 0 <= self.min_share < 1 or not self.min_divergence >= 0:
            raise ValueError(
                f"A guard needs min_positives >= 0, min_share in [0, 1) and min_divergence >= 0. Received: {self}"
            )
        if not 0 < self.max_p_value < 1:
            raise ValueError(f"`max_p_value` must be in (0, 1). Received: max_p_value={self.max_p_value}")

    def size_reasons(
        self, role: str, cohort: Cohort, rows: int, total_rows: int, positives: int | None
    ) -> dict[str, str]:
        """Returns why the cohort has too little to learn from, rule to words; nothing if it has enough.

        Args:
            role: `head` or `tail`.
            cohort: The cohort.
            rows: Its training rows.
            total_rows: All training rows.
            positives: Its training rows with label 1, or None without labels.
        """
        reasons = {}
        who = f"{role} cohort `{cohort}`"
        if positives is not None and positives < self.min_positives:
            reasons["positives"] = (
                f"{who} has {positives:,} positives in {rows:,} training rows; at least {self.min_positives:,} are "
                "needed"
            )
        if rows == 0:
            reasons["share"] = f"{who} has no training row"
        elif rows < self.min_share * total_rows:
            share, least = 100 * rows / total_rows, 100 * self.min_share
            reasons["share"] = f"{who} holds {share:.3g} % of the training rows; at least {least:.3g} % is needed"
        return reasons

    def prediction_reasons(self, divergences: Mapping[str, float], p_value: float, num_pairs: int) -> dict[str, str]:
        """Returns why the predictions' difference is too small or explained by chance, rule to words.

        Args:
            divergences: By measure, less their null means.
            p_value: Corrected for the number of pairs.
            num_pairs: How many pairs were tested.
        """
        reasons = {}
        if p_value > self.max_p_value:
            corrected = self._corrected(p_value, num_pairs)
            reasons["chance"] = f"chance explains the divergence of the predictions: {corrected}"
        if divergences["js"] < self.min_divergence:
            reasons["effect"] = (
                f"the difference is too small to matter: Jensen-Shannon divergence {divergences['js']:.2g} beyond "
                f"chance; at least {self.min_divergence:g} is needed"
            )
        return reasons

    def label_reasons(self, p_value: float, num_pairs: int) -> dict[str, str]:
        """Returns why the labels do not back the difference, rule to words; arguments as of `prediction_reasons`."""
        if p_value <= self.max_p_value:
            return {}
        corrected = self._corrected(p_value, num_pairs)
        return {
            "labels": "chance explains the differences of positive rate and calibration, or there are too few "
            f"positives to tell: {corrected}"
        }

    def _corrected(self, p_value: float, num_pairs: int) -> str:
        return f"p = {p_value:.3g}, corrected for {num_pairs:,} pairs; at most {self.max_p_value:g} is allowed"
