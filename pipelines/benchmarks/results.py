"""One measurement beside a peer's, and the way to measure both: in turns, in one run."""

import dataclasses
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

RATIO = "ratio: how many times better ours is; ours / peer for a rate (a unit per second), peer / ours for a cost"
"""What `Result.ratio` means, as tables say it."""


@dataclass(frozen=True)
class Result:
    """One measurement of ours beside a peer's: a row of the table, an entry of `bench.json`.

        ratio = ours / peer    for a rate, which is any unit that ends in "/s"
        ratio = peer / ours    for a cost: ms, MB and all other units

    Above 1 ours is better, whatever the unit. `Result.of` makes one from the rounds of `alternate`.

    Args:
        benchmark: Name of the benchmark, the same for all its results.
        case: What was measured, such as `"5 M rows, exact"`.
        ours: Our measurement, the median of the rounds. None if it could not be measured.
        peer: The peer's. None if it could not be measured.
        peer_name: The other side: a library and its mode, a bound, ours at another size.
        unit: Of both, such as `"rows/s"`, `"ms"`, `"MB"`.
        ours_range: Smallest and largest round of ours.
        peer_range: The same of the peer's.
        goal: The ratio to reach, if there is one.
        note: Further information, such as why a measurement is missing.
    """

    benchmark: str
    case: str
    ours: float | None
    peer: float | None
    peer_name: str
    unit: str
    ours_range: tuple[float, float] | None = None
    peer_range: tuple[float, float] | None = None
    goal: float | None = None
    note: str = ""

    @classmethod
    def of(cls, benchmark: str, case: str, ours: Sequence[float], peer: Sequence[float], **rest: Any) -> "Result":
        """The medians and ranges of the rounds of either side; `rest` are the other fields."""
        rest |= {"ours_range": _range(ours), "peer_range": _range(peer)}
        return cls(benchmark, case, _median(ours), _median(peer), **rest)

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> "Result":
        """The inverse of `as_json`."""
        fields: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in entry.items() if name != "ratio"
        }
        return cls(**fields)

    @property
    def ratio(self) -> float | None:
        """How many times better ours is, None where a side is missing or zero."""
        if not self.ours or not self.peer:
            return None
        return self.ours / self.peer if self.unit.endswith("/s") else self.peer / self.ours

    @property
    def reached(self) -> bool | None:
        """Whether `ratio` is at `goal` or above, None where there is no goal or no ratio."""
        return None if self.goal is None or self.ratio is None else self.ratio >= self.goal

    def as_json(self) -> dict[str, Any]:
        """All fields and the ratio."""
        fields = dataclasses.asdict(self)
        first = {name: fields.pop(name) for name in ("benchmark", "case", "ours", "peer", "peer_name", "unit")}
        return first | {"ratio": self.ratio} | fields


def alternate(measured: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Measures each in turn, `rounds` times, so that a disturbance of the machine affects all alike.

    The order is reversed in every second round.

    Args:
        measured: Callables by name; each measures once and returns the measurement, after its own warm-up.
        rounds: Measurements of each. At least 1; odd, so that the median is one of them.

    Returns:
        The measurements by name, in the order of the rounds.
    """
    if rounds < 1:
        raise ValueError(f"`rounds` must be at least 1. Received: rounds={rounds}")
    measurements: dict[str, list[float]] = {name: [] for name in measured}
    for turn in range(rounds):
        for name in list(measured) if turn % 2 == 0 else reversed(list(measured)):
            measurements[name].append(measured[name]())
    return measurements


def compare(
    benchmark: str,
    case: str,
    ours: Callable[[], float],
    peer: Callable[[], float],
    *,
    rounds: int,
    **rest: Any,
) -> Result:
    """Measures ours and one peer in turns; `rest` are the other fields of `Result`, `peer_name` and `unit` at least."""
    measurements = alternate({"ours": ours, "peer": peer}, rounds)
    return Result.of(benchmark, case, measurements["ours"], measurements["peer"], **rest)


def _median(measurements: Sequence[float]) -> float | None:
    return statistics.median(measurements) if measurements else None


def _range(measurements: Sequence[float]) -> tuple[float, float] | None:
    return (min(measurements), max(measurements)) if measurements else None
