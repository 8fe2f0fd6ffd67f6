"""What discovery found, as values: cohorts with their sizes, ranked pairs, and the choice among them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from .cohort import Cohort
from .conditions import check_keys
from .guard import Guard


@dataclass(frozen=True)
class CohortSummary:
    """A cohort on the data of a discovery.

    Args:
        cohort: The predicate.
        rows: Rows in it.
        positives: Rows in it with label 1, or None without labels.
        mean_prediction: Mean probability that the baseline gave its rows; 0 without rows.
        histogram: Its rows per log-normalised prediction bucket.
    """

    cohort: Cohort
    rows: int
    positives: int | None
    mean_prediction: float
    histogram: tuple[int, ...]

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
    """Two disjoint cohorts of one axis, and how differently the baseline treats them.

    Args:
        axis: Name of the axis.
        head: The cohort with the higher positive rate; without labels, with the higher mean prediction.
        tail: The other one.
        divergences: The divergence by every measure.
        interval: Bootstrap 95 % interval, over rows, of the divergence that ranks. It is corrected for the bias of few
            rows, which is upward: a divergence that is mostly noise lies above its interval.
        p_value: Chance of a pair like this on any axis in data without differences; None if too small to be tested.
        reasons: Why the guard refuses the pair, in words; empty if it does not.
    """

    axis: str
    head: CohortSummary
    tail: CohortSummary
    divergences: Mapping[str, float]
    interval: tuple[float, float]
    p_value: float | None
    reasons: tuple[str, ...]

    @property
    def accepted(self) -> bool:
        """Whether the pair passes the guard."""
        return not self.reasons

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
            "interval": list(self.interval),
            "reasons": list(self.reasons),
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
            (json["interval"][0], json["interval"][1]),
            json["p_value"],
            tuple(json["reasons"]),
        )


@dataclass(frozen=True)
class Discovery:
    """All pairs of all axes, the most divergent first, refused ones included.

    Args:
        divergence: Name of the measure that ranks.
        total_rows: Rows of the data.
        guard: The guard that accepted and refused.
        axes: Every axis with its cohorts.
        pairs: Every pair, ranked.
    """

    divergence: str
    total_rows: int
    guard: Guard
    axes: tuple[AxisSummary, ...]
    pairs: tuple[Pair, ...]

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
            f"\n- axis `{pair.axis}`, `{pair.head.cohort}` against `{pair.tail.cohort}`: {'; '.join(pair.reasons)}"
            for pair in self.pairs[:3]
        )
        raise ValueError(
            f"No pair passes the guard: {len(self.pairs):,} pairs on {len(self.axes):,} axes. Cut other axes or fewer "
            f"cohorts, bring more rows, or lower the guard ({self.guard}). The most divergent:{refused or ' none'}"
        )

    def cohorts(self, num_cohorts: int = 2) -> tuple[Cohort, ...]:
        """Returns disjoint cohorts of the axis where they differ most, every two of them an accepted pair.

        Starts on each axis with its best pair (head first) and adds the cohort with the largest sum of divergences
        to those chosen; the axis with the largest sum over its pairs wins. Two cohorts are the best pair.

        Args:
            num_cohorts: At least 2.

        Raises:
            ValueError: If no axis has so many cohorts that differ beyond chance.
        """
        if num_cohorts < 2:
            raise ValueError(f"`num_cohorts` must be at least 2. Received: num_cohorts={num_cohorts}")
        best = self.best
        found = [
            _spread(
                [pair for pair in self.pairs if pair.axis == axis.name and pair.accepted], self.divergence, num_cohorts
            )
            for axis in self.axes
        ]
        complete = [(total, cohorts) for total, cohorts in found if len(cohorts) == num_cohorts]
        if not complete:
            most = max(len(cohorts) for _, cohorts in found)
            raise ValueError(
                f"No axis has {num_cohorts} cohorts of which every two pass the guard; the most is {most}. Cut an axis "
                f"finer, or ask for fewer. The best pair is on axis `{best.axis}`."
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
        return cls(json["divergence"], json["total_rows"], Guard(**json["guard"]), axes, pairs)


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
