"""Names of tasks: each is an output, a label and a metric."""

from collections.abc import Collection, Iterable, Mapping

from .types import TASK_NAME


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
