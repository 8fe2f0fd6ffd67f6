"""The guard: which cohorts are large enough to learn from, and how sure a pair's divergence must be."""

from dataclasses import dataclass

from .cohort import Cohort


@dataclass(frozen=True)
class Guard:
    """What a pair of cohorts must pass before auxiliary tasks are built on it.

    Divergence is necessary, not sufficient: a cohort without positives diverges most and teaches nothing.

    Args:
        min_rows: Fewest rows of a cohort.
        min_share: Smallest share of a cohort in all rows, in [0, 1].
        min_positives: Fewest rows of a cohort with label 1; not asked without labels.
        max_p_value: Largest probability, in (0, 1), that in data without any difference between cohorts some pair
            on some axis passes (corrected for the number of pairs).
    """

    min_rows: int = 1000
    min_share: float = 0.005
    min_positives: int = 20
    max_p_value: float = 0.01

    def __post_init__(self) -> None:
        if self.min_rows < 1 or self.min_positives < 0 or not 0 <= self.min_share < 1:
            raise ValueError(
                f"A guard needs min_rows >= 1, min_positives >= 0 and min_share in [0, 1). Received: {self}"
            )
        if not 0 < self.max_p_value < 1:
            raise ValueError(f"`max_p_value` must be in (0, 1). Received: max_p_value={self.max_p_value}")

    def size_reasons(
        self, role: str, cohort: Cohort, rows: int, total_rows: int, positives: int | None
    ) -> tuple[str, ...]:
        """Returns why the cohort is too small, in words; nothing if it is not.

        Args:
            role: `head` or `tail`.
            cohort: The cohort.
            rows: Its rows.
            total_rows: Rows of the data.
            positives: Its rows with label 1, or None without labels.
        """
        reasons = []
        who = f"{role} cohort `{cohort}`"
        if rows < self.min_rows:
            reasons.append(f"{who} has {rows:,} rows; at least {self.min_rows:,} are needed")
        if rows < self.min_share * total_rows:
            share, least = 100 * rows / total_rows, 100 * self.min_share
            reasons.append(f"{who} holds {share:.3g} % of the rows; at least {least:.3g} % is needed")
        if positives is not None and positives < self.min_positives:
            reasons.append(
                f"{who} has {positives:,} positives in {rows:,} rows; at least {self.min_positives:,} are needed"
            )
        return tuple(reasons)

    def chance_reasons(self, p_value: float, num_pairs: int) -> tuple[str, ...]:
        """Returns why chance explains a divergence, in words; nothing if it does not.

        Args:
            p_value: Corrected for the number of pairs.
            num_pairs: How many pairs were tested.
        """
        if p_value <= self.max_p_value:
            return ()
        return (
            f"a permutation of the predictions over the rows explains the divergence: p = {p_value:.3g}, corrected "
            f"for {num_pairs:,} pairs; at most {self.max_p_value:g} is allowed",
        )
