"""The types of a frozen value's fields, checked where the value is made: in Python as from YAML."""

import dataclasses
import functools
import numbers
import types
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

_KINDS: dict[type, tuple[type, str]] = {
    bool: (bool, "true or false"),
    int: (numbers.Integral, "a whole number"),
    float: (numbers.Real, "a number"),
    str: (str, "text"),
}


def check_fields(value: Any) -> None:
    """Raises ValueError unless every field of a dataclass has a value of its declared type.

    Words (`Literal`), numbers, text, `None` where it is allowed, and tuples of these are checked; an integer is a
    number, a boolean is none. Fields of other types are left to their own classes.
    """
    for name, declared in _hints(type(value)).items():  # type: ignore[arg-type]
        received = getattr(value, name)
        if not _fits(received, declared):
            raise ValueError(f"`{name}` must be {_text(declared)}. Received: {name}={received!r}")


@functools.cache
def _hints(kind: type) -> Mapping[str, Any]:
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _fits(value: Any, declared: Any) -> bool:
    origin, arguments = get_origin(declared), get_args(declared)
    if origin is Literal:
        return any(type(value) is type(word) and value == word for word in arguments)
    if origin in (Union, types.UnionType):
        return any(_fits(value, argument) for argument in arguments)
    if origin is tuple and arguments[1:] == (...,):
        return isinstance(value, tuple) and all(_fits(item, arguments[0]) for item in value)
    if declared is type(None):
        return value is None
    if declared not in _KINDS:
        return True
    return isinstance(value, _KINDS[declared][0]) and (declared is bool or not isinstance(value, bool))


def _text(declared: Any) -> str:
    origin, arguments = get_origin(declared), get_args(declared)
    if origin is Literal:
        return f"one of {', '.join(map(repr, arguments))}"
    if origin in (Union, types.UnionType):
        return " or ".join(_text(argument) for argument in arguments)
    if origin is tuple:
        return f"a tuple, each item {_text(arguments[0])}"
    if declared is type(None):
        return "None"
    return _KINDS[declared][1] if declared in _KINDS else str(getattr(declared, "__name__", declared))
