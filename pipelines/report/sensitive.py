"""Cohorts along sensitive attributes: which columns look like one, by their names."""

import re
from collections.abc import Iterable

_WORD = re.compile(
    r"ages?|birth(day|date|year)?|born|dob|sex|gender|rac(e|es|ial)|ethnic(ity)?|hispanic|latin[oa]|religio(n|us)|faith"
    r"|disab(led|ility)|handicap|nationality|citizen(s|ship)?|immigra(nt|tion)|marital|married|pregnan(t|cy)"
    r"|orientation|caste|veterans?|tribe"
)


def sensitive_columns(columns: Iterable[str]) -> list[str]:
    """The columns whose names hold a word for an attribute that law or decency protects, such as age, sex or race.

    A word counts as a whole: `page` and `usage` hold no age. Names alone are looked at: a column that stands for such
    an attribute under another name, as a postcode may, is not found.

    >>> sensitive_columns(["user_age", "ageGroup", "GENDER", "page", "usage_minutes", "marital-status", "race2"])
    ['user_age', 'ageGroup', 'GENDER', 'marital-status', 'race2']
    """
    return [name for name in dict.fromkeys(columns) if any(map(_WORD.fullmatch, _words(name)))]


def _words(name: str) -> list[str]:
    split = re.sub(r"([a-z])([A-Z])", r"\1 \2", name)
    return re.findall(r"[a-z]+", split.lower())
