"""Serializes the outputs of a response, without protobuf for those whose form a response before it had."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..protocol.messages import PredictResponse
from ..protocol.tensors import fill_proto

_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
"""Dtypes whose values are serialized as they are in memory."""
_MAX_PREFIXES = 1000


class Encoder:
    """Serializes outputs, and remembers the bytes that precede the values of each form."""

    def __init__(self) -> None:
        self._prefixes: dict[tuple[str, np.dtype[Any], tuple[int, ...]], bytes] = {}

    def encode(self, name: str, array: NDArray[Any]) -> bytes:
        """A serialized PredictResponse of one output; numbers are in the field of their type, such as `float_val`."""
        key = (name, array.dtype, array.shape)
        prefix = self._prefixes.get(key)
        if prefix is not None:
            return prefix + array.tobytes()
        response = PredictResponse()
        fill_proto(response.outputs[name], array, as_fields=True)
        encoded: bytes = response.SerializeToString()
        values = array.tobytes()
        if array.dtype in _FLOATS and values and encoded.endswith(values):
            if len(self._prefixes) >= _MAX_PREFIXES:
                self._prefixes.clear()
            self._prefixes[key] = encoded[: -len(values)]
        return encoded
