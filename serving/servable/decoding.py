"""Decodes the inputs of a request, without parsing those whose form a request before it had.

In a serialized PredictRequest a tensor's numbers, or its only string, follow its name, dtype, shape and their length. A
tensor of known length that begins with known bytes needs no parsing: a request of 39 columns takes 15 microseconds
instead of 130.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from ..protocol.errors import INTERNAL, RequestError
from ..protocol.messages import NamedTensor, TensorProto
from ..protocol.tensors import STRING, Content, array_dtype, encode_strings, read_proto, to_array

_MAX_REPEATED = 2**23
_MAX_FORMS = 10_000
_MAX_PREFIX = 256
"""Bounds on the memory that a small request can allocate, and on the forms that are remembered."""


@dataclass(frozen=True, eq=False)
class Form:
    """A tensor without its values. Compared by identity: a decoder returns the same object for most equal forms."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Inputs:
    """Tensors before they are arrays: the form and the content of each."""

    forms: tuple[Form, ...]
    contents: list[Content]

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Inputs from arrays by name, of numbers, booleans, or objects that are `str` or `bytes`."""
        contents: list[Content] = [
            encode_strings(array).ravel().tolist()
            if array_dtype(array) == STRING
            else array.astype(array_dtype(array), copy=False).tobytes()
            for array in arrays.values()
        ]
        return cls(tuple(Form(name, array_dtype(array), array.shape) for name, array in arrays.items()), contents)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Arrays by name; the last of two tensors with one name, as in any protobuf map."""
        pairs = zip(self.forms, self.contents, strict=True)
        return {form.name: to_array(form.dtype, form.shape, content) for form, content in pairs}


_AS_IN_MEMORY = ("tensor_content", "float_val", "double_val", "string_val")
"""Fields whose values are serialized as they are in memory; strings, if there is one."""


class Decoder:
    """Reads the inputs of requests, and remembers the forms that it has seen."""

    def __init__(self) -> None:
        self._by_prefix: dict[bytes, tuple[Form, int]] = {}
        self._sizes: dict[int, tuple[int, ...]] = {}

    def decode(self, entries: Sequence[bytes]) -> Inputs:
        """Reads serialized entries of a map from names to tensors.

        Raises:
            RequestError: If an entry is not valid, or its values do not fit its dtype and shape; the message names the
                input.
        """
        forms: list[Form] = []
        contents: list[Content] = []
        content: Content
        room = _MAX_REPEATED
        by_prefix, sizes = self._by_prefix, self._sizes
        for entry in entries:
            for size in sizes.get(len(entry), ()):
                known = by_prefix.get(entry[:-size])
                if known is not None and known[1] == size:
                    form, content = known[0], entry[-size:]
                    if form.dtype == STRING:
                        content = [content]
                    break
            else:
                form, content = self._parse(entry)
                room -= max(0, (sum(map(len, content)) if isinstance(content, list) else len(content)) - len(entry))
                if room < 0:
                    raise RequestError(f"The values that are not sent may take {_MAX_REPEATED} bytes in all at most.")
            forms.append(form)
            contents.append(content)
        return Inputs(tuple(forms), contents)

    def _parse(self, entry: bytes) -> tuple[Form, Content]:
        try:
            named = NamedTensor.FromString(entry)
        except DecodeError as error:
            raise RequestError(f"The request cannot be parsed: {error}", INTERNAL) from error
        try:
            dtype, shape, content = read_proto(named.value)
        except ValueError as error:
            raise RequestError(f"Input {named.key!r}: {error}") from error
        form = Form(named.key, dtype, shape)
        if isinstance(content, bytes):
            self._remember(entry, named, form, content)
        elif len(content) == 1:
            self._remember(entry, named, form, content[0])
        return form, content

    def _remember(self, entry: bytes, named: Any, form: Form, content: bytes) -> None:
        prefix = entry[: len(entry) - len(content)]
        fields = [field for field in _AS_IN_MEMORY if getattr(named.value, field)]
        if len(fields) != 1 or not content or len(prefix) > _MAX_PREFIX or not entry.endswith(content):
            return
        values = getattr(named.value, fields[0])
        if fields[0] in ("float_val", "double_val") and len(values) * form.dtype.itemsize != len(content):
            return  # the last value is repeated for those that are not sent
        # Only if nothing but the content follows the prefix.
        tensor = named.value
        parts = {name: getattr(tensor, name) for name in ("dtype", "tensor_shape", *fields)}
        if NamedTensor(key=named.key, value=TensorProto(**parts)).SerializeToString() != entry:
            return
        if len(self._by_prefix) >= _MAX_FORMS:
            self._by_prefix.clear()
            self._sizes.clear()
        self._by_prefix[prefix] = form, len(content)
        known = self._sizes.get(len(entry), ())
        if len(content) not in known:
            self._sizes[len(entry)] = (*known, len(content))
