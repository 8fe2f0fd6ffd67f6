"""Names of tasks, each an output, a label and a metric; and of the model's inputs."""

import keyword
import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from .types import TASK_NAME

_INPUT = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def can_be_input(name: str) -> bool:
    """Whether a column may be an input of the served model under its own name."""
    return bool(_INPUT.fullmatch(name)) and not keyword.iskeyword(name) and name != "self"


def input_name(column: str) -> str:
    """The model's input of a column, of whatever name.

    Letters from a to z, digits and `_` stay. A letter or digit of another script becomes `u` and its code point, and
    whatever lies between becomes one `_`, or nothing at the ends. `x_` comes before a name that would not begin with a
    letter, `_` after a word of Python or `self`.

    Examples:
        >>> [input_name(name) for name in ("user_id", "Price (EUR)", "user.country", "2nd visit", "class", "цена")]
        ['user_id', 'Price_EUR', 'user_country', 'x_2nd_visit', 'class_', 'u0446u0435u043du0430']
    """
    if can_be_input(column):
        return column
    spelt = "".join(c if c.isascii() else f"u{ord(c):04x}" if c.isalnum() else " " for c in column)
    name = re.sub(r"[^A-Za-z0-9_]+", "_", spelt).strip("_")
    name = name if name[:1].isalpha() else f"x_{name}"
    return name if can_be_input(name) else f"{name}_"


def stored_names(path: object, columns: Iterable[str], present: Sequence[str]) -> dict[str, str]:
    """The names that columns have in a file: their own, or one whose `input_name` they are.

    Raises:
        ValueError: If there is none, or several.
    """
    found = {}
    for name in columns:
        stored = [name] * present.count(name) or [each for each in present if input_name(each) == name]
        if not stored:
            raise ValueError(f"{path}: no column `{name}`; present are {sorted(present)}")
        if len(stored) > 1:
            raise ValueError(
                f"{path}: a column's name must be its own; rename or drop the others. "
                f"Received: {len(stored)} columns `{name}`" + (f": {stored}" if {*stored} != {name} else "")
            )
        found[name] = stored[0]
    return found


def cohort_names(cohorts: Iterable[str], outputs: Collection[str], priors: Mapping[str, float]) -> list[str]:
    """The names of cohorts that get a head beside `outputs`.

    Raises:
        ValueError: If there is none, one is no name, is taken or comes twice, or a prior is of another.
    """
    names = [cohorts] if isinstance(cohorts, str) else list(cohorts)
    wrong = [name for name in names if not isinstance(name, str) or not TASK_NAME.fullmatch(name)]
    if wrong or isinstance(cohorts, str):
        raise ValueError(
            "`cohorts` must be names, `[cohort.name for cohort in cohorts]`, of letters, digits, `_` and `-` "
            f"that begin with a letter or digit. Received: {cohorts if isinstance(cohorts, str) else wrong}"
        )
    taken = sorted({*outputs} & {*names}) or sorted({name for name in names if names.count(name) > 1})
    if taken or not names:
        raise ValueError(
            f"Every cohort needs a name that no other output has, and at least one is needed. Received: {names}; "
            f"taken: {taken or sorted(outputs)}"
        )
    if unknown := sorted({*priors} - {*names}):
        raise ValueError(f"`priors` must be of cohorts among {names}. Received: {unknown}")
    return names


def cohort_weights(weight: float | Mapping[str, float], names: Collection[str]) -> dict[str, float]:
    """The weight of each cohort's loss, of one for all or by cohort.

    Raises:
        ValueError: If one is below 0, or weights by cohort are not of `names`.
    """
    weights = dict(weight) if isinstance(weight, Mapping) else dict.fromkeys(names, float(weight))
    if {*weights} != {*names} or not all(value >= 0 for value in weights.values()):
        raise ValueError(f"`weight` must be at least 0, for each of {list(names)}. Received: weight={weight}")
    return weights
