"""The C API inside the tensorflow wheel, through ctypes: the library, its prototypes, its errors."""

import ctypes
import functools
import importlib.util
from pathlib import Path
from typing import Any

INVALID_ARGUMENT, NOT_FOUND, FAILED_PRECONDITION = 3, 5, 9  # of `TF_Status`, and the same in gRPC


class SavedModelError(ValueError):
    """An error of TensorFlow, or of a check before the call; `code` is the canonical status code (gRPC's numbers)."""

    def __init__(self, message: str, code: int = INVALID_ARGUMENT) -> None:
        super().__init__(message)
        self.code = code


class Output(ctypes.Structure):
    """`TF_Output`: one end of an edge in the graph."""

    _fields_ = (("operation", ctypes.c_void_p), ("index", ctypes.c_int))


class Buffer(ctypes.Structure):
    """`TF_Buffer`: bytes that TensorFlow owns."""

    _fields_ = (("data", ctypes.c_void_p), ("length", ctypes.c_size_t), ("deallocator", ctypes.c_void_p))


_void, _int, _size, _text = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t, ctypes.c_char_p
Deallocator = ctypes.CFUNCTYPE(None, _void, _size, _void)
_PROTOTYPES: dict[str, tuple[Any, list[Any]]] = {
    "TF_AllocateTensor": (_void, [_int, _void, _int, _size]),
    "TF_CloseSession": (None, [_void, _void]),
    "TF_DeleteBuffer": (None, [_void]),
    "TF_DeleteGraph": (None, [_void]),
    "TF_DeleteSession": (None, [_void, _void]),
    "TF_DeleteSessionOptions": (None, [_void]),
    "TF_DeleteStatus": (None, [_void]),
    "TF_DeleteTensor": (None, [_void]),
    "TF_Dim": (ctypes.c_int64, [_void, _int]),
    "TF_GetCode": (_int, [_void]),
    "TF_GraphOperationByName": (_void, [_void, _text]),
    "TF_LoadSessionFromSavedModel": (_void, [_void, _void, _text, _void, _int, _void, _void, _void]),
    "TF_Message": (_text, [_void]),
    "TF_NewBuffer": (ctypes.POINTER(Buffer), []),
    "TF_NewGraph": (_void, []),
    "TF_NewSessionOptions": (_void, []),
    "TF_NewStatus": (_void, []),
    "TF_NewTensor": (_void, [_int, _void, _int, _void, _size, Deallocator, _void]),
    "TF_NumDims": (_int, [_void]),
    "TF_OperationNumOutputs": (_int, [_void]),
    "TF_OperationOpType": (_text, [_void]),
    "TF_SessionRun": (None, [_void, _void, _void, _void, _int, _void, _void, _int, _void, _int, _void, _void]),
    "TF_SetConfig": (None, [_void, _text, _size, _void]),
    "TF_StringCopy": (None, [_void, _text, _size]),
    "TF_StringDealloc": (None, [_void]),
    "TF_StringGetDataPointer": (_void, [_void]),
    "TF_StringGetSize": (_size, [_void]),
    "TF_TensorData": (_void, [_void]),
    "TF_TensorType": (_int, [_void]),
    # tensorflow::DisableXlaCompilation() and two related functions, declared in compiler/jit/flags.h
    "_ZN10tensorflow21DisableXlaCompilationEv": (None, []),
    "_ZN10tensorflow20EnableXlaCompilationEv": (None, []),
    "_ZN10tensorflow20FailOnXlaCompilationEv": (ctypes.c_bool, []),
}


@functools.cache
def libraries() -> tuple[ctypes.CDLL, ctypes.PyDLL]:
    """The library, loaded twice: calls through the first release the GIL; the second keeps it, which is cheaper."""
    spec = importlib.util.find_spec("tensorflow")
    folders = spec.submodule_search_locations if spec is not None else None
    paths = [path for folder in folders or () for path in Path(folder).glob("libtensorflow_cc.*")]
    if not paths:
        raise ImportError(
            "`c2al_tf.saved_model` needs the libtensorflow_cc library of the `tensorflow` package "
            f"(2.20 or later, Linux or macOS). Received: tensorflow in {list(folders or ())}"
        )
    loaded = ctypes.CDLL(str(paths[0])), ctypes.PyDLL(str(paths[0]))
    for library in loaded:
        for name, (result, arguments) in _PROTOTYPES.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    return loaded


def set_xla(enabled: bool) -> bool:
    """Allows or forbids XLA compilation in this process; returns the previous setting."""
    _, quick = libraries()
    before = not quick._ZN10tensorflow20FailOnXlaCompilationEv()
    if enabled:
        quick._ZN10tensorflow20EnableXlaCompilationEv()
    else:
        quick._ZN10tensorflow21DisableXlaCompilationEv()
    return before


class Status:
    """A `TF_Status` for one call: raises TensorFlow's error on exit."""

    def __enter__(self) -> int:
        self._quick = libraries()[1]
        self._handle: int = self._quick.TF_NewStatus()
        return self._handle

    def __exit__(self, kind: object, value: object, traceback: object) -> None:
        code = self._quick.TF_GetCode(self._handle)
        message = self._quick.TF_Message(self._handle)
        self._quick.TF_DeleteStatus(self._handle)
        if code and value is None:
            raise SavedModelError(message.decode(errors="replace"), code)
