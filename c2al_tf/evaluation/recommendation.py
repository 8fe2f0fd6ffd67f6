"""Use an arm, do not use it, or measure more: what its intervals say, and what would decide."""

import bisect
import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from .comparison import Evaluation
from .counts import ALL
from .intervals import NEDifference

Answer: TypeAlias = Literal["use", "do not use", "undecided"]

WORTH = 0.05
"""Percent of NE overall below which a gain is not worth looking for: the smallest that the paper reports (Table 2)."""

MOST_SEEDS, MOST_ROWS = 100, 16.0
"""The most paired seeds, and times the test rows, that are ever recommended."""

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
        answer: `use`: a gain is shown over all rows, however small, or for a targeted cohort without a slice that is
            called worse. `do not use`: all rows are worse, or a slice is and no cohort gains, or the interval leaves no
            room for a gain of `worth`. `undecided`: neither is shown, or one cohort gains what another slice loses.
        gains: Slices named beforehand whose intervals, which hold at once, lie below 0.
        losses: Slices that the evaluation calls worse.
        overall: NE_diff over all rows, with the interval that holds at once with the targeted cohorts'.
        worth: Percent of NE overall below which a gain is not worth looking for.
        needed: With `undecided`, what would decide; None with one seed, which does not say how seeds vary.
        num_named: Number of slices named beforehand, whose intervals hold at once.
    """

    answer: Answer
    gains: tuple[str, ...]
    losses: tuple[str, ...]
    overall: NEDifference
    worth: float
    needed: Needed | None = None
    num_named: int = 1

    def reason(self, labels: Mapping[str, str] | None = None) -> str:
        """Why, in a sentence or two; `labels` are words for slices."""
        words = {ALL: "all rows", **(labels or {})}
        gains, losses = (" and ".join(words.get(name, name) for name in names) for names in (self.gains, self.losses))
        d = self.overall
        if d.percent is None or d.low is None or d.high is None:
            return "There are too few test rows, or too few positives among them, for an interval."
        together = " together with the targeted cohorts" if self.num_named > 1 else ""
        seen = f"NE over all rows changes by {d.percent:+.3f} % [{d.low:+.3f}, {d.high:+.3f}{together}]"
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
        trade = f" Better: {gains}; worse: {losses}." if losses else ""
        return (
            f"{seen}: neither a gain nor its absence is shown.{trade} If the figure stays, this would decide: "
            f"{self.needed}."
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
    (Bonferroni), so that an arm without any effect is recommended in at most 2.5 % of evaluations. A gain over all
    rows is enough: serving costs no more with it. A targeted cohort's alone is enough if no slice is called worse.
    With one seed nothing is decided. Seeds that are added because of an answer look at the same rows again, which the
    2.5 % does not count.

    Args:
        evaluation: The arm against its reference, over paired seeds.
        arm: The arm.
        targeted: Slices of the cohorts that its training targets.
        worth: Percent of NE overall below which a gain is not worth looking for.

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
    named = dict.fromkeys([ALL, *targeted])
    overall = _at_once(differences[ALL], len(named))
    losses = evaluation.claims[arm].worse
    answered = functools.partial(Recommendation, overall=overall, worth=worth, num_named=len(named))
    if overall.percent is None or overall.low is None or overall.variation is None:
        return answered("undecided", (), losses)
    if overall.variation.num_seeds == 1:
        return answered("undecided", (), ())
    highs = {name: _at_once(differences[name], len(named)).high for name in named}
    gains = tuple(name for name, high in highs.items() if high is not None and high < 0)
    if ALL in gains or (gains and not losses):
        return answered("use", gains, losses)
    if ALL in losses or (losses and not gains) or overall.low > -worth:
        return answered("do not use", gains, losses)
    return answered("undecided", gains, losses, needed=_needed(overall, len(named), worth))


def _at_once(difference: NEDifference, num_named: int) -> NEDifference:
    """The difference with the interval that holds for all named slices at once, if it has one."""
    if difference.percent is None or difference.variation is None:
        return difference
    margin = 100 * difference.variation.margin_of(num_named)
    return dataclasses.replace(difference, low=difference.percent - margin, high=difference.percent + margin)


def _needed(overall: NEDifference, num_named: int, worth: float) -> Needed:
    """What makes the interval of the overall figure so narrow that it lies below 0, or above `-worth`."""
    percent, variation = overall.percent, overall.variation
    assert percent is not None
    assert variation is not None

    def decides(seeds: int, rows: float) -> bool:
        more = variation.projected(seeds, rows)
        return 100 * more.margin_of(num_named) < max(-percent, percent + worth)

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
