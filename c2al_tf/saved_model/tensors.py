"""NumPy arrays to the C API's tensors and back, strings included."""

import ctypes
from collections import deque
from typing import Any

import numpy as np

from ..protocol.tensors import CODES, DTYPES
from ..types import Array
from .native import Deallocator, SavedModelError, libraries

_STRING = 7
_CELL, _INLINE = 24, 22
"""Bytes of a `TF_TString`, and of the longest string stored inline in it (ctstring_internal.h)."""
_SMALL = 2**14
_FEW = 16
"""Up to this number of strings, one call of TensorFlow for each is faster than NumPy."""


def new_tensor(array: Array) -> int:
    """Copies an array into a new `TF_Tensor`; `U`, `S` and object arrays become strings."""
    quick = libraries()[1]
    dims = (ctypes.c_int64 * array.ndim)(*array.shape)
    if array.dtype.kind in "OSUT":
        return _new_string_tensor([v.encode() if isinstance(v, str) else v for v in array.ravel().tolist()], dims)
    values = np.ascontiguousarray(array)
    tensor: int = quick.TF_AllocateTensor(CODES[array.dtype], dims, array.ndim, values.nbytes)
    # The address of an array costs more than a copy of few bytes.
    data = values.tobytes() if values.nbytes <= _SMALL else values.__array_interface__["data"][0]
    ctypes.memmove(quick.TF_TensorData(tensor), data, values.nbytes)
    return tensor


def _new_string_tensor(values: list[bytes], dims: Any) -> int:
    quick, size = libraries()[1], len(values) * _CELL
    cells = np.zeros((len(values), _CELL), np.uint8)
    address = cells.__array_interface__["data"][0]
    sizes = list(map(len, values))
    if len(values) > _FEW and max(sizes) <= _INLINE:
        # An inline string: its size times 4 in the first byte, then its bytes.
        cells[:, 0] = sizes
        cells[:, 0] <<= 2
        cells[:, 1 : 1 + _INLINE] = np.array(values, f"S{_INLINE}").view(np.uint8).reshape(-1, _INLINE)
    else:
        _call_each(map(quick.TF_StringCopy, range(address, address + size, _CELL), values, sizes))
    _lent[address] = cells
    tensor: int = quick.TF_NewTensor(_STRING, dims, len(dims), address, size, _take_back, None)
    return tensor


_lent: dict[int, Array] = {}
"""Cells of strings that TensorFlow uses, by address: it may keep them after the call that passed them."""
_call_each = deque[Any](maxlen=0).extend  # Consumes an iterator of calls without Python bytecode for each.


@Deallocator
def _take_back(address: int, size: int, _: None) -> None:
    cells = _lent.pop(address)
    if (cells[:, 0] & 3).any():  # The two low bits of an inline string are 0.
        _call_each(map(libraries()[1].TF_StringDealloc, range(address, address + size, _CELL)))


def read_tensor(tensor: int) -> Array:
    """Copies a `TF_Tensor` into an array; strings come as `bytes`."""
    quick = libraries()[1]
    shape = tuple(quick.TF_Dim(tensor, axis) for axis in range(quick.TF_NumDims(tensor)))
    code = quick.TF_TensorType(tensor)
    if code not in DTYPES:
        raise SavedModelError(f"An output has TensorFlow data type {code}, which NumPy lacks.")
    array = np.empty(shape, DTYPES[code])
    address = quick.TF_TensorData(tensor)
    if code == _STRING:
        cells = [address + index * _CELL for index in range(array.size)]
        array.reshape(-1)[:] = [
            ctypes.string_at(quick.TF_StringGetDataPointer(cell), quick.TF_StringGetSize(cell)) for cell in cells
        ]
    else:
        ctypes.memmove(array.__array_interface__["data"][0], address, array.nbytes)
    return array
