"""Whether a model may take another's place: no cohort may have got worse beyond a bound."""

from collections.abc import Mapping, Sequence
from typing import Any


def worse_slices(
    differences: Mapping[str, Mapping[str, Any]], max_worse: float = 0.0, slices: Sequence[str] = ()
) -> dict[str, Mapping[str, Any]]:
    """The slices whose whole NE_diff interval lies above a bound.

    Examples:
        >>> found = {"all": {"percent": -0.1, "low": -0.2, "high": 0.0}, "tail": {"percent": 2, "low": 1, "high": 3}}
        >>> list(worse_slices(found, 0.5)), list(worse_slices(found, 1.0)), list(worse_slices(found, slices=["all"]))
        (['tail'], [], [])

    Args:
        differences: Slice to its `percent`, `low` and `high`, as `Evaluation.to_json` gives them; None where a slice
            has no figure, which refuses nothing.
        max_worse: The bound, in percent of the reference's NE.
        slices: Those that are looked at; all if empty.

    Raises:
        ValueError: If there is no slice of that name.
    """
    if absent := [name for name in slices if name not in differences]:
        raise ValueError(f"`slices` must be of {', '.join(differences)}. Received: {', '.join(absent)}")
    chosen = {name: differences[name] for name in slices or differences}
    return {name: each for name, each in chosen.items() if each["low"] is not None and each["low"] > max_worse}
