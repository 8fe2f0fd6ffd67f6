"""Describes the machine and measures its bounds: arithmetic peak, bandwidths; reads the memory of processes."""

import functools
import importlib.metadata
import itertools
import os
import platform
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

LIBRARIES = ("numpy", "tensorflow", "keras", "keras-rs", "tf_keras", "tensorflow-recommenders", "pyarrow")


def describe_machine() -> dict[str, Any]:
    """Processor, cores, memory, system and versions of libraries."""
    processor = _field("/proc/cpuinfo", "model name") or platform.processor() or platform.machine()
    return {
        "processor": processor,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(memory_bytes("MemTotal") / 1e9, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in LIBRARIES},
    }


def memory_bytes(kind: str = "MemAvailable") -> int:
    """Memory of the machine by a name of /proc/meminfo."""
    return 1024 * int(_field("/proc/meminfo", kind).split()[0])


def process_mb(kind: str, process: int | str = "self") -> float:
    """Resident memory of a process in MB: `VmRSS` now, `VmHWM` at its peak; 0 if it has ended.

    The peak of `getrusage` begins with that of the process that started this one.
    """
    return int((_field(f"/proc/{process}/status", kind) or "0").split()[0]) * 1024 / 1e6


def matmul_peak(sizes: tuple[int, ...] = (1024, 2048), repeats: int = 10) -> float:
    """Float32 FLOP per second of the fastest square matrix product, with XLA or without: the arithmetic peak."""
    import tensorflow as tf

    peak = 0.0
    for size in sizes:
        a, b = tf.random.normal((size, size)), tf.random.normal((size, size))
        for jit_compile in (False, True):
            product = tf.function(tf.linalg.matmul, jit_compile=jit_compile)
            peak = max(peak, 2 * size**3 / _fastest(functools.partial(product, a, b), repeats))
    return peak


def copy_bandwidth(num_bytes: int = 2**29, repeats: int = 5) -> float:
    """Bytes read and written per second by repeated copies of an array, on one core or on all: the faster counts.

    Arrays that fit into a cache are copied there.
    """
    source, target = np.ones(num_bytes // 8), np.zeros(num_bytes // 8)
    cores, times = len(os.sched_getaffinity(0)), max(1, 2**27 // num_bytes)

    def copy(target: Any, source: Any) -> None:
        for _ in range(times):
            np.copyto(target, source)

    def seconds(parts: int) -> float:
        pieces = [np.array_split(array, parts) for array in (target, source)]
        return _fastest(lambda: list(pool.map(copy, *pieces)), repeats)

    with ThreadPoolExecutor(cores) as pool:
        return 2 * num_bytes * times / min(seconds(1), seconds(cores))


def row_bandwidth(num_rows: int, dim: int, count: int, repeats: int = 10) -> tuple[float, float]:
    """Bytes of rows gathered, and scattered, per second at random places of a float32 table (num_rows, dim).

    TensorFlow and NumPy are both measured and the faster counts. Every repeat takes other rows, so that a cache holds
    them only if it holds the table.

    Args:
        num_rows: Rows of the table.
        dim: Floats of a row.
        count: Rows gathered or scattered at a time, drawn uniformly.
        repeats: Measurements, of which the fastest counts.
    """
    import tensorflow as tf

    rng = np.random.default_rng(0)
    draws = [rng.integers(0, num_rows, count, dtype=np.int32) for _ in range(repeats)]
    tensors = [tf.constant(draw) for draw in draws]
    table, rows = np.ones((num_rows, dim), np.float32), np.ones((count, dim), np.float32)
    turn = itertools.cycle(range(repeats))
    gather = _fastest(lambda: table.take(draws[next(turn)], axis=0, out=rows, mode="clip"), repeats)
    scatter = _fastest(lambda: table.__setitem__(draws[next(turn)], rows), repeats)
    variable, values = tf.Variable(table), tf.constant(rows)
    gather = min(gather, _fastest(lambda: tf.gather(variable, tensors[next(turn)]), repeats))
    scatter = min(
        scatter,
        _fastest(lambda: variable.scatter_update(tf.IndexedSlices(values, tensors[next(turn)])), repeats),
    )
    moved = 4 * count * dim
    return moved / gather, moved / scatter


def _fastest(call: Callable[[], Any], repeats: int) -> float:
    """Seconds of the fastest call, after one that is not counted."""
    call()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def _field(path: str, name: str) -> str:
    """The value of the first line `name: value` of a file of /proc, empty if there is none."""
    lines = Path(path).read_text().splitlines() if Path(path).exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.split(":")[0].strip() == name), "")


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
