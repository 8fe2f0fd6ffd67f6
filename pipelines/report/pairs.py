"""What a report says of discovery: the chosen cohorts, the pairs beside them, and sensitive attributes among them."""

from collections.abc import Mapping, Sequence
from typing import Any

from c2al_tf.cohorts import GIVEN, RULES, STABLE, UNSTABLE, Cohort, Discovery, Pair

from .evidence import brief, label
from .figures import prediction_distributions
from .sensitive import sensitive_columns

_MOST_PAIRS_OPEN = 10


def chosen_cohorts(discovery: Discovery, config: Mapping[str, Any]) -> Sequence[Cohort]:
    """The cohorts that the run targets."""
    return discovery.given or discovery.cohorts(config.get("cohorts", {}).get("num_cohorts", 2))


def describe_discovery(
    discovery: Discovery, chosen: Sequence[Cohort], everyone: Sequence[float] | None = None
) -> dict[str, Any]:
    """What the page shows of discovery.

    Args:
        discovery: What was found.
        chosen: The targeted cohorts.
        everyone: The histogram of the predictions on all rows, if it was counted.
    """
    chosen_pairs = [pair for pair in discovery.pairs if set(pair.cohorts) <= set(chosen)]
    accepted = [pair for pair in discovery.pairs if pair.accepted]
    only_pair = len(accepted) == 1 and not discovery.given
    stability = None if discovery.given or only_pair else discovery.stability
    return {
        "discovery": discovery,
        "chosen": chosen,
        "chosen_pairs": chosen_pairs,
        "only_pair": only_pair,
        "stability": stability,
        "unstable": UNSTABLE if stability is not None and stability < STABLE else None,
        "first_pairs": [
            *(p for p in chosen_pairs if not p.accepted),
            *(p for n, p in enumerate(accepted) if n < _MOST_PAIRS_OPEN or p in chosen_pairs),
        ],
        "other_pairs": [p for p in accepted[_MOST_PAIRS_OPEN:] if p not in chosen_pairs],
        "refused_pairs": [p for p in discovery.pairs if not p.accepted and p not in chosen_pairs],
        "refusals": [(RULES[rule], count) for rule, count in discovery.refusals.most_common()],
        "predictions": prediction_distributions(_histograms(discovery, chosen, everyone)),
        "sensitive": _sensitive(discovery, chosen),
    }


def _sensitive(discovery: Discovery, chosen: Sequence[Cohort]) -> dict[str, list[str]]:
    """Columns that look like sensitive attributes, of the targeted cohorts and of the axes."""
    cut = [s.cohort for axis in discovery.axes if axis.name != GIVEN for s in axis.cohorts]
    columns = {
        role: [c for cohort in some for c in cohort.columns] for role, some in (("targeted", chosen), ("axes", cut))
    }
    return {role: sensitive_columns(names) for role, names in columns.items()}


def _histograms(
    discovery: Discovery, chosen: Sequence[Cohort], everyone: Sequence[float] | None
) -> dict[str, Sequence[float]]:
    """The lines of Figure 3: all rows if the run counted them, and the targeted cohorts."""
    summaries = {summary.cohort: summary for axis in discovery.axes for summary in axis.cohorts}
    lines: dict[str, Sequence[float]] = {"all rows": everyone} if everyone else {}
    roles = ["head cohort: ", "tail cohort: "] if len(chosen) == 2 else [""] * len(chosen)
    return lines | {
        f"{role}{brief(label(cohort))}": summaries[cohort].histogram for role, cohort in zip(roles, chosen, strict=True)
    }


def refusal(pair: Pair) -> str:
    """Why the guard refuses a pair, without the cohorts' names, which stand beside it."""
    text = "; ".join(pair.reasons.values())
    for cohort in pair.cohorts:
        text = text.replace(f" `{cohort}`", "")
    return text
