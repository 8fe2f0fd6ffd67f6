"""Files that hold a protobuf message as text, as tensorflow_model_server reads them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from google.protobuf import text_format

from c2al_tf.protocol import messages

T = TypeVar("T")


def read_text(path: Path, message: Any, make: Callable[[Any], T]) -> T:
    """Reads a file into an empty message, and returns what `make` makes of it.

    Raises:
        ValueError: If the file cannot be read or is no such text, or `make` refuses it; the message names the file, and
            the line and field.
    """
    try:
        return make(text_format.Parse(path.read_text(), message, descriptor_pool=messages.POOL))
    except (OSError, ValueError, text_format.ParseError) as error:
        raise ValueError(f"{path}: {error}") from error
