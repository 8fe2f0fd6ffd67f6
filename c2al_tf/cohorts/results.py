"""What discovery found, as values: cohorts with their sizes, ranked pairs, and the choice among them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from .axes import GIVEN
from .cohort import Cohort
from .conditions import check_keys
from .guard import Guard

STABLE = 0.5
"""Share of baselines and resamples in which the best pair has to come first for the choice to be called stable."""

UNSTABLE = (
    "Another baseline, or other users, may well give another pair. Train more baselines, compare the pairs by their "
    "intervals, or give the cohorts that matter to you"
)
"""What a choice that is not stable means, in words."""


@dataclass(frozen=True)
class CohortSummary:
    """A cohort on the data of a discovery.

    Args:
        cohort: The predicate.
        rows: Rows in it.
        positives: Rows in it with label 1, or None without labels.
        mean_prediction: Mean probability that the baselines gave its rows; 0 without rows.
        histogram: Its rows per log-normalised prediction bucket, mean over the baselines.
        training_rows: Training rows in it.
        training_positives: Those with label 1, or None without labels.
    """

    cohort: Cohort
    rows: int
    positives: int | None
    mean_prediction: float
    histogram: tuple[float, ...]
    training_rows: int
    training_positives: int | None

    @property
    def positive_rate(self) -> float | None:
        """Share of positives, or None without labels; 0 without rows."""
        return None if self.positives is None else self.positives / max(self.rows, 1)

    def to_json(self) -> dict[str, Any]:
        """Returns what `from_json` reads."""
        return {**_shallow(self), "cohort": self.cohort.to_json(), "histogram": list(self.histogram)}

    @classmethod
    def from_json(cls, json: Any) -> "CohortSummary":
        """Reads what `to_json` gave."""
        check_keys(json, "a cohort's summary", required=_field_names(cls))
        return cls(**{**json, "cohort": Cohort.from_json(json["cohort"]), "histogram": tuple(json["histogram"])})


@dataclass(frozen=True)
class AxisSummary:
    """An axis with all its cohorts."""

    name: str
    cohorts: tuple[CohortSummary, ...]


@dataclass(frozen=True)
class Pair:
    """Two cohorts of one axis, and how differently the baselines treat them.

    Args:
        axis: Name of the axis.
        head: The cohort with the higher positive rate; without labels, with the higher mean prediction.
        tail: The other one.
        divergences: By every measure, mean over the baselines, less the mean that it has where cohorts do not differ:
            few rows in many buckets diverge by themselves. Where cohorts do not differ it is about 0, on either side.
        interval: 95 % interval, over baselines and blocks of units, of the divergence that ranks; None where fewer than
            two blocks hold rows, and where the cohorts are too small to be tested.
        p_value: Chance of predictions that differ like this, in any pair of any axis, where none does; None if the
            cohorts are too small to be tested.
        label_p_value: The same of positive rate and calibration, among the pairs whose predictions pass; None for
            the others, and without labels.
        reasons: Why the guard refuses the pair, rule to words; empty if it does not. The rules are `positives`,
            `share` and `rows` (sizes), `chance`, `labels` and `effect`.
    """

    axis: str
    head: CohortSummary
    tail: CohortSummary
    divergences: Mapping[str, float]
    interval: tuple[float, float] | None
    p_value: float | None
    label_p_value: float | None
    reasons: Mapping[str, str]

    @property
    def accepted(self) -> bool:
        """Whether the pair passes the guard."""
        return not self.reasons

    @property
    def too_small(self) -> bool:
        """Whether it breaks a rule on sizes: such a pair teaches nothing, whatever it diverges."""
        return not {"positives", "share", "rows"}.isdisjoint(self.reasons)

    @property
    def cohorts(self) -> tuple[Cohort, Cohort]:
        """Head and tail."""
        return self.head.cohort, self.tail.cohort

    def to_json(self) -> dict[str, Any]:
        """Returns what `from_json` reads; cohorts by name."""
        return {
            **_shallow(self),
            "head": self.head.cohort.name,
            "tail": self.tail.cohort.name,
            "divergences": dict(self.divergences),
            "interval": None if self.interval is None else list(self.interval),
            "reasons": dict(self.reasons),
        }

    @classmethod
    def from_json(cls, json: Any, summaries: Mapping[str, CohortSummary]) -> "Pair":
        """Reads what `to_json` gave; `summaries` by cohort name."""
        check_keys(json, "a pair", required=_field_names(cls))
        unknown = [json[role] for role in ("head", "tail") if json[role] not in summaries]
        if unknown:
            raise ValueError(
                f"A pair must name cohorts of the axes. Received: {unknown}; there are {sorted(summaries)}"
            )
        return cls(
            json["axis"],
            summaries[json["head"]],
            summaries[json["tail"]],
            dict(json["divergences"]),
            None if json["interval"] is None else (json["interval"][0], json["interval"][1]),
            json["p_value"],
            json["label_p_value"],
            dict(json["reasons"]),
        )


@dataclass(frozen=True)
class Discovery:
    """All pairs of all axes, the most divergent first, refused ones included.

    Args:
        divergence: Name of the measure that ranks.
        total_rows: Rows with predictions.
        num_seeds: Number of baselines that predicted.
        guard: The guard that accepted and refused.
        axes: Every axis with its cohorts.
        pairs: Every pair, ranked.
        stability: Share of baselines x resamples of the units in which the best pair is the first of the accepted ones;
            None without a best pair.
    """

    divergence: str
    total_rows: int
    num_seeds: int
    guard: Guard
    axes: tuple[AxisSummary, ...]
    pairs: tuple[Pair, ...]
    stability: float | None

    @property
    def best(self) -> Pair:
        """The most divergent accepted pair.

        Raises:
            ValueError: If the guard refused every pair; the message says why for the three most divergent.
        """
        for pair in self.pairs:
            if pair.accepted:
                return pair
        refused = "".join(
            f"\n- axis `{pair.axis}`, `{pair.head.cohort}` against `{pair.tail.cohort}`: "
            f"{'; '.join(pair.reasons.values())}"
            for pair in self.pairs[:3]
        )
        raise ValueError(
            f"No pair passes the guard: {len(self.pairs):,} pairs on {len(self.axes):,} axes. Cut other axes or fewer "
            f"cohorts, bring more rows, or lower the guard ({self.guard}). The most divergent:{refused or ' none'}"
        )

    @property
    def given(self) -> tuple[Cohort, ...]:
        """The cohorts that a team brought; the guard says of their pairs what it says of others."""
        return tuple(summary.cohort for axis in self.axes if axis.name == GIVEN for summary in axis.cohorts)

    @property
    def best_by_axis(self) -> dict[str, Pair]:
        """The most divergent accepted pair of each axis that has one, by the axis' name, the most divergent first."""
        best: dict[str, Pair] = {}
        for pair in self.pairs:
            if pair.accepted:
                best.setdefault(pair.axis, pair)
        return best

    @property
    def refusals(self) -> Counter[str]:
        """How many pairs each rule of the guard refuses; a pair may break several."""
        return Counter(rule for pair in self.pairs for rule in pair.reasons)

    def cohorts(self, num_cohorts: int = 2, *, guarded: bool = True) -> tuple[Cohort, ...]:
        """Returns disjoint cohorts of the axis where they differ most, every two of them an accepted pair by default.

        Starts on each axis with its best pair (head first) and adds the cohort with the largest sum of divergences
        to those chosen; the axis with the largest sum over its pairs wins. Two cohorts are the best pair.

        Args:
            num_cohorts: At least 2.
            guarded: Whether pairs must be accepted ones; else it is enough that they are large enough.

        Raises:
            ValueError: If no axis has so many cohorts, or none that differ beyond chance.
        """
        if num_cohorts < 2:
            raise ValueError(f"`num_cohorts` must be at least 2. Received: num_cohorts={num_cohorts}")
        allowed = [pair for pair in self.pairs if pair.accepted or not (guarded or pair.too_small)]
        best = self.best if guarded or not allowed else allowed[0]
        found = [
            _spread([pair for pair in allowed if pair.axis == axis.name], self.divergence, num_cohorts)
            for axis in self.axes
        ]
        complete = [(total, cohorts) for total, cohorts in found if len(cohorts) == num_cohorts]
        if not complete:
            most = max(len(cohorts) for _, cohorts in found)
            rule = " of which every two pass the guard" if guarded else ""
            raise ValueError(
                f"No axis has {num_cohorts} cohorts{rule}; the most is {most}. Cut an axis finer, or ask for fewer. "
                f"The best pair is on axis `{best.axis}`."
            )
        return max(complete, key=lambda item: item[0])[1]

    def to_json(self) -> dict[str, Any]:
        """Returns what `from_json` reads, in types that JSON knows."""
        return {
            **_shallow(self),
            "guard": asdict(self.guard),
            "axes": [{"name": a.name, "cohorts": [cohort.to_json() for cohort in a.cohorts]} for a in self.axes],
            "pairs": [pair.to_json() for pair in self.pairs],
        }

    @classmethod
    def from_json(cls, json: Any) -> "Discovery":
        """Reads what `to_json` gave.

        Raises:
            ValueError: If a key is unknown or missing; the message says which.
        """
        check_keys(json, "a discovery", required=_field_names(cls))
        check_keys(json["guard"], "a guard", required=_field_names(Guard))
        for axis in json["axes"]:
            check_keys(axis, "an axis", required=_field_names(AxisSummary))
        axes = tuple(
            AxisSummary(axis["name"], tuple(map(CohortSummary.from_json, axis["cohorts"]))) for axis in json["axes"]
        )
        summaries = {summary.cohort.name: summary for axis in axes for summary in axis.cohorts}
        pairs = tuple(Pair.from_json(pair, summaries) for pair in json["pairs"])
        return cls(
            json["divergence"],
            json["total_rows"],
            json["num_seeds"],
            Guard(**json["guard"]),
            axes,
            pairs,
            json["stability"],
        )


def _spread(pairs: Sequence[Pair], divergence: str, num_cohorts: int) -> tuple[float, tuple[Cohort, ...]]:
    """Returns the greedy choice among the accepted, ranked pairs of one axis, and the sum of its divergences."""
    if not pairs:
        return 0.0, ()
    distance = {frozenset(pair.cohorts): pair.divergences[divergence] for pair in pairs}
    chosen: tuple[Cohort, ...] = pairs[0].cohorts
    total = pairs[0].divergences[divergence]
    rest = {cohort for pair in pairs for cohort in pair.cohorts} - set(chosen)
    while rest and len(chosen) < num_cohorts:
        sums = {
            cohort: sum(distance[frozenset((cohort, other))] for other in chosen)
            for cohort in sorted(rest, key=lambda cohort: cohort.name)
            if all(frozenset((cohort, other)) in distance for other in chosen)
        }
        if not sums:
            break
        added = max(sums, key=lambda cohort: sums[cohort])
        chosen, total, rest = (*chosen, added), total + sums[added], rest - {added}
    return total, chosen


def _shallow(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in fields(value)}


def _field_names(kind: Any) -> list[str]:
    return [field.name for field in fields(kind)]
