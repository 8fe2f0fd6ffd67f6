"""A TensorFlow session over a SavedModel: `LoadSavedModel` and `Session::Run`, the path of tensorflow_model_server."""

import ctypes
import os
from collections.abc import Sequence
from typing import Any, TypeAlias

from ..protocol.messages import ConfigProto, RunOptions
from ..types import Array
from .native import NOT_FOUND, Buffer, Output, SavedModelError, Status, libraries
from .tensors import new_tensor, read_tensor


def load_session(directory: str, num_threads: int | None = None) -> tuple["Session", bytes]:
    """Loads a SavedModel: variables restored, init op run with the assets' paths; also its MetaGraphDef, serialized.

    Args:
        directory: Folder with `saved_model.pb`.
        num_threads: As in `SavedModel`.
    """
    slow, quick = libraries()
    options, buffer, graph = quick.TF_NewSessionOptions(), quick.TF_NewBuffer(), quick.TF_NewGraph()
    tags = (ctypes.c_char_p * 1)(b"serve")
    try:
        if num_threads is not None:
            # One thread: -1 runs operations in the caller's thread, and 1 does not split an operation.
            outer = -1 if num_threads == 1 else num_threads
            config = ConfigProto(inter_op_parallelism_threads=outer, intra_op_parallelism_threads=num_threads)
            serialized = config.SerializeToString()
            with Status() as status:
                slow.TF_SetConfig(options, serialized, len(serialized), status)
        with Status() as status:
            path = os.fsencode(directory)
            handle = slow.TF_LoadSessionFromSavedModel(options, None, path, tags, 1, graph, buffer, status)
        return Session(handle, graph), ctypes.string_at(buffer.contents.data, buffer.contents.length)
    except SavedModelError:
        quick.TF_DeleteGraph(graph)
        raise
    finally:
        quick.TF_DeleteSessionOptions(options)
        quick.TF_DeleteBuffer(buffer)


Call: TypeAlias = tuple[Any, Any]
"""Arrays of `TF_Output`: the tensors that a call of the session feeds, and those that it fetches."""


class Session:
    """A `TF_Session` and its `TF_Graph`."""

    def __init__(self, handle: int, graph: int) -> None:
        self._slow, self._quick = libraries()
        self._handle, self._graph = handle, graph

    def call(self, inputs: Sequence[str], outputs: Sequence[str]) -> Call:
        """Prepares feeding some tensors of the graph and fetching others, each named `operation:index`."""
        fed, fetched = ((Output * len(names))(*map(self._output, names)) for names in (inputs, outputs))
        return fed, fetched

    def _output(self, name: str) -> Output:
        operation, _, index = name.partition(":")
        handle = self._quick.TF_GraphOperationByName(self._graph, operation.encode())
        if not handle or int(index or 0) >= self._quick.TF_OperationNumOutputs(handle):
            raise SavedModelError(f"The graph has no tensor {name!r}.", NOT_FOUND)
        return Output(handle, int(index or 0))

    def operation_type(self, name: str) -> str:
        """What kind of operation gives a tensor of the graph, `Placeholder` for instance."""
        kind: bytes = self._quick.TF_OperationOpType(self._output(name).operation)
        return kind.decode()

    def run(self, call: Call, feeds: Sequence[Array], seconds: float | None = None) -> list[Array]:
        """Feeds tensors and returns the fetched ones; TensorFlow checks the dtypes.

        Args:
            call: What `call` prepared.
            feeds: A tensor for each of its inputs.
            seconds: How long it may take. None: any time.
        """
        inputs, outputs = call
        values, results = (ctypes.c_void_p * len(inputs))(), (ctypes.c_void_p * len(outputs))()
        options = None if seconds is None else _run_options(seconds)
        try:
            for index, feed in enumerate(feeds):
                values[index] = new_tensor(feed)
            with Status() as status:
                fed, fetched = (inputs, values, len(inputs)), (outputs, results, len(outputs))
                self._slow.TF_SessionRun(self._handle, options, *fed, *fetched, None, 0, None, status)
            return [read_tensor(result) for result in results if result is not None]
        finally:
            for tensor in (*values, *results):
                if tensor is not None:
                    self._quick.TF_DeleteTensor(tensor)

    def close(self) -> None:
        """Releases session and graph. No call may be running."""
        with Status() as status:
            self._slow.TF_CloseSession(self._handle, status)
        with Status() as status:
            self._slow.TF_DeleteSession(self._handle, status)
        self._slow.TF_DeleteGraph(self._graph)  # For a large graph this takes long: other threads must run meanwhile.


def _run_options(seconds: float) -> Any:
    serialized = RunOptions(timeout_in_ms=max(1, int(1000 * seconds))).SerializeToString()
    data = ctypes.cast(ctypes.c_char_p(serialized), ctypes.c_void_p)  # which keeps the bytes
    return ctypes.byref(Buffer(data, len(serialized), None))
