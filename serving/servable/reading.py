"""Reads PredictRequests, within the memory that a request may take.

Most requests differ from an earlier one in their numbers alone: those are compared with it, and not parsed.
"""

import functools
import itertools
import struct
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from c2al_tf.protocol.messages import TensorShapeProto, WirePredictRequest
from c2al_tf.protocol.tensors import MAX_UNSENT, STRING, num_unsent, read_shape, read_tensor

from ..protocol.errors import RequestError
from ..protocol.memory import check_memory, read_field

MAX_UNSENT_ROWS = 1024
"""Rows beyond those that are sent: a model takes up to 64 KB for each."""
_MAX_SHAPE = 4096
"""Bytes of a shape: more than 64 sizes take."""
_MAX_SIZES, _MAX_OF_SIZE, _MAX_CONSTANT = 256, 8, 2**14
"""Sizes of requests that are remembered, requests of one size, and their bytes beside the numbers."""
_INPUTS = 2
"""The field of a request's inputs."""
_VALUES = {4: None, 5: np.dtype(np.float32), 6: np.dtype(np.float64)}
"""Fields of a tensor whose values are sent as they are in memory, and the dtype that they are for; None: any."""

Arrays = dict[str, NDArray[Any]]


class _Place(NamedTuple):
    """Where the numbers of an input are in a request."""

    start: int
    stop: int
    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


class _Template(NamedTuple):
    """A request that was read: where its numbers are, and the bytes between them."""

    request: Any
    places: list[_Place]
    form: struct.Struct
    constant: tuple[Any, ...]


class Reader:
    """Reads requests, and remembers those that it has seen: as many as differ in more than their numbers."""

    def __init__(self) -> None:
        self._templates: dict[int, list[_Template]] = {}

    def read(self, data: bytes) -> tuple[Any, Arrays]:
        """The request, whose inputs may be those of another, and its own inputs.

        Raises:
            DecodeError: If it is no PredictRequest.
            RequestError: If it takes too much memory, or an input is not valid; the message names it.
        """
        for request, places, form, constant in self._templates.get(len(data), ()):
            if form.unpack(data) == constant:
                inputs = {}
                for start, _, name, dtype, shape in places:
                    inputs[name] = np.ndarray(shape, dtype, data, start)
                return request, inputs
        check_memory(WirePredictRequest, data)
        request = WirePredictRequest.FromString(data)
        inputs = read_inputs(request.inputs)
        self._remember(data, request, inputs)
        return request, inputs

    def _remember(self, data: bytes, request: Any, inputs: Arrays) -> None:
        try:
            places = _find(data, inputs)
        except (DecodeError, UnicodeDecodeError):  # fields of another kind than theirs, which protobuf passes over
            return
        ends = [0, *itertools.chain.from_iterable(place[:2] for place in places), len(data)]
        sizes = [stop - start for start, stop in itertools.pairwise(ends)]  # of constants and numbers in turn
        if len(places) < len(inputs) or sum(sizes[::2]) > _MAX_CONSTANT:
            return
        form = struct.Struct("".join(f"{size}{kind}" for size, kind in zip(sizes, itertools.cycle("sx"), strict=False)))
        for name in inputs:
            del request.inputs[name]  # who asks has its own
        if len(self._templates) >= _MAX_SIZES:
            self._templates.clear()
        of_size = self._templates.setdefault(len(data), [])
        del of_size[: 1 - _MAX_OF_SIZE]
        of_size.append(_Template(request, places, form, form.unpack(data)))


def _find(data: bytes, inputs: Arrays) -> list[_Place]:
    """Where the numbers of inputs are, in order; none if one is sent twice, or not in the plainest form."""
    place, left, found = 0, dict(inputs), list[_Place]()
    while place < len(data):
        number, _, start, place = read_field(data, place, len(data))
        if number != _INPUTS:
            continue
        entry = list(_fields(data, start, place))
        if [field[0] for field in entry] != [1, 2]:
            return []
        name = data[slice(*entry[0][2:])].decode()
        array = left.pop(name, None)
        tensor = sorted(_fields(data, *entry[1][2:]))
        if array is None or [field[0] for field in tensor[:-1]] != [1, 2]:
            return []  # it is sent twice, or in parts
        number, kind, start, stop = tensor[-1]
        is_plain = number in _VALUES and kind == 2 and 0 < stop - start == array.nbytes
        if not is_plain or array.dtype == STRING or _VALUES[number] not in (None, array.dtype):
            return []
        found.append(_Place(start, stop, name, array.dtype, array.shape))
    return found


def _fields(data: bytes, place: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    while place < end:
        field = read_field(data, place, end)
        yield field
        place = field[3]


def read_inputs(inputs: Mapping[str, Any]) -> Arrays:
    """The arrays of an input map whose tensors have their shape as bytes (`messages.WirePredictRequest`).

    Raises:
        RequestError: If a tensor's values do not fit its dtype and shape, or stand for too many that are not sent; the
            message names the input.
    """
    arrays, unsent, sent_rows = {}, 0, 0
    for name, proto in inputs.items():
        try:
            array = read_tensor(proto, _shape(proto.tensor_shape))
        except (DecodeError, ValueError) as error:
            raise RequestError(f"tensor parsing error: {name}: {error}") from error
        arrays[name] = array
        if missing := num_unsent(proto, array):
            last = array.flat[-1]
            unsent += missing * (1 + len(last) // 128 if isinstance(last, bytes) else 1)
        elif array.ndim:
            sent_rows = max(sent_rows, len(array))
    rows = max((len(array) for array in arrays.values() if array.ndim), default=0)
    if unsent > MAX_UNSENT or (rows > sent_rows and rows > MAX_UNSENT_ROWS):
        raise RequestError(
            f"Values that are not sent may be {MAX_UNSENT} in all, and rows of which none is sent {MAX_UNSENT_ROWS}. "
            f"Received: {unsent} values, {rows} rows, of which {sent_rows} are sent"
        )
    return arrays


@functools.lru_cache(1024)
def _shape(data: bytes) -> list[int]:
    if len(data) > _MAX_SHAPE:
        raise ValueError(f"a tensor's shape may take {_MAX_SHAPE} bytes. Received: {len(data)}")
    return read_shape(TensorShapeProto.FromString(data))
