"""What a run's figures say in plain words: the verdict, and what to do next."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from c2al_tf.cohorts import FEW_POSITIVES, STABLE, UNSTABLE
from c2al_tf.evaluation import ALL

from .diagnosis import Signature

ENOUGH_SEEDS = 5
"""Paired seeds below which a gain of the published size (0.05 to 0.3 %) is rarely told from chance."""

_SHARES = {0.5: "half", 0.25: "a quarter", 0.2: "a fifth", 0.1: "a tenth", 0.05: "a twentieth", 0.01: "a hundredth"}


def sampled_rows(share: float) -> str:
    """What `negative_sampling` made of the training rows, in words."""
    return f"all positives, and {_SHARES.get(share, f'{100 * share:.3g} %')} of the negatives at weight {1 / share:.3g}"


def yardstick_rows(yardstick: Mapping[str, Any]) -> str:
    """What the yardstick is and was trained on, in words."""
    rows, total = yardstick["rows"], yardstick["total_rows"]
    some = "all" if rows == total else f"{rows:,} of the"
    drawn = "" if rows == total else ", always the same ones"
    return (
        f"{yardstick['model']}, {yardstick['trees']} trees, trained on {some} {total:,} training rows{drawn}. "
        "Ids of more than 255 values are numbers to it."
    )


def yardstick_warning(yardstick: Mapping[str, Any], baseline: Mapping[str, Any]) -> str | None:
    """What to think of the comparison if the yardstick beats the baseline; None if it does not.

    Args:
        yardstick: What `yardstick.json` holds.
        baseline: The baseline's figures on all test rows.
    """
    boosting = yardstick["metrics"][ALL]["ne"]
    if boosting is None or baseline["ne"] is None or baseline["ne"] <= boosting:
        return None
    return (
        f"The baseline is worse than gradient boosting (NE {baseline['ne']:.4f} against {boosting:.4f}). "
        "A gain over a baseline that boosting beats convinces nobody: improve the baseline first."
    )


@dataclass(frozen=True)
class Difference:
    """NE_diff of a slice in percent, with its own 95 % interval; None where there is none.

    Args:
        percent: The difference.
        low: Lower end of the interval.
        high: Upper end.
        side: `better` or `worse` if the evaluation names the slice so, `unclear` if not, `unknown` without an interval.
    """

    percent: float | None
    low: float | None
    high: float | None
    side: str

    @property
    def reach(self) -> float:
        """How far from 0 the interval goes; 0 without one."""
        return 0.0 if self.low is None or self.high is None else max(abs(self.low), abs(self.high))


@dataclass(frozen=True)
class Slice:
    """A slice of the test rows as the report shows it.

    Args:
        name: Its key in `metrics.json`.
        label: Its predicate in words.
        targeted: Whether it has an auxiliary head in training.
        diff: C2AL against the baseline.
        baseline: The baseline's figures, the mean over the seeds.
        c2al: C2AL's.
    """

    name: str
    label: str
    targeted: bool
    diff: Difference
    baseline: Mapping[str, Any]
    c2al: Mapping[str, Any]

    @property
    def brief(self) -> str:
        """The label without the edges behind a quantile."""
        label = re.sub(r" \((?:below |from |in \[)[^()]*\)?\)", "", self.label)
        return re.sub(r"between quantiles (\S+) % and (\S+) %", r"in \1 to \2 %", label)


@dataclass(frozen=True)
class Verdict:
    """The headline: a sentence, its side for the colour, and what follows from it in a second sentence."""

    side: str
    sentence: str
    meaning: str


_SENTENCES = {
    "better": ("Yes: C2AL helps here.", "C2AL may help here, but one seed proves nothing."),
    "unclear": ("No clear effect: C2AL neither helps nor hurts measurably.", "No clear effect, and one seed only."),
    "worse": ("No: C2AL hurts here.", "C2AL may hurt here, but one seed proves nothing."),
    "unknown": (
        "Not measured: too few rows or positives for an interval.",
        "Not measured: too few rows or positives for an interval.",
    ),
}
_MEANINGS = {
    "better": "The whole interval lies below 0: over all rows the model trained with cohort tasks predicts better.",
    "unclear": "The interval contains 0: a gain or a loss of this size is what chance alone gives too.",
    "worse": "The whole interval lies above 0: over all rows the model trained with cohort tasks predicts worse.",
    "unknown": "There are too few test rows, or too few positives among them, to tell.",
}


_FOR_THE_TARGETED = (
    "That interval contains 0. Those of the cohorts named above, which the training targets, lie below 0 as a whole."
)


def verdict(overall: Difference, slices: Sequence[Slice], seeds: int) -> Verdict:
    """The headline from the overall interval; where that is unclear and nobody gets worse, from the targeted cohorts'.

    With one seed it claims nothing. Without any effect each of these intervals gives a headline of `better` in 2.5 % of
    runs.
    """
    gaining = [s for s in slices if s.targeted and s.diff.side == "better"]
    if overall.side == "unclear" and seeds > 1 and gaining and all(s.diff.side != "worse" for s in slices):
        names = " and ".join(s.brief for s in gaining)
        return Verdict("better", f"Yes, for {names}; over all rows no clear effect.", _FOR_THE_TARGETED)
    several, one = _SENTENCES[overall.side]
    return Verdict(overall.side, several if seeds > 1 else one, _MEANINGS[overall.side])


def next_steps(
    slices: Sequence[Slice],
    num_seeds: int,
    signatures: Sequence[Signature],
    stability: float | None = None,
) -> list[tuple[str, str]]:
    """What to do next, each as (what was seen, what to try).

    Args:
        slices: Every slice; `all` is among them.
        num_seeds: Paired seeds.
        signatures: What `diagnose` found.
        stability: Share of baselines and resamples in which the chosen pair comes first, if it was chosen.
    """
    overall = next(s.diff for s in slices if s.name == ALL)
    steps = [
        *_on_overall(overall, slices, num_seeds),
        *((f"{s.name[0].upper()}{s.name[1:]}: {s.seen}.", s.advice) for s in signatures),
        *_on_test_rows([s for s in slices if s.targeted]),
    ]
    if stability is not None and stability < STABLE:
        steps.append(
            (f"The chosen pair comes first in {stability:.0%} of baselines and resamples only.", f"{UNSTABLE}.")
        )
    if num_seeds < ENOUGH_SEEDS:
        count = "one seed was" if num_seeds == 1 else f"{num_seeds} paired seeds were"
        steps.append(
            (
                f"Only {count} trained.",
                f"Before deciding anything, train at least {ENOUGH_SEEDS} paired seeds (`seeds` in the configuration): "
                "the published gains are about as large as what another seed changes.",
            )
        )
    return steps


def _on_overall(overall: Difference, slices: Sequence[Slice], num_seeds: int) -> list[tuple[str, str]]:
    if overall.side == "better" and num_seeds > 1:
        losers = [s.brief for s in slices if s.diff.side == "worse"]
        caution = f" First look at who got worse: {'; '.join(losers)}." if losers else ""
        return [
            (
                "Overall better.",
                "Confirm it on another day of data, then with an A/B test of the exported model: it has the "
                f"baseline's inputs, outputs and size.{caution}",
            )
        ]
    if overall.side in ("unclear", "better") and overall.high is not None and overall.low is not None:
        return [
            (
                f"The overall interval is {overall.high - overall.low:.2g} percentage points wide; published gains are "
                "0.05 to 0.3 %.",
                "More paired seeds and more test rows make it narrower. C2AL has worked where positives are rare (well "
                "below 1 %) and training makes one pass; dense labels or several passes dilute it.",
            )
        ]
    return []


def _on_test_rows(targeted: Sequence[Slice]) -> list[tuple[str, str]]:
    few = [s for s in targeted if (s.baseline["positives"] or 0) < FEW_POSITIVES]
    if not few:
        return []
    counts = "; ".join(f"{s.brief}: {s.baseline['positives']}" for s in few)
    return [
        (
            f"Few positives in the test rows of a targeted cohort ({counts}).",
            "Evaluate on more rows, or on more days.",
        )
    ]
