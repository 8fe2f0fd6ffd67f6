"""What names of columns say: a label, a weight, an id, an amount, a time."""

import re
from collections.abc import Sequence

_LABELS = (
    *("label", "target", "y", "click", "clicked", "is_click", "is_clicked", "converted", "conversion", "is_converted"),
    *("income", "purchased", "bought", "liked", "like", "churned", "churn", "response", "outcome"),
)
WEIGHTS = ("weight", "sample_weight", "row_weight", "example_weight")
_IDS = {"id", "ids", "code", "codes", "zip", "zipcode", "postcode", "hash", "uuid", "guid", "key", "sku", "ip", "type"}
_PEOPLE = {
    *("user", "uid", "member", "customer", "visitor", "cookie", "device", "account", "person", "household", "client"),
    *("reader", "subscriber", "patient", "viewer", "guest"),
}
_THINGS = {
    *("item", "ad", "ads", "advertiser", "campaign", "creative", "product", "movie", "film", "video", "article"),
    *("site", "app", "publisher", "brand", "shop", "seller", "session", "author", "artist", "song", "track", "page"),
    *("category", "city", "country", "region", "occupation"),
}
AMOUNTS = {"num", "n", "nb", "number", "count", "total", "age", "price", "amount", "position", "rank", "days", "hours"}
TRAITS = {"age", "age_group", "sex", "gender", "race", "ethnicity", "country", "language"}
CYCLES = {"hour", "weekday", "dow", "month"}
TIMES = {"time", "timestamp", "ts", "date", "datetime", "day", "hour", "at"}


def words_of(name: str) -> list[str]:
    """The words of a name, in lower case: `userId` and `user_id` are `user` and `id`."""
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)]


def label_rank(name: str) -> int:
    """Place among the names of labels; a name that only holds such a word comes after, any other last."""
    if name.lower() in _LABELS:
        return _LABELS.index(name.lower())
    words = {*words_of(name)} - {"y", "like", "income"}
    return len(_LABELS) + (0 if words.intersection(_LABELS) else 1)


def is_named_label(name: str) -> bool:
    """Whether a name is one that labels have."""
    return label_rank(name) < len(_LABELS)


def is_id(words: Sequence[str]) -> bool:
    """Whether a name of these words is of ids rather than amounts."""
    last = words[-1] if words else ""
    return last in _IDS | _PEOPLE | _THINGS or (last.endswith("id") and last[:-2] in _PEOPLE | _THINGS)


def names_a_person(words: Sequence[str]) -> bool:
    """Whether a name of these words is a person's, or of what stands for one."""
    return any(word in _PEOPLE or word.removesuffix("id") in _PEOPLE for word in words)


def names_a_thing(words: Sequence[str]) -> bool:
    """Whether a name of these words is of a person or thing that comes in several rows."""
    return names_a_person(words) or not _THINGS.isdisjoint(words)
