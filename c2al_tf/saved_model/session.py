"""A TensorFlow session over a SavedModel: `LoadSavedModel` and `Session::Run`, the path of tensorflow_model_server."""

import ctypes
import os
from collections.abc import Sequence

from ..types import Array
from .native import NOT_FOUND, Output, SavedModelError, Status, libraries
from .tensors import new_tensor, read_tensor


def load_session(directory: str, tag: str) -> tuple["Session", bytes]:
    """Loads a SavedModel: variables restored, init op run with the assets' paths; also its MetaGraphDef, serialized.

    Args:
        directory: Folder with `saved_model.pb`.
        tag: Tag of the meta graph.
    """
    slow, quick = libraries()
    options, buffer, graph = quick.TF_NewSessionOptions(), quick.TF_NewBuffer(), quick.TF_NewGraph()
    tags = (ctypes.c_char_p * 1)(tag.encode())
    try:
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


class Session:
    """A `TF_Session` and its `TF_Graph`."""

    def __init__(self, handle: int, graph: int) -> None:
        self._slow, self._quick = libraries()
        self._handle, self._graph = handle, graph

    def output(self, name: str) -> Output:
        """The tensor `operation:index` of the graph."""
        operation, _, index = name.partition(":")
        handle = self._quick.TF_GraphOperationByName(self._graph, operation.encode())
        if not handle or int(index or 0) >= self._quick.TF_OperationNumOutputs(handle):
            raise SavedModelError(f"The graph has no tensor {name!r}.", NOT_FOUND)
        return Output(handle, int(index or 0))

    def run(self, feeds: Sequence[tuple[Output, Array]], fetches: Sequence[Output]) -> list[Array]:
        """Feeds arrays, whose dtypes TensorFlow checks, and returns the fetched ones."""
        inputs = (Output * len(feeds))(*(output for output, _ in feeds))
        values = (ctypes.c_void_p * len(feeds))()
        outputs = (Output * len(fetches))(*fetches)
        results = (ctypes.c_void_p * len(fetches))()
        try:
            for index, (_, array) in enumerate(feeds):
                values[index] = new_tensor(array)
            with Status() as status:
                fed, fetched = (inputs, values, len(feeds)), (outputs, results, len(fetches))
                self._slow.TF_SessionRun(self._handle, None, *fed, *fetched, None, 0, None, status)
            return [read_tensor(result) for result in results if result is not None]
        finally:
            for tensor in (*values, *results):
                if tensor is not None:
                    self._quick.TF_DeleteTensor(tensor)

    def close(self) -> None:
        """Releases session and graph; nothing may be running."""
        with Status() as status:
            self._slow.TF_CloseSession(self._handle, status)
        with Status() as status:
            self._slow.TF_DeleteSession(self._handle, status)
        self._quick.TF_DeleteGraph(self._graph)
