"""Whether the cohorts that a model is trained for are still those that it treats most differently."""

import math

from .axes import GIVEN
from .results import Discovery, Pair


def pair_in_use(discovery: Discovery) -> Pair:
    """The most divergent pair of the given cohorts, if there are any, else the best one.

    Raises:
        ValueError: If there is none.
    """
    if not discovery.given:
        return discovery.best
    pairs = [pair for pair in discovery.pairs if pair.axis == GIVEN]
    if not pairs:
        raise ValueError(f"A pair needs two given cohorts. Received: {', '.join(map(str, discovery.given))}")
    return pairs[0]


def find_drift(before: Discovery, now: Discovery, pair: Pair | None = None) -> list[str]:
    """What is no longer as it was, in words; nothing if the pair that is in use still is the one to use.

    A difference counts where two 95 % intervals have no number in common.

    Args:
        before: A discovery on earlier rows.
        now: One on newer rows, along the same axes, to which the cohorts in use were given.
        pair: The pair of `before` that is in use. None: `pair_in_use(before)`.

    Raises:
        ValueError: If these were not given, or the two rank by different measures.
    """
    if before.divergence != now.divergence:
        raise ValueError(f"Both must rank by one measure. Received: {before.divergence} and {now.divergence}")
    old, measure = pair or pair_in_use(before), now.divergence
    wanted = {cohort.conditions for cohort in old.cohorts}
    same = next((p for p in now.pairs if p.axis == GIVEN and {c.conditions for c in p.cohorts} == wanted), None)
    if same is None:
        raise ValueError(f"The cohorts in use must be given to the discovery on newer rows. Received: {now.given}")
    name, found = f"{same.head.cohort.name} | {same.tail.cohort.name}", []
    if not same.accepted:
        found.append(f"{name}: the guard refuses this pair now: {'; '.join(same.reasons.values())}")
    elif same.head.cohort.conditions != old.head.cohort.conditions and _rates_differ(old) and _rates_differ(same):
        found.append(f"{name}: head and tail have changed places: {same.head.cohort.name} is the head now")
    if _above(old, same) or _above(same, old):
        found.append(f"{name}: {measure} was {_text(old, measure)}, is {_text(same, measure)}")
    others = [pair for pair in now.pairs if pair.axis != GIVEN and pair.accepted and _above(pair, same)]
    if others:
        more = f"{others[0].head.cohort.name} | {others[0].tail.cohort.name}: {measure} is {_text(others[0], measure)}"
        found.append(f"{more}, more than that of {name}, {_text(same, measure)}")
    return found


def _above(a: Pair, b: Pair) -> bool:
    return a.interval is not None and b.interval is not None and a.interval[0] > b.interval[1]


def _rates_differ(pair: Pair) -> bool:
    """Whether the positive rates, as of independent rows, differ beyond their 95 % intervals."""
    if pair.head.positives is None or pair.tail.positives is None:
        return True  # head and tail are told apart by their predictions
    rates = [(summary.positives or 0) / max(summary.rows, 1) for summary in (pair.head, pair.tail)]
    margins = [
        1.96 * math.sqrt(rate * (1 - rate) / max(summary.rows, 1))
        for rate, summary in zip(rates, (pair.head, pair.tail), strict=True)
    ]
    return rates[0] - rates[1] > sum(margins)


def _text(pair: Pair, measure: str) -> str:
    interval = "" if pair.interval is None else " [{:.4f}, {:.4f}]".format(*pair.interval)
    return f"{pair.divergences[measure]:.4f}{interval}"
