"""How requests are merged, and the real server's file that says so."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from c2al_tf.protocol import messages

from .text import parsed


@dataclass(frozen=True)
class BatchingParameters:
    """How requests are merged; the names are those of tensorflow_model_server's `BatchingParameters`.

    Args:
        max_batch_size: Rows that a request may have, and that are merged at most.
        batch_timeout_micros: Microseconds that a request waits for others. 0: none; what has come meanwhile is merged.
        max_enqueued_batches: Batches of the largest size that may wait; beyond them requests are refused (UNAVAILABLE).
        num_batch_threads: Batches that are answered at a time.
        allowed_batch_sizes: Sizes that batches are filled up to. Empty: any size.
        pad_variable_length_inputs: Whether rows of several lengths are padded, each with its first value; else they
            fail their batch.
        max_execution_batch_size: Rows of a batch, into which larger requests are split. None: `max_batch_size`.
    """

    max_batch_size: int = 1000
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    num_batch_threads: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False
    max_execution_batch_size: int | None = None

    def __post_init__(self) -> None:
        for name in ("max_batch_size", "max_enqueued_batches", "num_batch_threads", "max_execution_batch_size"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"`{name}` must be at least 1. Received: {name}={value}")
        sizes, largest, timeout = self.allowed_batch_sizes, self.max_batch_size, self.batch_timeout_micros
        if timeout < 0:
            raise ValueError(f"`batch_timeout_micros` must be at least 0. Received: batch_timeout_micros={timeout}")
        if (self.max_execution_batch_size or 0) > largest:
            rule = "`max_execution_batch_size` may be at most `max_batch_size`"
            raise ValueError(f"{rule}. Received: {self.max_execution_batch_size}, max_batch_size={largest}")
        if sizes and (list(sizes) != sorted(set(sizes)) or sizes[-1] != largest):
            rule = "`allowed_batch_sizes` must increase, and end in `max_batch_size`"
            raise ValueError(f"{rule}. Received: {list(sizes)}, max_batch_size={largest}")


def read_batching_parameters(path: Path) -> BatchingParameters:
    """Reads a file of tensorflow_model_server's `--batching_parameters_file`: `max_batch_size { value: 128 }`, ...

    `thread_pool_name` names a pool in the real server's metrics, and changes nothing here.

    Raises:
        ValueError: If it is none; the message names file, line and field.
    """
    with parsed(path, messages.BatchingParameters()) as read:
        given = {field.name: getattr(value, "value", value) for field, value in read.ListFields()}
        given.pop("thread_pool_name", None)
        if not given.pop("enable_large_batch_splitting", False):
            given.pop("max_execution_batch_size", None)
        return BatchingParameters(**given | {"allowed_batch_sizes": tuple(read.allowed_batch_sizes)})
