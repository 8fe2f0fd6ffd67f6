"""Use an arm, do not use it, or measure more: what its intervals say, and what would decide."""

import bisect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from .comparison import Evaluation
from .counts import ALL
from .intervals import NEDifference

Answer: TypeAlias = Literal["use", "do not use", "undecided"]

WORTH = 0.05
"""Percent of NE overall below which a gain is not worth having: the smallest that the paper reports (Table 2)."""

MOST_SEEDS, MOST_ROWS = 100, 16.0
"""More paired seeds, or more times the test rows, than these nobody is told to measure."""

_ROWS = (*(1.25**k for k in range(1, 13)), MOST_ROWS)


@dataclass(frozen=True)
class Needed:
    """What would decide if the overall figure stayed where it is: each alone, or both together.

    Args:
        seeds: Paired seeds in all, with the test rows at hand. None: no number up to `MOST_SEEDS` decides.
        rows: Times the test rows at hand, with the seeds at hand. None: no number up to `MOST_ROWS` decides.
        both: Seeds, and times the rows, that decide together; given where neither does alone.
    """

    seeds: int | None
    rows: float | None
    both: tuple[int, float] | None = None

    def __str__(self) -> str:
        ways = []
        if self.seeds is not None:
            ways.append(f"{self.seeds} paired seeds in all")
        if self.rows is not None:
            ways.append(f"{self.rows:.3g} times the test rows")
        if self.both is not None:
            ways.append(f"{self.both[0]} paired seeds in all on {self.both[1]:.3g} times the test rows")
        return ", or ".join(ways) or f"more than {MOST_SEEDS} seeds and {MOST_ROWS:g} times the test rows"


@dataclass(frozen=True)
class Recommendation:
    """What to do with an arm, and why.

    Args:
        answer: `use`: a slice named beforehand gains for certain, and the gain is not another slice's loss. `do not
            use`: the arm does harm, or a gain overall, if there is one, is smaller than what is worth having.
            `undecided`: neither is shown.
        gains: Slices named beforehand with an interval below 0, corrected for their number.
        losses: Slices that the evaluation calls worse.
        overall: NE_diff over all rows.
        worth: Percent of NE overall below which a gain is not worth having.
        needed: With `undecided`, what would decide; None with one seed, which does not say how seeds vary.
    """

    answer: Answer
    gains: tuple[str, ...]
    losses: tuple[str, ...]
    overall: NEDifference
    worth: float
    needed: Needed | None = None

    def reason(self, labels: Mapping[str, str] | None = None) -> str:
        """Why, in a sentence or two; `labels` are words for slices."""
        words = {ALL: "all rows", **(labels or {})}
        gains, losses = (" and ".join(words.get(name, name) for name in names) for names in (self.gains, self.losses))
        d = self.overall
        if d.percent is None or d.low is None or d.high is None:
            return "There are too few test rows, or too few positives among them, for an interval."
        seen = f"NE over all rows changes by {d.percent:+.3f} % [{d.low:+.3f}, {d.high:+.3f}]"
        if self.answer == "use":
            loser = f" But worse: {losses}. Look at them first." if losses else " No slice is called worse."
            return f"{seen}. Better beyond chance: {gains}.{loser}"
        if self.answer == "do not use":
            if losses:
                gain = f"Better: {gains}; worse: {losses}" if gains else f"Worse beyond chance: {losses}"
                return f"{seen}. {gain}."
            return (
                f"{seen}: a gain, if there is one, is smaller than {self.worth:g} %, and no targeted cohort's is shown."
            )
        if self.needed is None:
            return f"{seen}, with one seed, which does not say what another would have given. Train at least 5."
        return (
            f"{seen}: neither a gain nor its absence is shown. If the figure stays, this would decide: {self.needed}."
        )

    def to_json(self, labels: Mapping[str, str] | None = None) -> dict[str, Any]:
        """The form of a report's files; `labels` are words for slices."""
        return {
            "answer": self.answer,
            "reason": self.reason(labels),
            "gains": list(self.gains),
            "losses": list(self.losses),
            "worth": self.worth,
            "needed": None if self.needed is None else str(self.needed),
        }


def recommend(
    evaluation: Evaluation, arm: str, targeted: Sequence[str] = (), *, worth: float = WORTH
) -> Recommendation:
    """What to do with an arm.

    The slices named beforehand, all rows and the targeted cohorts, are looked at together: their intervals hold at once
    (Bonferroni), so that an arm without any effect is recommended in at most 2.5 % of evaluations. A gain overall
    is enough. A targeted cohort's alone is enough if no slice is called worse. With one seed nothing is decided.

    Args:
        evaluation: The arm against its reference, over paired seeds.
        arm: The arm.
        targeted: Slices of the cohorts that its training targets.
        worth: Percent of NE overall below which a gain is not worth having.

    Raises:
        ValueError: If `worth` is not above 0, or `arm` or a slice is unknown.
    """
    if not 0 < worth < math.inf:
        raise ValueError(f"`worth` must be above 0 and finite, in percent of NE. Received: worth={worth}")
    if arm not in evaluation.ne_diff:
        raise ValueError(f"`arm` must be one of {[*evaluation.ne_diff]}. Received: {arm!r}")
    differences = evaluation.ne_diff[arm]
    if unknown := set(targeted) - set(differences):
        raise ValueError(f"`targeted` must name slices. Received: {sorted(unknown)}; there are {[*differences]}")
    overall, named = differences[ALL], dict.fromkeys([ALL, *targeted])
    losses = evaluation.claims[arm].worse
    if overall.percent is None or overall.variation is None:
        return Recommendation("undecided", (), losses, overall, worth)
    if overall.variation.num_seeds == 1:
        return Recommendation("undecided", (), (), overall, worth)
    gains = tuple(name for name in named if _upper(differences[name], len(named)) < 0)
    if ALL in gains or (gains and not losses):
        return Recommendation("use", gains, losses, overall, worth)
    lower = overall.percent - 100 * overall.variation.margin
    if ALL in losses or gains or lower > -worth:
        return Recommendation("do not use", gains, losses, overall, worth)
    return Recommendation("undecided", gains, losses, overall, worth, _needed(overall, len(named), worth))


def _upper(difference: NEDifference, num_named: int) -> float:
    """Upper end of the interval that holds for all named slices at once; infinite without one."""
    if difference.percent is None or difference.variation is None:
        return math.inf
    return difference.percent + 100 * difference.variation.margin_of(num_named)


def _needed(overall: NEDifference, num_named: int, worth: float) -> Needed:
    """What makes the interval of the overall figure so narrow that it lies below 0, or above `-worth`."""
    percent, variation = overall.percent, overall.variation
    assert percent is not None
    assert variation is not None

    def decides(seeds: int, rows: float) -> bool:
        more = variation.projected(seeds, rows)
        return 100 * more.margin_of(num_named) < -percent or 100 * more.margin < percent + worth

    now = variation.num_seeds
    more = range(now + 1, MOST_SEEDS + 1)

    def fewest_seeds(rows: float) -> int | None:
        """By bisection: an interval narrows with every seed."""
        at = bisect.bisect_left(more, True, key=lambda seeds: decides(seeds, rows))
        return more[at] if at < len(more) else None

    seeds = fewest_seeds(1.0)
    rows = next((f for f in _ROWS if decides(now, f)), None)
    both = None
    if seeds is None and rows is None:
        both = next(((k, f) for f in _ROWS if (k := fewest_seeds(f)) is not None), None)
    return Needed(seeds, rows, both)
