"""Files that hold a protobuf message as text, as tensorflow_model_server reads them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from c2al_tf.protocol import messages
from c2al_tf.storage import opened


@contextmanager
def parsed(path: Path, message: Any) -> Iterator[Any]:
    """The message, read from a file; what is raised for it meanwhile names the file.

    Raises:
        ValueError: If the file cannot be read or is no such text, with line and field, or its contents are refused.
    """
    try:
        yield text_format.Parse(opened(path).read_text(), message, descriptor_pool=messages.POOL)
    except (OSError, ValueError, text_format.ParseError) as error:
        raise ValueError(f"{path}: {error}") from error
