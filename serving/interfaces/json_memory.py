"""What the JSON of a request takes in memory, bounded by its bytes before it is parsed."""

import re
import reprlib
from collections.abc import Mapping
from typing import Any

from ..protocol.memory import MAX_MEMORY, too_large

# Bytes for a list; an object; an entry of either with its number; a key's places in tables; half a string.
_PARSED = {b"[": 104, b"{": 264, b",": 44, b":": 96, b'"': 28}
# What comes after parsing, for a mark and, as b"", for a byte. 40 of a key's bytes are freed by then.
ARRAYS = {b"": 2, b"[": 40, b"{": 40, b",": 40, b":": 8 - 40, b'"': 52, b'":': -104}
"""Lists, arrays and copies for TensorFlow: 40 for a number, 176 and two copies for a string unless it is a key."""
EXAMPLES = {b"": 4, b"{": 40, b",": 8, b":": 48 - 40, b"-": 32}
"""Four copies of a serialized example, in which a negative number has 10 bytes."""


def check_body(body: bytes, later: Mapping[bytes, int], room: int = MAX_MEMORY) -> None:
    """Checks that a body takes no more memory than `room` until it is parsed and has become `ARRAYS` or `EXAMPLES`.

    Every list, object, number and string needs one of a few marks in the body, so counting these bounds what they
    take. Those inside of strings are counted, too.

    Raises:
        RequestError: If it takes more.
    """
    size = len(body)
    # Python's strings are as wide as their widest character: 1, 2 or 4 bytes for each.
    width = 1 if body.isascii() else 4 if re.search(rb"[\xf0-\xff]", body) else 2
    in_strings = max(width, 4 if b"\\ud" in body or b"\\uD" in body else 2 if b"\\u" in body else 1)
    parsed, more = (sum(body.count(mark) * cost for mark, cost in costs.items()) for costs in (_PARSED, later))
    need = size * in_strings + parsed + max(size * width, more)
    if need > room:
        raise too_large(f"A body of {size} bytes", MAX_MEMORY - room + need)


MAX_SHOWN = 200  # characters of a value in messages
_brief = reprlib.Repr()
_brief.maxstring = _brief.maxother = _brief.maxlong = MAX_SHOWN


def shown(value: Any) -> str:
    """A JSON value as it stands in messages: the beginning of a long one."""
    return "null" if value is None else _brief.repr(value)
