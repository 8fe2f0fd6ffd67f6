"""A large PredictRequest read in place: protobuf would hold a second copy of its inputs until it is answered."""

from collections.abc import Iterator
from typing import Any

from .errors import RequestError
from .memory import MAX_MEMORY, parsed_bytes, read_field
from .messages import PredictEnvelope

_LARGE = 2**19
_MAX_FIELDS = 2**16
_INPUTS, _BYTES = 2, 2
"""The field of the inputs, and its wire type."""


def read_envelope(data: bytes) -> tuple[Any, int]:
    """A PredictRequest as a PredictEnvelope, or as an object with the same fields if it is large.

    Returns:
        The envelope, and the bytes that the request may cost beyond two more copies of its inputs.

    Raises:
        DecodeError: If it is no such message.
        RequestError: If it takes too much memory.
    """
    if len(data) < _LARGE:
        return PredictEnvelope.FromString(data), MAX_MEMORY - 3 * len(data)
    return _LargeEnvelope(data), MAX_MEMORY - 2 * len(data)


class _LargeEnvelope:
    """The fields of a PredictEnvelope; its inputs are sliced from the request's bytes as they are iterated."""

    def __init__(self, data: bytes) -> None:
        places: list[tuple[int, int]] = []
        others: list[bytes] = []
        place = 0
        while place < len(data):
            first = place
            number, kind, start, place = read_field(data, place, len(data))
            if len(places) + len(others) == _MAX_FIELDS:
                raise RequestError(f"A request may have {_MAX_FIELDS} inputs and names. Received: more")
            if number == _INPUTS and kind == _BYTES:
                places.append((start, place))
            else:
                others.append(data[first:place])
        rest = b"".join(others)
        parsed_bytes(PredictEnvelope, rest, "What precedes or follows the inputs", MAX_MEMORY - 2 * len(data))
        envelope = PredictEnvelope.FromString(rest)
        self.inputs = _Entries(data, places)
        self.model_spec, self.output_filter, self.HasField = (
            envelope.model_spec,
            envelope.output_filter,
            envelope.HasField,
        )


class _Entries:
    """Parts of some bytes, each copied when it is reached."""

    def __init__(self, data: bytes, places: list[tuple[int, int]]) -> None:
        self._data, self._places = data, places

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[bytes]:
        return (self._data[start:stop] for start, stop in self._places)
