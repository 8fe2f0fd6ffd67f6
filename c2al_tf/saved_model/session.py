"""A TensorFlow session over a SavedModel: `LoadSavedModel` and `Session::Run`, the path of tensorflow_model_server."""

import ctypes
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

from ..types import Array
from .native import NOT_FOUND, Output, SavedModelError, Status, libraries
from .signatures import session_config
from .tensors import RawTensor, new_tensor, read_tensor


def load_session(directory: str, tag: str, num_threads: int | None = None) -> tuple["Session", bytes]:
    """Loads a SavedModel: variables restored, init op run with the assets' paths; also its MetaGraphDef, serialized.

    Args:
        directory: Folder with `saved_model.pb`.
        tag: Tag of the meta graph.
        num_threads: Threads for one call of the session; 1: the caller's own. None: TensorFlow's pools.
    """
    slow, quick = libraries()
    options, buffer, graph = quick.TF_NewSessionOptions(), quick.TF_NewBuffer(), quick.TF_NewGraph()
    tags = (ctypes.c_char_p * 1)(tag.encode())
    try:
        if num_threads is not None:
            # One thread: -1 runs operations in the caller's thread, and 1 does not split an operation.
            config = session_config(-1 if num_threads == 1 else num_threads, num_threads)
            with Status() as status:
                slow.TF_SetConfig(options, config, len(config), status)
        with Status() as status:
            handle = slow.TF_LoadSessionFromSavedModel(
                options, None, os.fsencode(directory), tags, 1, graph, buffer, status
            )
        return Session(handle, graph), ctypes.string_at(buffer.contents.data, buffer.contents.length)
    except SavedModelError:
        quick.TF_DeleteGraph(graph)
        raise
    finally:
        quick.TF_DeleteSessionOptions(options)
        quick.TF_DeleteBuffer(buffer)


class Call(NamedTuple):
    """Arrays of `TF_Output`: the tensors that a call of the session feeds, and those that it fetches."""

    inputs: Any
    outputs: Any


class Session:
    """A `TF_Session` and its `TF_Graph`."""

    def __init__(self, handle: int, graph: int) -> None:
        self._slow, self._quick = libraries()
        self._handle, self._graph = handle, graph

    def call(self, inputs: Sequence[str], outputs: Sequence[str]) -> "Call":
        """Prepares feeding some tensors of the graph and fetching others, each named `operation:index`."""
        return Call(*((Output * len(names))(*map(self._output, names)) for names in (inputs, outputs)))

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

    def run(self, call: "Call", feeds: Sequence[Array | RawTensor]) -> list[Array]:
        """Feeds tensors and returns the fetched ones; TensorFlow checks the dtypes."""
        inputs, outputs = call
        values, results = (ctypes.c_void_p * len(inputs))(), (ctypes.c_void_p * len(outputs))()
        try:
            for index, feed in enumerate(feeds):
                values[index] = new_tensor(feed)
            with Status() as status:
                fed, fetched = (inputs, values, len(inputs)), (outputs, results, len(outputs))
                self._slow.TF_SessionRun(self._handle, None, *fed, *fetched, None, 0, None, status)
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
