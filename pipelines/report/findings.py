"""What a run's figures say in plain words, and what to do next."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from c2al_tf.cohorts import FEW_POSITIVES, STABLE, UNSTABLE
from c2al_tf.evaluation import ALL

from .diagnosis import Signature
from .evidence import brief

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
        return brief(self.label)


def next_steps(
    answer: str, slices: Sequence[Slice], signatures: Sequence[Signature], stability: float | None = None
) -> list[tuple[str, str]]:
    """What to do next, each as (what was seen, what to try).

    Args:
        answer: What is recommended.
        slices: Every slice.
        signatures: What `diagnose` found.
        stability: Share of baselines and resamples in which the chosen pair comes first, if it was chosen.
    """
    steps = [
        *_ADVICE[answer],
        *_on_test_rows([s for s in slices if s.targeted]),
        *((f"{s.name[0].upper()}{s.name[1:]}:", f"{s.seen}. {s.advice}") for s in signatures),
    ]
    if stability is not None and stability < STABLE:
        seen = f"The chosen pair comes first in {stability:.0%} of baselines and resamples only."
        steps.append((seen, f"{UNSTABLE}."))
    return steps


_ADVICE = {
    "use": [
        (
            "Before it serves:",
            "confirm it on another day of data, then with an A/B test of the exported model, which has the baseline's "
            "inputs, outputs and size.",
        )
    ],
    "do not use": [
        ("Serve the baseline.", "Another lambda, other cohorts or a better baseline is another experiment.")
    ],
    "undecided": [
        (
            "Until it is decided, serve the baseline.",
            "The published gains are 0.05 to 0.3 %. C2AL has worked where positives are rare (well below 1 %) and "
            "training makes one pass; dense labels or several passes dilute it.",
        )
    ],
}


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
