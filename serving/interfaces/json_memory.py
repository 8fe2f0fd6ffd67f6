"""What the JSON of a request takes in memory, bounded by its bytes before it is parsed."""

import re
import reprlib
from typing import Any

from ..protocol.memory import MAX_MEMORY, too_large

_MEMO = 40
"""Bytes for a key in the table that lets equal keys share a string, until all is parsed."""
_COSTS = {b"[": 104, b"{": 264, b",": 44, b":": 56 + _MEMO, b'"': 28}
"""Bytes for a list; an object; an entry of either with its number; a key's places in tables; half a string."""
_WIDE = re.compile(rb"[\xf0-\xff]")


class Room:
    """The memory that is left to a request while its JSON becomes tensors or examples.

    Args:
        left: Bytes.
    """

    def __init__(self, left: int) -> None:
        self.left = left

    def take(self, need: int, what: str) -> None:
        """Raises RequestError if there are not so many bytes left for `what`."""
        self.left -= need
        if self.left < 0:
            raise too_large(what, MAX_MEMORY - self.left)


def room_beside(body: bytes) -> Room:
    """The memory that a request may still take once its body is parsed.

    Every list, object, number and string needs one of a few characters in the body, so counting these bounds what they
    take. Those inside of strings are counted, too.

    Raises:
        RequestError: If it would take too much memory.
    """
    size = len(body)
    # Python's strings are as wide as their widest character: 1, 2 or 4 bytes for each.
    width = 1 if body.isascii() else 4 if _WIDE.search(body) else 2
    in_strings = max(width, 4 if b"\\ud" in body or b"\\uD" in body else 2 if b"\\u" in body else 1)
    need = size * (width + in_strings) + sum(body.count(mark) * cost for mark, cost in _COSTS.items())
    room = Room(MAX_MEMORY)
    room.take(need, f"A body of {size} bytes")
    room.left += size * width + body.count(b":") * _MEMO  # what is freed once all is parsed
    return room


MAX_SHOWN = 200
"""Characters of a value in messages."""

_brief = reprlib.Repr()
_brief.maxstring = _brief.maxother = _brief.maxlong = MAX_SHOWN


def shown(value: Any) -> str:
    """A JSON value as it stands in messages: the beginning of a long one."""
    return _brief.repr(value)
