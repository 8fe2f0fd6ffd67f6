"""The compiled functions of each model: kept for the next call with the same arguments, and dropped with the model."""

import weakref
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import keras


class Identity:
    """A part of a key that equals itself alone, of an object that may have an equality of its own."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Identity) and other.value is self.value


_Program = TypeVar("_Program", bound=Callable[..., Any])

_PROGRAMS: weakref.WeakKeyDictionary[keras.Model, dict[Hashable, Any]] = weakref.WeakKeyDictionary()


def compiled_once(model: keras.Model, key: Hashable, compile_for: Callable[[keras.Model], _Program]) -> _Program:
    """What `compile_for` returned for this model and key the first time.

    Args:
        model: The model.
        key: What the program depends on beside the model. It holds the objects themselves: an id could be given to
            others later. None of them may refer to the model.
        compile_for: Compiles the program for a proxy of the model: a strong reference would keep the model forever.
    """
    programs = _PROGRAMS.setdefault(model, {})
    if key not in programs:
        programs[key] = compile_for(weakref.proxy(model))
    return programs[key]
