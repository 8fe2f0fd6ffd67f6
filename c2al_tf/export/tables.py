"""The lookup tables that an export must store: TensorFlow sees those of trackable objects only, not of a function."""

import functools
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator
from types import CodeType, FunctionType, MethodType
from typing import Any

import keras
import tensorflow as tf

_LIBRARIES = {"keras", "tensorflow", "numpy", *sys.stdlib_module_names}
"""Packages whose functions and classes refer to no table of a model."""


def tables(owners: Iterable[Any], captured: Iterable[Any]) -> list[Any]:
    """The lookup tables that a graph captured, as far as models, layers, modules and functions refer to them.

    Args:
        owners: The model and what comes before it.
        captured: The tensors outside the graph which it reads; the handle of each table is one.
    """
    holders = (
        each for each in _reachable(owners) if hasattr(each, "_trackable_children") and not inspect.isclass(each)
    )
    reached = (each for holder in holders for each in tf.train.TrackableView(holder).descendants())
    resources = {id(each): each for each in reached if isinstance(each, tf.saved_model.experimental.TrackableResource)}
    handles = {id(tensor) for tensor in captured}
    return [each for each in resources.values() if id(each.resource_handle) in handles]


def _reachable(owners: Iterable[Any]) -> list[Any]:
    waiting, seen = [*owners], dict[int, Any]()
    while waiting:
        each = waiting.pop()
        if id(each) not in seen and not isinstance(each, str | bytes | int | float):
            seen[id(each)] = each  # held, so that no other object gets its id
            waiting.extend(_parts(each))
    return list(seen.values())


def _parts(each: Any) -> Iterable[Any]:
    """What an object holds or refers to."""
    for kind, parts in _PARTS.items():
        if isinstance(each, kind):
            return parts(each)
    if inspect.isclass(each):
        return (part for kind in each.__mro__ if not _is_of_library(kind) for part in vars(kind).values())
    if _is_of_library(type(each)) and not isinstance(each, keras.Layer):
        return ()
    # Keras keeps layers in a dict out of TensorFlow's sight.
    layers = each._flatten_layers() if isinstance(each, keras.Layer) else ()
    return *layers, *getattr(each, "__dict__", {}).values(), type(each)


def _parts_of_function(function: FunctionType) -> Iterator[Any]:
    """Its defaults, the variables around it, and what it names of its module and, by these, of other modules."""
    if _is_of_library(function):
        return
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not yet assigned
            continue
    names = {*_names_in(function.__code__)}
    waiting, modules = [function.__globals__[name] for name in names if name in function.__globals__], set[str]()
    while waiting:
        value = waiting.pop()
        if not inspect.ismodule(value):
            yield value
        elif value.__name__ not in modules and value.__name__.split(".")[0] not in _LIBRARIES:
            modules.add(value.__name__)
            waiting.extend(vars(value)[name] for name in names if name in vars(value))


def _names_in(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for inner in code.co_consts:
        if inspect.iscode(inner):
            yield from _names_in(inner)


def _is_of_library(each: Any) -> bool:
    return str(getattr(each, "__module__", "")).split(".")[0] in _LIBRARIES


_PARTS: dict[Any, Callable[[Any], Iterable[Any]]] = {
    dict: lambda each: each.values(),
    list | tuple | set | frozenset: lambda each: each,
    functools.partial: lambda each: (each.func, *each.args, *each.keywords.values()),
    MethodType: lambda each: (each.__self__, each.__func__),
    FunctionType: _parts_of_function,
    tf.types.experimental.PolymorphicFunction: lambda each: (each.python_function,),
    staticmethod | classmethod: lambda each: (each.__func__,),
    property: lambda each: (each.fget,),
}
