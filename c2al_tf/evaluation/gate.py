"""Whether a model may take another's place: no cohort may have got worse beyond a bound."""

from collections.abc import Mapping, Sequence
from typing import Any

from scipy.stats import norm

from .counts import ALL


def worse_slices(
    differences: Mapping[str, Mapping[str, Any]], max_worse: float = 0.0, slices: Sequence[str] = ()
) -> dict[str, Mapping[str, Any]]:
    r"""The slices whose whole NE_diff interval lies above a bound, for all slices at once.

    The 95 % intervals of m slices are widened as if they were of normal variables, so that with no slice worse than the
    bound one or more are named in at most 5 % of cases:

        low' = percent - (percent - low) z(1 - 0.025 / m) / z(1 - 0.025)

    Examples:
        >>> found = {"all": {"percent": -0.1, "low": -0.2, "high": 0.0}, "tail": {"percent": 2, "low": 1, "high": 3}}
        >>> list(worse_slices(found, 0.5)), list(worse_slices(found, 1.0)), list(worse_slices(found, slices=["all"]))
        (['tail'], [], [])

    Args:
        differences: Slice to its `percent`, `low` and `high`, as `Evaluation.to_json` gives them; None where a slice
            has no figure, as with few rows: that refuses nothing.
        max_worse: The bound, in percent of the reference's NE.
        slices: Those that are looked at; all if empty.

    Raises:
        ValueError: If there is no slice of a name that is given, or it has no figure, or all rows have none.

    References:
        Bonferroni's correction.
    """
    if absent := [name for name in slices if name not in differences]:
        raise ValueError(f"`slices` must be of {', '.join(differences)}. Received: {', '.join(absent)}")
    if unknown := [name for name in slices or (ALL,) if differences.get(name, {}).get("low") is None]:
        raise ValueError(f"Nothing can be said without an NE_diff and its interval. Received: none of {unknown[0]!r}")
    chosen = {name: differences[name] for name in slices or differences if differences[name]["low"] is not None}
    wider = norm.ppf(1 - 0.025 / len(chosen)) / norm.ppf(1 - 0.025)
    return {
        name: each
        for name, each in chosen.items()
        if each["percent"] - wider * (each["percent"] - each["low"]) > max_worse
    }
