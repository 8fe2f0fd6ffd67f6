"""How requests are merged, and the real server's file that says so."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from ..protocol import messages


@dataclass(frozen=True)
class BatchingParameters:
    """How requests are merged; the names are those of tensorflow_model_server's `BatchingParameters`.

    Args:
        max_batch_size: Rows that are merged at most. A request of as many or more is answered by itself.
        batch_timeout_micros: Microseconds that a request waits for others. 0: none; what has come meanwhile is merged.
        max_enqueued_batches: Batches of the largest size that may wait; beyond them requests are refused (UNAVAILABLE).
        num_batch_threads: Batches that are answered at a time.
        allowed_batch_sizes: Sizes that batches are filled up to, with repetitions of their last row. Empty: any size.
    """

    max_batch_size: int = 1000
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    num_batch_threads: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    allowed_batch_sizes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("max_batch_size", "max_enqueued_batches", "num_batch_threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1. Received: {name}={getattr(self, name)}")
        if self.batch_timeout_micros < 0:
            raise ValueError(
                f"`batch_timeout_micros` must be at least 0. Received: batch_timeout_micros={self.batch_timeout_micros}"
            )
        sizes = self.allowed_batch_sizes
        if sizes and (list(sizes) != sorted(set(sizes)) or sizes[-1] != self.max_batch_size):
            raise ValueError(
                "`allowed_batch_sizes` must increase, and end in `max_batch_size`. "
                f"Received: {list(sizes)}, max_batch_size={self.max_batch_size}"
            )


_WRAPPED = ("max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads")


def read_batching_parameters(path: Path) -> BatchingParameters:
    """Reads a file of tensorflow_model_server's `--batching_parameters_file`: `max_batch_size { value: 128 }`, ...

    Where it has large batches split, `max_execution_batch_size` is the size of a batch. No input is padded, whatever
    `pad_variable_length_inputs` says: requests are merged where their inputs have one shape.

    Raises:
        ValueError: If it is none; the message names file, line and field.
    """
    try:
        read = text_format.Parse(path.read_text(), messages.BatchingParameters(), descriptor_pool=messages.POOL)
        given: dict[str, Any] = {
            field.name: getattr(read, field.name).value for field, _ in read.ListFields() if field.name in _WRAPPED
        }
        if read.enable_large_batch_splitting.value and read.HasField("max_execution_batch_size"):
            given["max_batch_size"] = read.max_execution_batch_size.value
        return BatchingParameters(**given, allowed_batch_sizes=tuple(read.allowed_batch_sizes))
    except (OSError, UnicodeDecodeError, ValueError, text_format.ParseError) as error:
        raise ValueError(f"{path}: {error}") from error
