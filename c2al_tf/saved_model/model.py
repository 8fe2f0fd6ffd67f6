"""A SavedModel on TensorFlow's C++ loader, through ctypes and NumPy alone: the code path of tensorflow_model_server.

TensorFlow's Python package is not imported, so inputs are neither cast nor traced: a wrong dtype is an error, as it is
in the server.
"""

import contextlib
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..protocol.messages import MetaGraphDef
from ..protocol.tensors import DEFAULT_SIGNATURE, TensorSpec, dtype_name, read_signatures, shape_text
from ..storage import opened
from ..types import Array
from .native import FAILED_PRECONDITION, NOT_FOUND, SavedModelError, set_xla
from .session import Call, load_session

_VARIABLES = "variables/variables.index"


class SavedModel(contextlib.AbstractContextManager["SavedModel"]):
    """A loaded SavedModel, whose signatures are called with NumPy arrays. A context manager.

    Calls may come from many threads. Strings go in as arrays of `str` or `bytes` and come out as `bytes`.

    Args:
        directory: The version folder: `saved_model.pb`, `variables/`, `assets/`.
        disable_xla: Forbid XLA compilation, as tensorflow_model_server does. This holds for the whole process, also for
            training in it, until the last model loaded in this way is closed.
        num_threads: Threads that work on one call; 1: the caller's own, which is cheapest for small batches. None:
            TensorFlow's pools, with one thread per core.

    Attributes:
        signatures: The signatures that can be called, by name.
        signature_defs: Every SignatureDef as stored, by name, and the init op, which is stored among them.

    Raises:
        SavedModelError: If files are missing or TensorFlow cannot load them.
    """

    def __init__(
        self, directory: str | os.PathLike[str], disable_xla: bool = True, num_threads: int | None = None
    ) -> None:
        self.directory = opened(directory)
        _check_folder(self.directory)
        self._idle, self._running, self._closed = threading.Condition(), 0, False
        with contextlib.ExitStack() as undo:
            if disable_xla:
                undo.enter_context(_without_xla())
            self._session, serialized = load_session(str(self.directory), num_threads)
            undo.callback(self._session.close)
            meta_graph = MetaGraphDef.FromString(serialized)
            # TensorFlow loads a model without its variables, and fails at the first call; TensorFlow 2 has always some.
            if meta_graph.object_graph_def and not (self.directory / _VARIABLES).is_file():
                raise SavedModelError(f"{self.directory}: incomplete SavedModel: it has no {_VARIABLES}.", NOT_FOUND)
            self._undo = undo.pop_all()
        self.signature_defs: dict[str, Any] = dict(sorted(meta_graph.signature_def.items()))
        self.signatures = read_signatures(self.signature_defs)
        self._calls: dict[tuple[str, tuple[str, ...], tuple[str, ...]], Call] = {}

    def run(
        self, inputs: Mapping[str, Any], signature: str = DEFAULT_SIGNATURE, outputs: Sequence[str] | None = None
    ) -> dict[str, Array]:
        """Calls a signature. Nothing is cast: dtypes must be the declared ones.

        Args:
            inputs: An array for each input, by name; those that have a default may be left out.
            signature: Name of the signature.
            outputs: Names of the outputs to compute; all of them if absent.

        Raises:
            SavedModelError: For a wrong name, dtype, rank or size, and for errors inside the graph.
        """
        return self.call(*self.check(_arrays(inputs), signature, outputs), signature)

    def call(
        self, inputs: Mapping[str, Array], names: Sequence[str], signature: str, seconds: float | None = None
    ) -> dict[str, Array]:
        """Like `run`, with inputs and names that `check` returned; TensorFlow gives up after so many seconds."""
        called = self.signatures[signature]
        key = (signature, tuple(inputs), tuple(names))
        with self._call():
            if key not in self._calls:
                self._calls[key] = self._session.call(
                    [called.inputs[name].tensor for name in inputs], [called.outputs[name].tensor for name in names]
                )
            outputs = self._session.run(self._calls[key], list(inputs.values()), seconds)
        return dict(zip(names, outputs, strict=True))

    def run_unchecked(self, inputs: Mapping[str, Array], signature: str = DEFAULT_SIGNATURE) -> dict[str, Array]:
        """Like `run`, but TensorFlow's session alone judges the inputs, as in a server that does not look at them.

        Raises:
            SavedModelError: If the signature has no such input, or TensorFlow refuses them.
        """
        called = self.signatures[signature]
        if unknown := inputs.keys() - called.inputs.keys():
            raise SavedModelError(f"The signature has no input {_names(unknown)}.")
        return self.call(inputs, list(called.outputs), signature)

    def must_be_fed(self, name: str, signature: str = DEFAULT_SIGNATURE) -> bool:
        """Whether an input is a placeholder: without a value TensorFlow refuses every call that reads it."""
        with self._call():
            return self._session.operation_type(self.signatures[signature].inputs[name].tensor) == "Placeholder"

    def run_together(
        self, inputs: Mapping[str, Any], outputs: Mapping[str, Sequence[str]], seconds: float | None = None
    ) -> dict[str, dict[str, Array]]:
        """Calls several signatures with the same inputs in one run, which computes their common nodes once.

        Args:
            inputs: As for `run`.
            outputs: By signature the names of the outputs to compute.
            seconds: As for `call`.

        Returns:
            By signature the result of `run`.
        """
        feeds: dict[str, Array] = {}
        for signature, names in outputs.items():
            arrays, _ = self.check(_arrays(inputs), signature, names)
            feeds |= {self.signatures[signature].inputs[name].tensor: array for name, array in arrays.items()}
        wanted = [self.signatures[signature].outputs[name] for signature, names in outputs.items() for name in names]
        with self._call():
            call = self._session.call(list(feeds), [spec.tensor for spec in wanted])
            results = iter(self._session.run(call, list(feeds.values()), seconds))
        return {signature: {name: next(results) for name in names} for signature, names in outputs.items()}

    def check(
        self, inputs: Mapping[str, Array], signature: str = DEFAULT_SIGNATURE, outputs: Sequence[str] | None = None
    ) -> tuple[dict[str, Array], list[str]]:
        """Raises what `run` would raise for the arguments alone; returns all inputs in order, and the outputs' names.

        Strings must be arrays of objects that are `str` or `bytes`, which is not looked at.
        """
        if signature not in self.signatures:
            what = f'Serving signature key "{signature}" not found. The model has: {_names(self.signatures)}.'
            raise SavedModelError(what, FAILED_PRECONDITION)
        called = self.signatures[signature]
        given = inputs if len(inputs) == len(called.inputs) else {**called.defaults, **inputs}
        if given.keys() != called.inputs.keys():
            raise SavedModelError(
                f"input size does not match signature. Sent extra: {_names(given.keys() - called.inputs.keys())}. "
                f"Missing but required: {_names(called.inputs.keys() - given.keys())}. "
                f"Declared: {_names(called.inputs)}."
            )
        arrays = {}
        for name, spec in called.inputs.items():
            array = arrays[name] = given[name]
            if array.dtype != spec.dtype or array.ndim != 1 or spec.shape != (None,):
                _check_form(name, array, spec)
        chosen = list(outputs) if outputs else list(called.outputs)
        for name in chosen:
            if name not in called.outputs:
                known = f"Outputs expected to be in the set {_names(called.outputs)}."
                raise SavedModelError(f"output tensor alias not found in signature: {name} {known}")
        if len(set(chosen)) < len(chosen):
            raise SavedModelError(f"duplicate output tensor alias among {_names(chosen)}")
        return arrays, chosen

    def close(self) -> None:
        """Waits for the calls under way, then releases the model."""
        with self._idle:
            if self._closed:
                return
            self._closed = True
            self._idle.wait_for(lambda: self._running == 0)
        self._undo.close()

    def __exit__(self, *error: object) -> None:
        self.close()

    @contextlib.contextmanager
    def _call(self) -> Iterator[None]:
        with self._idle:
            if self._closed:
                raise SavedModelError(f"The model of {self.directory} is closed.", FAILED_PRECONDITION)
            self._running += 1
        try:
            yield
        finally:
            with self._idle:
                self._running -= 1
                self._idle.notify_all()


def _arrays(inputs: Mapping[str, Any]) -> dict[str, Array]:
    """Arrays of the dtypes that tensors have: strings of any kind are objects."""
    arrays = {}
    for name, values in inputs.items():
        array = np.asarray(values)
        if array.dtype.kind in "OSUT":
            # NumPy's own strings drop trailing zero bytes.
            array = np.asarray(values, object)
            for kind in set(map(type, array.flat)):
                if not issubclass(kind, (str, bytes)):
                    raise SavedModelError(f"Input {name!r} must hold strings (str or bytes). Received: {kind.__name__}")
        arrays[name] = array
    return arrays


def _check_form(name: str, array: Array, spec: TensorSpec) -> None:
    if array.dtype != spec.dtype:
        wanted, received = dtype_name(spec.dtype), dtype_name(array.dtype)
        raise SavedModelError(f"Input {name!r} must have dtype {wanted}. Received: {received}")
    fits = spec.shape is None or len(spec.shape) == array.ndim
    for size, declared in zip(array.shape, spec.shape or (), strict=False):
        fits = fits and declared in (None, size)
    if not fits:
        wanted, received = shape_text(spec.shape), shape_text(array.shape)
        raise SavedModelError(f"Input {name!r} must have shape {wanted}. Received: {received}")


def _names(names: Any) -> str:
    return "{" + ", ".join(sorted(names)) + "}"


def _check_folder(directory: Path) -> None:
    if not directory.is_dir():
        raise SavedModelError(f"{directory}: no such folder; a SavedModel's version folder is wanted.", NOT_FOUND)
    if not (directory / "saved_model.pb").is_file():
        versions = sorted(path.parent.name for path in directory.glob("*/saved_model.pb"))
        hint = f" Its folders {_names(versions)} have one: load one of them." if versions else ""
        raise SavedModelError(f"{directory}: not a SavedModel: it has no saved_model.pb.{hint}", NOT_FOUND)


_xla_lock = threading.Lock()
_xla_guards = 0
_xla_before = True


@contextlib.contextmanager
def _without_xla() -> Iterator[None]:
    global _xla_guards, _xla_before
    with _xla_lock:
        if _xla_guards == 0:
            _xla_before = set_xla(False)
        _xla_guards += 1
    try:
        yield
    finally:
        with _xla_lock:
            _xla_guards -= 1
            if _xla_guards == 0:
                set_xla(_xla_before)
